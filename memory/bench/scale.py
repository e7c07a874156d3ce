"""The index and the store at growing sizes, up to a million: time, memory, disk, recall.

`index`: an index of its own for each of three sizes (a twentieth, a tenth and all of the records)
of real text vectors: building beside reading and writing, saving, opening, searching, updating,
deleting, and its ten nearest against the exact ones. `store`: one SQLite store that is filled to a
hundredth, a tenth and all of the records, where whole calls are timed. One thread builds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time, sleep, thread_time
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.machine import cpu_name, is_linux
from ryzanstein.memory.bench.texts import embedded, passages
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore
from ryzanstein.memory.vectors.index import VectorIndex
from ryzanstein.memory.vectors.index_file import IndexFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder

__all__ = ["measure_index", "run"]

_K = 10
_POLL_SECONDS = 0.05
_SAMPLED = 20
_BATCH = 2_000
_ROWS_OF_OTHERS = 1 << 24  # far from those that the index is filled with


def run(
    data: Path,
    *,
    records: int | None = None,
    queries: int = 200,
    embedding: str | None = None,
    parts: tuple[str, ...] = ("index", "store"),
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures an index and a store at three sizes each.

    Args:
        data: A text file that passages are cut from.
        records: The largest size; None means a million.
        queries: Passages that are searched for, and records that are written, changed, deleted.
        embedding: Name of the embedding model; None means the default one.
        parts: What to measure: index, store.
        progress: Is told what was measured, a size at a time.

    Returns:
        `index` and `store`, a dictionary a size, milliseconds as median, 99th percentile and most;
        and `search_ratio`, what 20 times the data cost a query.
    """
    records = records or 1_000_000
    embedder = get_embedder(embedding)
    result: dict[str, Any] = {
        "suite": "scale",
        "machine": cpu_name(),
        "embedding": embedder.model_id,
        "dimension": embedder.dimension,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "index" in parts:
            vectors = _vectors_on_disk(folder / "vectors.npy", embedder, data, records + queries)
            result["index"] = []
            for size in (records // 20, records // 10, records):
                measured = measure_index(vectors[:size], vectors[records:], folder / str(size))
                result["index"].append(measured)
                progress(str(measured))
            first, last = (result["index"][at]["search_ms"][0] for at in (0, -1))
            result["search_ratio"] = round(last / first, 2)
        if "store" in parts:
            sizes = (records // 100, records // 10, records)
            result["store"] = []
            for measured in _measure_store(folder, embedder, data, sizes, queries):
                result["store"].append(measured)
                progress(str(measured))
    return result


def measure_index(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], folder: Path
) -> dict[str, Any]:
    """Measures an index of vectors [n, dimension] that keeps its files in a folder."""
    size, dimension = vectors.shape
    before = _memory()
    file = IndexFile(folder, "memory", "bench", dimension)
    index = VectorIndex(dimension, file=file)
    began = perf_counter()
    for start in range(0, size, _BATCH):
        stop = min(start + _BATCH, size)
        index.add(np.arange(start, stop), vectors[start:stop])
    added = perf_counter() - began
    building = _watch(index, queries)
    used = _memory()
    exact = _exact(vectors, queries)
    cpu = process_time()
    search = [_timed(index.search, query, _K) for query in queries]
    cpu = (process_time() - cpu) / len(queries)
    others = _ROWS_OF_OTHERS + np.arange(len(queries))
    opposite = zip(others[:, None], -queries[:, None], strict=True)
    result = {
        "records": size,
        "add_seconds": round(added, 2),
        **building,
        "memory_mib": used - before,
        "disk_mib": file.size >> 20,
        "search_ms": _figures([seconds for seconds, _ in search]),
        "search_cpu_ms": round(1e3 * cpu, 3),
        "recall_at_10": _recall(exact, [found[0] for _, found in search]),
        "search_width": index.stats()["width"],
        "search_50_ms": _each(index.search, ((query, 50) for query in queries)),
        "filtered_ms": _filtered(index, queries[:50], size),
        "update_ms": _each(index.add, opposite),
        "delete_ms": _each(index.remove, zip(others[:, None])),
    }
    began = perf_counter()
    index.wait()
    result["wiped_from_graph_seconds"] = round(perf_counter() - began, 2)
    result["wiped_from_files_ms"] = round(1e3 * _timed(file.wipe, np.array([1]))[0], 2)
    index.close()
    return {**result, **_reopened(folder, queries)}


def _watch(index: VectorIndex, queries: NDArray[np.float32]) -> dict[str, Any]:
    """Searches and writes beside the background work until it is done; seconds by kind of work.

    What is written is far from every query.
    """
    seconds: dict[str, float] = {}
    reading: list[float] = []
    writing: list[float] = []
    cpu, own = process_time(), 0.0
    clock = perf_counter()
    while doing := index.stats()["doing"]:
        began = thread_time()
        for at in range(len(reading), len(reading) + _SAMPLED):
            query = queries[at % len(queries)]
            reading.append(_timed(index.search, query, _K)[0])
            row = np.array([_ROWS_OF_OTHERS + at % len(queries)])
            writing.append(_timed(index.add, row, -query[None])[0])
        own += thread_time() - began
        sleep(_POLL_SECONDS * max(1, min(40, len(reading) // 1_000)))
        seconds[doing] = seconds.get(doing, 0.0) + perf_counter() - clock
        clock = perf_counter()
    return {
        "background_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "background_cpu_seconds": round(process_time() - cpu - own, 1),
        "search_while_building_ms": _figures(reading),
        "add_while_building_ms": _figures(writing),
    }


def _filtered(
    index: VectorIndex, queries: NDArray[np.float32], size: int
) -> dict[str, list[float]]:
    """Searches where a filter leaves a share of the rows."""
    found = {}
    for percent in (1, 10, 50):
        allowed = np.arange(0, size, 100 // percent)
        found[f"{percent}%"] = _each(index.search, ((query, _K, allowed) for query in queries))
    return found


def _reopened(folder: Path, queries: NDArray[np.float32]) -> dict[str, Any]:
    file = IndexFile(folder, "memory", "bench", queries.shape[1])
    index = VectorIndex(queries.shape[1], file=file)
    opened = _timed(index.open)[0]
    first = _timed(index.search, queries[0], _K)[0]
    loaded = _timed(index.wait)[0]
    index.close()
    file.discard()
    return {
        "open_seconds": round(opened, 3),
        "first_search_ms": round(1e3 * first, 1),
        "load_seconds": round(opened + first + loaded, 2),
    }


def _measure_store(
    folder: Path, embedder: Embedder, data: Path, sizes: tuple[int, ...], queries: int
) -> Iterator[dict[str, Any]]:
    url = f"sqlite:///{folder / 'bench.db'}"
    texts = passages(data, seed=2)
    filled = 0
    for size in sizes:
        with MemoryStore(url, embedder=embedder) as store:
            began = perf_counter()
            while filled < size:
                batch = list(islice(texts, min(_BATCH, size - filled)))
                store.remember_many([Draft(text, tier="semantic") for text in batch])
                filled += len(batch)
            seconds = perf_counter() - began
        with MemoryStore(url, embedder=embedder) as store:
            measured = _calls(store, texts, queries)
        yield {"records": size, "fill_seconds": round(seconds, 1), **measured}


def _calls(store: MemoryStore, texts: Iterator[str], queries: int) -> dict[str, Any]:
    fresh = list(islice(texts, 3 * queries))
    asked, stored, known = fresh[:queries], fresh[queries : 2 * queries], fresh[2 * queries :]
    first = _timed(store.recall, asked[0])[0]
    building = _each(store.recall, zip(asked[:50]))
    synced = store._facts.searcher.synced
    waited = _timed(synced.wait)[0]
    recall = _each(store.recall, zip(asked))
    agent = _each(partial(store.recall, agent="a"), zip(asked[:50]))
    remember = [_timed(partial(store.remember, tier="semantic"), text) for text in stored]
    itself = [store.recall(text)[0].memory.text == text for text in stored]
    ids = [memory.id for _, memory in remember[:50]]
    corrected = [_timed(store.correct, *pair) for pair in zip(ids, known, strict=False)]
    forget = _each(store.forget, ((memory.id,) for _, memory in corrected[:10]))
    return {
        "first_recall_ms": round(1e3 * first, 1),
        "recall_while_building_ms": building,
        "background_seconds": round(waited, 1),
        "recall_ms": recall,
        "recall_of_an_agent_ms": agent,
        "remember_ms": _figures([seconds for seconds, _ in remember]),
        "correct_ms": _figures([seconds for seconds, _ in corrected]),
        "forget_ms": forget,
        "found_itself": round(sum(itself) / len(itself), 3),
        "database_mib": (store.stats().bytes or 0) >> 20,
        "index_mib": synced.stats()["file_bytes"] >> 20,
        "memory_mib": _memory(),
    }


def _vectors_on_disk(path: Path, embedder: Embedder, data: Path, count: int) -> NDArray[np.float32]:
    """Embeds passages into a mapped file, so that they do not count as the index's memory."""
    shape = (count, embedder.dimension)
    vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    texts = passages(data)
    for start in range(0, count, _BATCH):
        part = embedded(embedder, texts, min(_BATCH, count - start))
        vectors[start : start + len(part)] = part
    return vectors


def _exact(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> list[set[int]]:
    """Returns the true ten nearest of each query."""
    rows = np.zeros((len(queries), 0), dtype=np.int64)
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(vectors), 20 * _BATCH):
        found = queries @ vectors[start : start + 20 * _BATCH].T
        best = np.argsort(-found, axis=1)[:, :_K]
        rows = np.concatenate([rows, best + start], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(found, best, 1)], axis=1)
        best = np.argsort(-scores, axis=1)[:, :_K]
        rows = np.take_along_axis(rows, best, 1)
        scores = np.take_along_axis(scores, best, 1)
    return [set(one.tolist()) for one in rows]


def _recall(exact: list[set[int]], found: list[NDArray[np.int64]]) -> float:
    """Returns the share of the exact nearest that was found."""
    hits = sum(len(true & set(near.tolist())) for true, near in zip(exact, found, strict=True))
    return round(hits / sum(len(true) for true in exact), 4)


def _timed(action: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    began = perf_counter()
    value = action(*arguments)
    return perf_counter() - began, value


def _each(action: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> list[float]:
    return _figures([_timed(action, *arguments)[0] for arguments in calls])


def _figures(seconds: list[float]) -> list[float]:
    """Returns milliseconds: median, 99th percentile and most."""
    if not seconds:
        return []
    return [round(float(one), 3) for one in 1e3 * np.percentile(seconds, (50, 99, 100))]


def _memory() -> int:
    """Returns the MiB of memory that only this process has; mapped files do not count."""
    if not is_linux():
        import psutil

        used: int = psutil.Process().memory_info().rss
        return used >> 20
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) >> 10
