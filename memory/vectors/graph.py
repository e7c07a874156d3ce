"""An HNSW graph over slot numbers, with the sharp edges of hnswlib filed off.

hnswlib crashes when a search runs beside an addition, never grows by itself, only marks deletions,
raises when asked for more neighbours than it holds, and loads any bytes. So a graph holds a
reader-writer lock of its own, grows before it adds, overwrites what it deletes, asks for what is
there, and is loaded only from a file whose checksum is right (index_file).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.memory.vectors.locks import ReadWriteLock
from ryzanstein.memory.vectors.slots import SlotSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Graph"]

# Of contiguous passages ef=128 finds .98 of the ten nearest, from 100k to a million; passages put
# together from two places need ef=400 to 512 (there M=32 needs 320, and takes as long with them).
_LINKS = 16
_BUILD_WIDTH = 200
_SEARCH_WIDTH = 128
_WIDTHS = (128, 192, 256, 320, 400, 512, 640, 768, 1024)
# What a search is to find of the true nearest: a little more than the .96 that is promised, since
# it is measured with some hundred queries only.
_RECALL = 0.97


class Graph:
    """Approximate neighbours by inner product among unit vectors.

    Attributes:
        width: Candidates that a search keeps (hnswlib's ef).

    Args:
        dimension: Length of a vector.
        capacity: Slots to make room for at first.
        threads: Threads for adding; 0 means all CPUs.
    """

    def __init__(self, dimension: int, capacity: int, threads: int = 1) -> None:
        self._index = _new_index(dimension)
        self._index.init_index(
            max_elements=max(capacity, 1), ef_construction=_BUILD_WIDTH, M=_LINKS, random_seed=7
        )
        self._dimension = dimension
        self._threads = threads
        self.width = _SEARCH_WIDTH
        self._set = _SEARCH_WIDTH
        self._index.set_ef(_SEARCH_WIDTH)
        self._known = SlotSet()
        self._deleted = SlotSet()
        self._lock = ReadWriteLock()

    @classmethod
    def load(
        cls, path: Path, dimension: int, deleted: NDArray[np.int64], width: int, threads: int
    ) -> Graph:
        """Loads a graph that `save` has written and whose bytes were verified.

        Args:
            path: The file.
            dimension: Length of a vector.
            deleted: Slots that were marked deleted when it was saved.
            width: What `tune` had chosen.
            threads: Threads for adding.
        """
        graph = cls(dimension, 1, threads)
        graph._index = _new_index(dimension)
        graph._index.load_index(str(path))
        graph.width = graph._set = width
        graph._index.set_ef(width)
        graph._known.add(np.array(graph._index.get_ids_list(), dtype=np.int64))
        graph._deleted.add(deleted)
        return graph

    @property
    def tombstones(self) -> int:
        """Slots that were taken out and still take room."""
        return len(self._deleted)

    @property
    def file_bytes(self) -> int:
        """Size of the file that `save` writes."""
        return int(self._index.index_file_size())

    def __len__(self) -> int:
        return len(self._known) - len(self._deleted)

    def deleted(self) -> NDArray[np.int64]:
        """Returns the slots that are marked deleted."""
        return self._deleted.array()

    def add(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds vectors [n, dimension] or replaces those of slots that are in already."""
        if not len(slots):
            return
        with self._lock.write():
            need = self._index.get_current_count() + len(slots)
            capacity = self._index.get_max_elements()
            if need > capacity:
                self._index.resize_index(max(need, capacity + capacity // 4))
            self._index.add_items(vectors, slots, num_threads=self._threads or -1)
            self._known.add(slots)
            self._deleted.discard(slots)

    def remove(self, slots: NDArray[np.int64]) -> None:
        """Takes slots out of every later answer and overwrites their vectors."""
        inside = slots[self._known.holds(slots) & ~self._deleted.holds(slots)]
        if not len(inside):
            return
        nothing = np.zeros((len(inside), self._dimension), dtype=np.float32)
        with self._lock.write():
            # An update: links to the old place are mended, the zero vector is near to nothing.
            self._index.add_items(nothing, inside, num_threads=1)
            for slot in inside.tolist():
                self._index.mark_deleted(slot)
            self._deleted.add(inside)

    def search(
        self, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Returns about the k nearest slots and their cosines, best first; None where it cannot."""
        with self._lock.read():
            k = min(k, len(self))
            if not k:
                return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
            width = max(self.width, 2 * k)
            if width != self._set:
                self._set = width
                self._index.set_ef(width)
            try:
                labels, distances = self._index.knn_query(query[None, :], k=k, num_threads=1)
            except RuntimeError:
                # Too few reachable nodes, for instance among many tombstones.
                return None
        return labels[0].astype(np.int64), 1 - distances[0]

    def tune(self, queries: NDArray[np.float32], nearest: list[set[int]]) -> None:
        """Chooses how widely to search, so that enough of the true nearest are found.

        Args:
            queries: Vectors that are not in the graph, [n, dimension].
            nearest: The slots in the graph that are truly nearest to each.
        """
        wanted = max(1, sum(len(true) for true in nearest))
        for width in _WIDTHS:
            self.width = width
            found = (
                self.search(query, len(true)) for query, true in zip(queries, nearest, strict=True)
            )
            hits = sum(
                len(true & set(near[0].tolist()))
                for near, true in zip(found, nearest, strict=True)
                if near is not None
            )
            if hits >= _RECALL * wanted:
                return

    def save(self, path: Path) -> None:
        """Writes the graph to a file; searches go on meanwhile."""
        with self._lock.read():
            self._index.save_index(str(path))


def _new_index(dimension: int) -> Any:
    import hnswlib

    return hnswlib.Index(space="ip", dim=dimension)
