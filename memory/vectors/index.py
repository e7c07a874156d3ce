"""Vectors of one space by row number: an exact scan, and above a threshold an HNSW graph.

A cache of the embeddings table and nothing more: it can be thrown away and filled again at any
time. All vectors are in one matrix; below the threshold a search multiplies it with the query.
Above, a worker thread builds a graph of a snapshot while searches go on by scan, and then

    answer = nearest of the graph  ∪  exact scan of the pending rows (not in the graph yet)

so adding never waits for the graph and nothing is missed meanwhile. The worker folds pending
rows in when there are many, and builds anew when a quarter of the graph is tombstones. A filter
is always a scan of the rows it leaves. One reader-writer lock guards everything.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.memory.vectors.graph import Graph
from ryzanstein.memory.vectors.locks import ReadWriteLock

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRAPH_FROM", "VectorIndex"]

# Measured: an exact scan is as quick as the graph up to about here.
GRAPH_FROM = 20_000
_PENDING = 2_048
_BUILD_SLICE = 1_024
# Folding holds the writer's side of the lock: about 25 ms a slice.
_FOLD_SLICE = 64


class VectorIndex:
    """Nearest rows by cosine among unit vectors.

    Args:
        dimension: Length of a vector.
        graph_from: Rows from which a graph is built.
        pending: Rows outside the graph from which the worker folds them in.
    """

    def __init__(
        self, dimension: int, *, graph_from: int = GRAPH_FROM, pending: int = _PENDING
    ) -> None:
        self.dimension = dimension
        self._graph_from = graph_from
        self._pending_limit = pending
        self._lock = ReadWriteLock()
        self._vectors = np.zeros((0, dimension), dtype=np.float32)
        self._rows = np.zeros(0, dtype=np.int64)
        self._positions: dict[int, int] = {}
        self._graph: Graph | None = None
        self._pending: set[int] = set()
        self._changed: set[int] | None = None  # rows touched while a graph is being built
        self._worker: threading.Thread | None = None
        self._stopping = threading.Event()

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def form(self) -> str:
        """How a search goes now: exact, or hnsw with the number of rows still outside."""
        with self._lock.read():
            if self._graph is None:
                return "exact"
            return f"hnsw ({len(self._pending)} pending)" if self._pending else "hnsw"

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds or replaces vectors [n, dimension]; a row given twice keeps its last vector."""
        if vectors.shape != (len(rows), self.dimension):
            raise ValueError(f"vectors are {vectors.shape}, not {(len(rows), self.dimension)}")
        with self._lock.write():
            self._reserve(len(self._positions) + len(rows))
            for row, vector in zip(rows.tolist(), vectors, strict=True):
                position = self._positions.setdefault(row, len(self._positions))
                self._rows[position] = row
                self._vectors[position] = vector
                self._touch(row)
            self._start_worker()

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Removes rows; unknown ones are ignored. The vectors are overwritten."""
        with self._lock.write():
            for row in rows.tolist():
                position = self._positions.pop(row, None)
                if position is None:
                    continue
                last = len(self._positions)
                if position != last:
                    moved = int(self._rows[last])
                    self._rows[position] = moved
                    self._vectors[position] = self._vectors[last]
                    self._positions[moved] = position
                self._vectors[last] = 0
                self._touch(row)
            if self._graph is not None and len(self._positions) < self._graph_from // 2:
                self._graph = None
                self._pending.clear()
            self._start_worker()

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns at most k rows and their cosines, best first, ties by row.

        Args:
            query: float32 [dimension], unit length.
            k: How many.
            allowed: Only these rows, where given.
        """
        with self._lock.read():
            if allowed is not None:
                inside = np.isin(self._rows[: len(self._positions)], allowed)
                return self._scan(query, k, np.flatnonzero(inside))
            if self._graph is not None:
                found = self._graph.search(query, k)
                if found is not None:
                    waiting = [self._positions[row] for row in self._pending]
                    rest = self._scan(query, k, np.array(waiting, dtype=np.int64))
                    return _best(
                        np.concatenate([found[0], rest[0]]),
                        np.concatenate([found[1], rest[1]]),
                        k,
                    )
            return self._scan(query, k, None)

    def cosines(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the cosine of each row, 0 for rows that have no vector here."""
        result = np.zeros(len(rows), dtype=np.float32)
        with self._lock.read():
            known = [
                (at, self._positions[row])
                for at, row in enumerate(rows.tolist())
                if row in self._positions
            ]
            if known:
                places, positions = np.array(known, dtype=np.int64).T
                result[places] = self._vectors[positions] @ query
        return result

    def snapshot(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns copies of all rows and their vectors, in row order."""
        with self._lock.read():
            size = len(self._positions)
            order = np.argsort(self._rows[:size])
            return self._rows[:size][order], self._vectors[:size][order]

    def wait(self) -> None:
        """Waits until no graph is being built or extended."""
        worker = self._worker
        if worker is not None:
            worker.join()

    def close(self) -> None:
        """Stops the worker after the slice it is at."""
        self._stopping.set()
        self.wait()

    def _scan(
        self, query: NDArray[np.float32], k: int, positions: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        size = len(self._positions)
        if positions is None:
            return _best(self._rows[:size], self._vectors[:size] @ query, k)
        return _best(self._rows[positions], self._vectors[positions] @ query, k)

    def _reserve(self, need: int) -> None:
        if need <= len(self._rows):
            return
        capacity = max(need, 2 * len(self._rows), 64)
        vectors = np.zeros((capacity, self.dimension), dtype=np.float32)
        rows = np.zeros(capacity, dtype=np.int64)
        size = len(self._positions)
        vectors[:size], rows[:size] = self._vectors[:size], self._rows[:size]
        self._vectors, self._rows = vectors, rows

    def _touch(self, row: int) -> None:
        """Takes a changed row out of the graph and, if it still exists, into the pending ones."""
        if self._changed is not None:
            self._changed.add(row)
        if self._graph is None:
            return
        self._graph.remove(row)
        if row in self._positions:
            self._pending.add(row)
        else:
            self._pending.discard(row)

    def _start_worker(self) -> None:
        busy = self._worker is not None and self._worker.is_alive()
        if busy or self._stopping.is_set() or not (self._wants_build() or self._wants_fold()):
            return
        self._worker = threading.Thread(target=self._work, name="memory-index", daemon=True)
        self._worker.start()

    def _wants_build(self) -> bool:
        if self._graph is None:
            return len(self._positions) >= self._graph_from
        return self._graph.tombstones > max(len(self._graph), self._pending_limit) // 4

    def _wants_fold(self) -> bool:
        return self._graph is not None and len(self._pending) > self._pending_limit

    def _work(self) -> None:
        while not self._stopping.is_set():
            with self._lock.write():
                building, folding = self._wants_build(), self._wants_fold()
                if building:
                    self._changed = set()
                    size = len(self._positions)
                    rows, vectors = self._rows[:size].copy(), self._vectors[:size].copy()
                elif not folding:
                    self._worker = None
                    return
            if building:
                self._build(rows, vectors)
            else:
                self._fold()

    def _build(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        graph = Graph(self.dimension, len(rows) + len(rows) // 4)
        for start in range(0, len(rows), _BUILD_SLICE):
            if self._stopping.is_set():
                return
            end = start + _BUILD_SLICE
            graph.add(rows[start:end], vectors[start:end])
        with self._lock.write():
            changed = self._changed or set()
            self._changed = None
            for row in changed:
                graph.remove(row)
            self._graph = graph
            self._pending = {row for row in changed if row in self._positions}

    def _fold(self) -> None:
        while not self._stopping.is_set():
            with self._lock.write():
                if self._graph is None or not self._pending:
                    return
                rows = np.array(sorted(self._pending)[:_FOLD_SLICE], dtype=np.int64)
                positions = [self._positions[row] for row in rows.tolist()]
                self._graph.add(rows, self._vectors[positions])
                self._pending.difference_update(rows.tolist())


def _best(
    rows: NDArray[np.int64], scores: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if k < len(rows):
        kept = np.argpartition(-scores, k)[:k] if k else np.empty(0, dtype=np.int64)
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((rows, -scores))
    return rows[order], scores[order]
