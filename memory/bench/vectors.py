"""Forms of vectors side by side: bytes a vector, recall@10 and time, at several sizes.

Vectors are embeddings of passages cut from a text; queries are other passages of it. Recall is the
share of the exact ten nearest among the answers, without rescoring and with the best 100 and 400
candidates rescored. A query is timed alone, its result being ten positions with exact cosines:
median CPU time of the threads it uses, and by the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels._linear import chosen_isa
from ryzanstein.machine import cpu_name
from ryzanstein.memory.bench.texts import embedded, passages
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.vectors.choice import SAMPLE, choose, recalls
from ryzanstein.memory.vectors.forms import FORMS, fit_form, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.vectors.form import Form

__all__ = ["SIZES", "run", "table"]

SIZES = (10_000, 100_000, 1_000_000)
RESCORED = (0, 100, 400)
_K = 10
_MOST_TIMED = 50


def run(
    data: Path,
    *,
    sizes: Sequence[int] | None = None,
    queries: int = 200,
    embedding: str | None = None,
    forms: Sequence[str] = tuple(FORMS),
    threads: int = 1,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures every form at every size.

    Args:
        data: A text file that passages are cut from.
        sizes: Vectors that are searched; None means 10,000, 100,000 and 1,000,000.
        queries: Passages that are searched for; the first 50 are timed.
        embedding: Name of the embedding model; None means the default one.
        forms: Names of forms.
        threads: Of a scan.
        progress: Is told each line of the table as it is measured.

    Returns:
        What goes to JSON: `sizes`, a list of `rows`, `forms` and `choice`, and the machine.

    Raises:
        InvalidRequest: The file, a size, a number or a name does not fit.
    """
    sizes = SIZES if sizes is None else sizes
    if not sizes or min(sizes) < 1_000 or queries < 1 or threads < 1:
        raise InvalidRequest(
            "sizes are at least 1,000, queries and threads at least 1",
            hint="Take --sizes 10000,100000 for instance.",
        )
    embedder = get_embedder(embedding)
    vectors = embedded(embedder, passages(data), max(sizes) + queries)
    asked = vectors[-queries:].copy()
    measured = [_measure_size(vectors[:rows], asked, forms, threads, progress) for rows in sizes]
    return {
        "suite": "vectors",
        "machine": cpu_name(),
        "isa": chosen_isa(),
        "threads": threads,
        "embedding": embedder.model_id,
        "dimension": embedder.dimension,
        "k": _K,
        "queries": queries,
        "sizes": measured,
    }


def table(result: dict[str, Any]) -> str:
    """Returns the measurements as a Markdown table, a line a form and size."""
    lines = [_HEAD, "|---" * (_HEAD.count("|") - 1) + "|"]
    for size in result["sizes"]:
        lines += [_line(size["rows"], form) for form in size["forms"]]
    chosen = [f"{size['rows']:,}: {size['choice']['why']}" for size in result["sizes"]]
    return "\n".join([*lines, "", *chosen])


_HEAD = (
    "| vectors | form | bytes | recall@10: 0 / 100 / 400 rescored | ms (cpu) | GB/s | encode s |"
)


def _line(rows: int, form: dict[str, Any]) -> str:
    recall = " / ".join(f"{value:.3f}" for value in form["recall_at_10"].values())
    times = " / ".join(f"{value:.2f}" for value in form["cpu_ms"].values())
    return (
        f"| {rows:,} | {form['form']} | {form['bytes_per_vector']} | {recall} | {times} "
        f"| {form['gb_per_s']} | {form['encode_s']} |"
    )


def _measure_size(
    vectors: NDArray[np.float32],
    asked: NDArray[np.float32],
    names: Sequence[str],
    threads: int,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    truth, _ = fit_form("float32", vectors[:1]).scan(vectors, asked, _K, threads=threads)
    found = []
    for name in names:
        start = perf_counter()
        form = fit_form(name, vectors[:SAMPLE])
        fitted = perf_counter() - start
        found.append(_measure_form(form, vectors, asked, truth, threads))
        found[-1]["fit_s"] = round(fitted, 2)
        progress(_line(len(vectors), found[-1]))
    chosen = choose(vectors, k=_K, names=names)
    choice = {
        "form": chosen.form.name,
        "bytes_per_vector": chosen.form.bytes_per_vector,
        "candidates": chosen.form.candidates(_K),
        "recall_on_sample": round(chosen.recall, 4),
        "why": chosen.why,
    }
    codes = chosen.form.encode(vectors)
    answers = [nearest(chosen.form, codes, vectors, query, _K)[0] for query in asked]
    choice["recall_at_10"] = round(recalls(truth, np.stack(answers), [_K])[_K], 4)
    return {"rows": len(vectors), "forms": found, "choice": choice}


def _measure_form(
    form: Form,
    vectors: NDArray[np.float32],
    asked: NDArray[np.float32],
    truth: NDArray[np.int64],
    threads: int,
) -> dict[str, Any]:
    start = perf_counter()
    codes = form.encode(vectors)
    encoded = perf_counter() - start
    best, _ = form.scan(codes, asked, RESCORED[-1], threads=threads)
    counts = [max(count, _K) for count in RESCORED]
    recall = recalls(truth, best, counts)
    cpu, wall = {}, {}
    for count in RESCORED:
        taken = [_timed(form, codes, vectors, one, count, threads) for one in asked[:_MOST_TIMED]]
        cpu[str(count)] = round(1e3 * median(one[0] for one in taken), 3)
        wall[str(count)] = round(1e3 * median(one[1] for one in taken), 3)
    return {
        "form": form.name,
        "bytes_per_vector": form.bytes_per_vector,
        "recall_at_10": {
            str(count): round(recall[least], 4)
            for count, least in zip(RESCORED, counts, strict=True)
        },
        "cpu_ms": cpu,
        "wall_ms": wall,
        "gb_per_s": round(codes.nbytes / wall["0"] / 1e6, 1),
        "encode_s": round(encoded, 2),
    }


def _timed(
    form: Form,
    codes: NDArray[Any],
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    count: int,
    threads: int,
) -> tuple[float, float]:
    """CPU and clock seconds of one query with so many candidates rescored."""
    cpu, wall = process_time(), perf_counter()
    if count:
        nearest(form, codes, vectors, query, _K, candidates=count, threads=threads)
    else:
        form.scan(codes, query, _K, threads=threads)
    return process_time() - cpu, perf_counter() - wall
