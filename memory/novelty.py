"""How far a new text is from everything known: 1 minus the cosine of its nearest neighbour.

It is asked at every write, so it must be cheap: it looks at what this process wrote last and, for
single texts, at the vector index as it is. A small store is read into the index for it; a large
one is not, since a process that only writes has no other use for a million vectors.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import func, select

from ryzanstein.memory.schema import MemoryRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.database import Database
    from ryzanstein.memory.vectors.sync import SyncedIndex

__all__ = ["Novelty"]

_RECENT = 1_024
_SLICE = 256
_SMALL = 20_000
# The index is brought up to date after so many texts; until then the recent ones stand in.
_EVERY = 64
# Of larger batches only what came lately is compared: an import is not to wait for searches.
_SINGLE = 16


class Novelty:
    """Novelty of new texts of one store. Thread-safe.

    Args:
        database: The store's database.
        synced: The index of its memories.
        dimension: Length of a vector.
    """

    def __init__(self, database: Database, synced: SyncedIndex, dimension: int) -> None:
        self._database = database
        self._synced = synced
        self._lock = threading.Lock()
        self._recent = np.zeros((_RECENT, dimension), dtype=np.float32)
        self._next = 0
        self._asked = 0

    def of(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the novelty of each, 0 to 1, and keeps them as recent ones.

        Args:
            vectors: float32 [n, dimension], unit rows or zeros, in the order of their texts.
        """
        nearest = np.zeros(len(vectors), dtype=np.float32)
        if len(vectors) <= _SINGLE:
            nearest = self._nearest_stored(vectors)
        with self._lock:
            for start in range(0, len(vectors), _SLICE):
                part = vectors[start : start + _SLICE]
                among = np.tril(part @ part.T, -1).max(axis=1)
                recent = (part @ self._recent.T).max(axis=1)
                here = nearest[start : start + _SLICE]
                nearest[start : start + _SLICE] = np.maximum(here, np.maximum(among, recent))
                self._keep(part)
        novelty: NDArray[np.float32] = np.clip(1 - nearest, 0, 1)
        return novelty

    def forget(self) -> None:
        """Drops what was written last, since some of it is to be forgotten."""
        with self._lock:
            self._recent[:] = 0
            self._asked = _EVERY

    def _keep(self, vectors: NDArray[np.float32]) -> None:
        places = (self._next + np.arange(len(vectors))) % _RECENT
        self._recent[places] = vectors
        self._next = int(self._next + len(vectors)) % _RECENT

    def _nearest_stored(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self._refresh(len(vectors))
        nearest = np.zeros(len(vectors), dtype=np.float32)
        if self._synced.seen >= 0:
            for at, vector in enumerate(vectors):
                _, cosines = self._synced.index.search(vector, 1)
                nearest[at] = cosines[0] if len(cosines) else 0.0
        return nearest

    def _refresh(self, count: int) -> None:
        self._asked += count
        if self._synced.seen >= 0 and self._asked < _EVERY:
            return
        self._asked = 0
        if self._size() <= _SMALL:
            self._synced.catch_up()

    def _size(self) -> int:
        with self._database.read() as connection:
            return connection.execute(select(func.max(MemoryRow.row))).scalar() or 0
