"""The state of an index that searches, writers and its upkeep share, and the search itself.

    nearest = exact cosines of (neighbours in the graph ∪ slots the graph has not caught up with)

or, while there is no graph, of the best of a scan. Readers share one lock; whoever changes
something holds it for a slice. The graph has a lock of its own, taken after this one or alone, so
that nobody but a search waits while rows go into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.memory.vectors.locks import ReadWriteLock
from ryzanstein.memory.vectors.slots import SlotSet
from ryzanstein.memory.vectors.table import VectorTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ryzanstein.memory.vectors.graph import Graph

    Scored = tuple[NDArray[np.int64], NDArray[np.float32]]

__all__ = ["SLICE", "LiveVectors"]

# The longest that anybody waits for the lock: 1,024 vectors are copied in half a millisecond.
SLICE = 1_024
# Asked for beyond k: some neighbours in the graph may be gone.
_SPARE = 16
# A filter that leaves at least this share is searched in the graph, asking for more.
_WIDE = 0.2
# More slots than these that the graph has not caught up with are scanned by their codes first.
_COMPARED = 2_048


class LiveVectors:
    """Vectors by slot, a graph over them, and what the graph has not caught up with.

    Attributes:
        lock: Held for reading or writing around everything here.
        table: Rows and exact vectors.
        graph: Over the slots of the table; None below the threshold and until it is built.
        stale: Slots of which the graph has an older vector, or none, or one that is gone.
        folding: Stale slots that are on their way into the graph.
        watched: Slots below this one are being copied, or added to a new graph; None means none.
        changed: Those of them that were touched meanwhile.
        revision: The database's, up to which everything is in here.
    """

    def __init__(self, dimension: int) -> None:
        self.lock = ReadWriteLock()
        self.table = VectorTable(dimension)
        self.graph: Graph | None = None
        self.stale = SlotSet()
        self.folding = np.zeros(0, dtype=np.int64)
        self.watched: int | None = None
        self.changed = SlotSet()
        self.revision = -1

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Stores vectors; the lock is held for writing."""
        self._touch(self.table.put(rows, vectors))

    def drop(self, rows: NDArray[np.int64]) -> None:
        """Zeroes the vectors of rows; the lock is held for writing."""
        self._touch(self.table.drop(rows))

    def drop_graph(self) -> None:
        """Forgets the graph; the lock is held for writing."""
        self.graph = None
        self.stale = SlotSet()

    def watch(self, end: int | None) -> None:
        """Notes from now on which slots before `end` change; None stops it."""
        if self.watched is None or end is None:
            self.changed = SlotSet()
        self.watched = end

    def waiting(self) -> int:
        """Returns how many slots a search scans beside the graph."""
        return len(self.stale) + len(self.folding)

    def parts(self, size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Copies rows, -1 for free slots, and vectors of so many slots, a slice at a time."""
        for start in range(0, size, SLICE):
            slots = np.arange(start, min(start + SLICE, size))
            with self.lock.read():
                part = self.table.rows(slots).copy(), self.table.vectors(slots)
            yield part

    def nearest(self, query: NDArray[np.float32], k: int) -> Scored:
        """Returns k slots in use or a few more, and their cosines; the lock is held."""
        found = self._by_graph(query, k + _SPARE)
        if found is not None and len(found[0]) >= min(k, len(self.table)):
            return found
        return self.table.nearest(query, k)

    def nearest_among(self, query: NDArray[np.float32], k: int, slots: NDArray[np.int64]) -> Scored:
        """Returns k of these slots in use or a few more, and their cosines; the lock is held."""
        inside = np.zeros(self.table.size, dtype=np.bool_)
        inside[slots] = True
        slots = np.flatnonzero(inside)
        if len(slots) and len(slots) >= _WIDE * len(self.table):
            found = self._by_graph(query, int(1.5 * k * len(self.table) / len(slots)) + _SPARE)
            if found is not None:
                kept = inside[found[0]]
                if kept.sum() >= min(k, len(slots)):
                    return found[0][kept], found[1][kept]
        return self.table.nearest(query, k, slots)

    def _by_graph(self, query: NDArray[np.float32], k: int) -> Scored | None:
        found = None if self.graph is None else self.graph.search(query, k)
        if found is None or not self.waiting():
            return found
        slots, scores = found
        current = ~(self.stale.holds(slots) | np.isin(slots, self.folding))
        waiting = np.unique(np.concatenate([self.folding, self.stale.array()]))
        waiting = waiting[self.table.rows(waiting) >= 0]
        if len(waiting) > _COMPARED:
            waiting, cosines = self.table.nearest(query, k, waiting)
        else:
            cosines = self.table.cosines(query, waiting)
        return (
            np.concatenate([slots[current], waiting]),
            np.concatenate([scores[current], cosines]),
        )

    def _touch(self, slots: NDArray[np.int64]) -> None:
        if self.graph is not None:
            self.stale.add(slots)
        if self.watched is not None:
            self.changed.add(slots[slots < self.watched])
