"""An HNSW graph over row numbers, with the sharp edges of hnswlib filed off.

hnswlib crashes when a search runs beside a resize, never grows by itself, only marks deletions,
and raises when asked for more neighbours than it holds. So the owner holds a lock around every
call, the graph grows before it adds, counts its tombstones, and asks for what is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Graph"]

# M=16, efC=200: recall@10 of .98 at 100k real sentence vectors with ef=256 (see bench_memory).
_LINKS = 16
_BUILD_WIDTH = 200
_SEARCH_WIDTH = 256


class Graph:
    """Approximate neighbours by inner product among unit vectors.

    Args:
        dimension: Length of a vector.
        capacity: Rows to make room for at first.
        threads: Threads for adding.
    """

    def __init__(self, dimension: int, capacity: int, threads: int = 1) -> None:
        import hnswlib

        self._index: Any = hnswlib.Index(space="ip", dim=dimension)
        self._index.init_index(
            max_elements=max(capacity, 1), ef_construction=_BUILD_WIDTH, M=_LINKS, random_seed=7
        )
        self._index.set_ef(_SEARCH_WIDTH)
        self._index.set_num_threads(threads)
        self._rows: set[int] = set()
        self._deleted: set[int] = set()

    @property
    def tombstones(self) -> int:
        """Rows that were taken out and still take room."""
        return len(self._deleted)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row: int) -> bool:
        return row in self._rows

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds vectors [n, dimension] under their row numbers, growing first where needed."""
        need = self._index.get_current_count() + len(rows)
        capacity = self._index.get_max_elements()
        if need > capacity:
            self._index.resize_index(max(need, capacity + capacity // 2))
        self._index.add_items(vectors, rows)
        self._rows.update(rows.tolist())
        self._deleted.difference_update(rows.tolist())

    def remove(self, row: int) -> None:
        """Takes a row out of every later answer; its vector stays until the graph is rebuilt."""
        if row in self._rows:
            self._index.mark_deleted(row)
            self._rows.discard(row)
            self._deleted.add(row)

    def search(
        self, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Returns rows and inner products, best first; None where the graph cannot find k."""
        k = min(k, len(self._rows))
        if not k:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        self._index.set_ef(max(_SEARCH_WIDTH, 2 * k))
        try:
            labels, distances = self._index.knn_query(query[None, :], k=k, num_threads=1)
        except RuntimeError:
            # Too few reachable nodes, for instance among many tombstones.
            return None
        return labels[0].astype(np.int64), 1.0 - distances[0]
