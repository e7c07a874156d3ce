"""Vectors of one space by row number: an exact scan, and above a threshold an HNSW graph.

A cache of the embeddings table and nothing more: it can be thrown away and filled again at any
time. Below the threshold a search compares the query with every vector. Above, a worker thread
builds a graph, slice by slice, while searches go on by scan, and then

    answer = exact cosines of (nearest of the graph ∪ slots the graph has not caught up with)

so adding never waits for the graph and nothing is missed meanwhile. The worker folds those slots
in when there are many, overwrites what was removed at once, builds anew when a quarter of the
graph is tombstones, and keeps the index file up to date. A narrow filter is a scan of the rows it
leaves. Readers share one lock; writers and the worker hold it for a slice of a few milliseconds.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.memory.vectors.graph import Graph
from ryzanstein.memory.vectors.locks import ReadWriteLock
from ryzanstein.memory.vectors.slots import SlotSet
from ryzanstein.memory.vectors.table import BLOCK, VectorTable, best, checked_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRAPH_FROM", "VectorIndex"]

# Measured: an exact scan is as quick as the graph up to about here.
GRAPH_FROM = 20_000
_PENDING = 1_024
# The longest that anybody waits for the lock: 1,024 vectors are copied in half a millisecond, and
# 8 are added to a graph of a million in 6.
_SLICE = 1_024
_FOLD_SLICE = 8
# Asked for beyond k: some neighbours in the graph may be gone.
_SPARE = 16
# A filter that leaves at least this share is searched in the graph, asking for more.
_WIDE = 0.2


class VectorIndex:
    """Nearest rows by cosine among unit vectors.

    Args:
        dimension: Length of a vector.
        graph_from: Rows from which a graph is built.
        pending: Rows outside the graph from which the worker folds them in.
        threads: Threads that build; 0 means all CPUs.
    """

    def __init__(
        self,
        dimension: int,
        *,
        graph_from: int = GRAPH_FROM,
        pending: int = _PENDING,
        threads: int = 1,
    ) -> None:
        self.dimension = dimension
        self._graph_from = graph_from
        self._pending_limit = pending
        self._threads = threads
        self._lock = ReadWriteLock()
        self._table = VectorTable(dimension)
        self._graph: Graph | None = None
        self._stale = SlotSet()  # the graph has not caught up with them
        self._folding = np.zeros(0, dtype=np.int64)  # on their way into the graph
        self._removed = False  # the graph still holds a vector that was removed
        self._built = 0  # slots below this one are in the graph that is being built
        self._changed: SlotSet | None = None  # and of those, the ones touched since
        self._worker: threading.Thread | None = None
        self._stopping = threading.Event()

    def __len__(self) -> int:
        return len(self._table)

    @property
    def form(self) -> str:
        """How a search goes now: exact, or hnsw with the number of rows still outside."""
        with self._lock.read():
            if self._graph is None:
                return "exact"
            waiting = len(self._stale) + len(self._folding)
            return f"hnsw ({waiting} pending)" if waiting else "hnsw"

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds or replaces vectors [n, dimension]; a row given twice keeps its last vector.

        Raises:
            InvalidRequest: The vectors have another shape, or hold NaN or infinity.
        """
        vectors = checked_vectors(vectors, len(rows), self.dimension)
        for start in range(0, len(rows), _SLICE):
            part = slice(start, start + _SLICE)
            with self._lock.write():
                self._touch(self._table.put(rows[part], vectors[part]))
                self._start_worker()

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Removes rows; unknown ones are ignored. Their vectors are overwritten."""
        for start in range(0, len(rows), _SLICE):
            with self._lock.write():
                slots = self._table.drop(rows[start : start + _SLICE])
                self._touch(slots)
                self._removed |= bool(len(slots)) and self._graph is not None
                if self._graph is not None and len(self) < self._graph_from // 2:
                    self._graph = None
                    self._stale = SlotSet()
                self._start_worker()

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns at most k rows and their cosines, best first, ties by row.

        Args:
            query: float32 [dimension], unit length.
            k: How many.
            allowed: Only these rows, where given.

        Raises:
            InvalidRequest: The query has another shape, or holds NaN or infinity.
        """
        query = checked_vectors(query[None, :], 1, self.dimension)[0]
        with self._lock.read():
            if allowed is None:
                slots, scores = self._search(query, k)
            else:
                slots, scores = self._search_among(query, k, self._table.slots(allowed))
            rows = self._table.rows(slots)
        kept = best(scores, k)
        rows, scores = rows[kept], scores[kept]
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order]

    def cosines(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the cosine of each row, 0 for rows that have no vector here."""
        result = np.zeros(len(rows), dtype=np.float32)
        with self._lock.read():
            slots = self._table.slots(rows)
            known = slots >= 0
            result[known] = self._table.cosines(query, slots[known])
        return result

    def snapshot(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns copies of all rows and their vectors, in row order, copied in slices."""
        parts = []
        start = 0
        while True:
            with self._lock.read():
                if start >= self._table.size:
                    break
                slots = self._table.alive(start, start + _SLICE)
                parts.append((self._table.rows(slots), self._table.vectors(slots)))
            start += _SLICE
        rows = np.concatenate([part[0] for part in parts] or [np.zeros(0, dtype=np.int64)])
        empty = np.zeros((0, self.dimension), dtype=np.float32)
        vectors = np.concatenate([part[1] for part in parts] or [empty])
        order = np.argsort(rows)
        return rows[order], vectors[order]

    def wait(self) -> None:
        """Waits until no graph is being built or extended."""
        while (worker := self._worker) is not None and worker.is_alive():
            worker.join()

    def close(self) -> None:
        """Stops the worker after the slice it is at."""
        self._stopping.set()
        self.wait()

    def stats(self) -> dict[str, Any]:
        """Says how many rows there are, how they are searched and what is still to do."""
        with self._lock.read():
            graph = self._graph
            return {
                "rows": len(self._table),
                "graph": 0 if graph is None else len(graph),
                "tombstones": 0 if graph is None else graph.tombstones,
                "pending": len(self._stale) + len(self._folding),
                "building": self._built if self._changed is not None else None,
            }

    def _search(
        self, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        near = None if self._graph is None else self._graph.search(query, k + _SPARE)
        if near is None:
            return self._table.nearest(query, k)
        slots = self._with_waiting(near)
        slots = slots[self._table.rows(slots) >= 0]
        if len(slots) < min(k, len(self._table)):
            return self._table.nearest(query, k)
        return slots, self._table.cosines(query, slots)

    def _search_among(
        self, query: NDArray[np.float32], k: int, slots: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        slots = np.unique(slots[slots >= 0])
        if self._graph is not None and len(slots) >= _WIDE * len(self._table):
            wanted = int(1.5 * k * len(self._table) / len(slots)) + _SPARE
            near = self._graph.search(query, wanted)
            if near is not None:
                inside = np.zeros(self._table.size, dtype=np.bool_)
                inside[slots] = True
                found = self._with_waiting(near)
                found = found[inside[found]]
                if len(found) >= min(k, len(slots)):
                    return found, self._table.cosines(query, found)
        return slots, self._table.cosines(query, slots)

    def _with_waiting(self, near: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self._stale) and not len(self._folding):
            return near
        return np.unique(np.concatenate([near, self._folding, self._stale.array()]))

    def _touch(self, slots: NDArray[np.int64]) -> None:
        """Notes that the graph, or the one being built, knows old vectors of these slots."""
        if self._graph is not None:
            self._stale.add(slots)
        if self._changed is not None:
            self._changed.add(slots[slots < self._built])

    def _start_worker(self) -> None:
        busy = self._worker is not None and self._worker.is_alive()
        if not busy and not self._stopping.is_set() and self._has_work():
            self._worker = threading.Thread(target=self._work, name="memory-index", daemon=True)
            self._worker.start()

    def _has_work(self) -> bool:
        return self._wants_build() or self._wants_fold()

    def _wants_build(self) -> bool:
        if self._graph is None:
            return len(self) >= self._graph_from
        return self._graph.tombstones > max(len(self._graph), self._pending_limit) // 4

    def _wants_fold(self) -> bool:
        if self._graph is None:
            return False
        return self._removed or len(self._stale) > self._pending_limit

    def _work(self) -> None:
        while True:
            with self._lock.write():
                if self._stopping.is_set() or not self._has_work():
                    self._worker = None
                    return
                building = self._wants_build()
            if building:
                self._build()
            else:
                self._fold()

    def _build(self) -> None:
        with self._lock.write():
            self._built, self._changed = 0, SlotSet()
            graph = Graph(self.dimension, self._table.size + BLOCK, self._threads)
        while not self._stopping.is_set():
            with self._lock.write():
                start, end = self._built, min(self._built + _SLICE, self._table.size)
                if start == end:
                    self._graph, self._stale, self._changed = graph, self._changed, None
                    self._removed = len(self._stale) > 0
                    return
                slots = self._table.alive(start, end)
                vectors = self._table.vectors(slots)
                self._built = end
            graph.add(slots, vectors)
        self._changed = None

    def _fold(self) -> None:
        while not self._stopping.is_set():
            with self._lock.write():
                graph, slots = self._graph, self._stale.array()[:_FOLD_SLICE]
                if graph is None or not len(slots):
                    self._removed = False
                    return
                self._stale.discard(slots)
                self._folding = slots
                used = self._table.rows(slots) >= 0
                vectors = self._table.vectors(slots[used])
            started = time.perf_counter()
            graph.remove(slots[~used])
            graph.add(slots[used], vectors)
            with self._lock.write():
                self._folding = np.zeros(0, dtype=np.int64)
            # As long as it has held the graph: a search that waited comes first.
            self._stopping.wait(time.perf_counter() - started)
