"""Counts which memories were found until the next write takes the counts along.

A search must not wait for the disk, and it works on a read-only store; so a use is counted in the
process and written with the next transaction, by settling, or when the store is closed. What a
killed process had counted is lost: a count is no record.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

__all__ = ["Use", "UseBuffer"]

# A reader that never writes must not grow without end.
_CAPACITY = 10_000


@dataclass(frozen=True, slots=True)
class Use:
    """How often a memory was found since the counts were last written, and when last."""

    count: int
    last: datetime


class UseBuffer:
    """Uses by row number, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: dict[int, Use] = {}

    def __len__(self) -> int:
        return len(self._uses)

    def count(self, rows: Iterable[int], at: datetime) -> None:
        """Counts one use of each row."""
        self.add({row: Use(1, at) for row in rows})

    def add(self, uses: Mapping[int, Use]) -> None:
        """Adds uses, also such as were taken and could not be written."""
        with self._lock:
            for row, use in uses.items():
                known = self._uses.pop(row, None)
                if known is not None:
                    use = Use(use.count + known.count, max(use.last, known.last))
                self._uses[row] = use
            while len(self._uses) > _CAPACITY:
                del self._uses[next(iter(self._uses))]

    def take(self, limit: int) -> dict[int, Use]:
        """Takes the uses of at most `limit` rows out."""
        with self._lock:
            taken = dict(islice(self._uses.items(), limit))
            for row in taken:
                del self._uses[row]
        return taken
