"""Memory and time a token over the length of what was read before.

    python scripts/bench_context.py mamba-130m-q8_0.gguf rwkv7-0.19b-q8_0.gguf --plot context.svg
    python scripts/bench_context.py mamba-130m-q8_0.gguf --beside SmolLM2-135M-Q4_1.gguf

Each model reads one long text in a process of its own. At every mark the peak of its memory since
it was loaded is noted, and its state is saved. Then the states are loaded in turns and continued by
a few tokens, round after round, so that a change of the machine's speed falls on all lengths alike;
times are medians. Models named with --beside, which are to be transformers, stop at the mark that
they can hold, or at --beside-tokens: their prefill grows with the square. The last line on stdout
is JSON.

    tokens              read before
    peak_rss_mb         highest resident memory between loading the model and the end of reading
    state_mb            of the sequence
    ms_per_token        of what is written then, greedily
    read_tok_s          of the text between the last mark and this one
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ryzanstein.errors import RyzansteinError
from ryzanstein.inference import Model, load_model
from ryzanstein.inference.bench.plot import Line, Panel, draw
from ryzanstein.inference.bench.table import Table, numbers
from ryzanstein.machine import cpu_name, peak_memory

MARKS = [100, 1000, 10_000, 100_000]
AT_ONCE = 512  # tokens; every length is read in such pieces, or smaller ones
COLUMNS = {
    "model": 30,
    "tokens": 8,
    "peak_rss_mb": 9,
    "state_mb": 9,
    "ms_per_token": 8,
    "read_tok_s": 8,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, draws and prints; returns the exit status."""
    options = parser().parse_args(arguments)
    limits = dict.fromkeys(options.models)
    limits |= dict.fromkeys(options.beside, options.beside_tokens)
    table, rows = Table(COLUMNS), []
    try:
        for model, limit in limits.items():
            marks = [mark for mark in sorted(options.tokens) if limit is None or mark <= limit]
            if limit is not None and limit not in marks:
                marks.append(limit)
            for row in apart(model, marks, options):
                rows.append(row)
                table.show(row)
    except RyzansteinError as error:
        print(json.dumps({"error": error.to_wire()}))
        return 1
    if options.plot:
        options.plot.write_text(plotted(rows), encoding="utf-8")
    print(json.dumps({"machine": cpu_name(), "threads": options.threads, "results": rows}))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("models", nargs="*", type=Path, help="recurrent models")
    made.add_argument("--beside", nargs="*", type=Path, default=[], help="transformers")
    made.add_argument("--beside-tokens", type=int, default=8000)
    made.add_argument("--tokens", type=numbers, default=MARKS)
    made.add_argument("--new-tokens", type=int, default=32)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw an SVG")
    return made


def apart(model: Path, marks: list[int], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures a model in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        work = (model, marks, options.threads, options.new_tokens, options.rounds)
        return pool.submit(measure, *work).result()


def measure(
    path: Path, marks: Sequence[int], threads: int, new_tokens: int, rounds: int
) -> list[dict[str, Any]]:
    """One row for each mark."""
    context = marks[-1] + new_tokens + 1
    with (
        load_model(path, threads, context_tokens=context) as model,
        TemporaryDirectory() as folder,
    ):
        rows = read(model, marks, Path(folder))
        times: dict[int, list[float]] = {mark: [] for mark in marks}
        for _ in range(rounds):
            for mark in marks:
                times[mark].append(written(model, Path(folder) / str(mark), new_tokens))
    return [
        {"model": path.stem, **row, "ms_per_token": round(1000 * median(times[row["tokens"]]), 3)}
        for row in rows
    ]


def read(model: Model, marks: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Reads a text up to each mark; leaves the states in the folder."""
    ids = np.random.default_rng(0).integers(0, model.vocabulary, marks[-1], np.int32)
    model.feed(ids[:AT_ONCE], model.new_state())  # touches all of the work space
    forget_peak()
    state, rows = model.new_state(), []
    for mark in marks:
        started, before = time.perf_counter(), state.length
        # At least two: from the second on, a copy of a recurrent state guards it.
        size = min(AT_ONCE, (mark - before + 1) // 2)
        for at in range(before, mark, size):
            model.feed(ids[at : min(at + size, mark)], state)
        seconds = time.perf_counter() - started
        rows.append(
            {
                "tokens": mark,
                "peak_rss_mb": round(peak_memory() / 1e6, 1),
                "state_mb": round(state.nbytes / 1e6, 2),
                "read_tok_s": round((mark - before) / seconds, 1),
            }
        )
        state.save(folder / str(mark))
    return rows


def written(model: Model, path: Path, new_tokens: int) -> float:
    """Seconds a token of what follows a saved state."""
    state = model.load_state(path)
    token = model.next_token([0], state).token
    started = time.perf_counter()
    for _ in range(new_tokens):
        token = model.next_token([token], state).token
    return (time.perf_counter() - started) / new_tokens


def forget_peak() -> None:
    """Begins the process's peak of resident memory anew, where Linux allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def plotted(rows: Sequence[dict[str, Any]]) -> str:
    """Memory and time of every model."""

    def panel(title: str, column: str) -> Panel:
        found: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            found.setdefault(row["model"], []).append((row["tokens"], row[column]))
        return Panel(title, [Line(name, points) for name, points in found.items()])

    memory, speed = panel("Peak memory, MB", "peak_rss_mb"), panel("ms a token", "ms_per_token")
    return draw([memory, speed], "tokens read before")


if __name__ == "__main__":
    sys.exit(main())
