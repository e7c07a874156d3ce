"""A set of slot numbers as flags: thousands are put in or asked for in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SlotSet"]


class SlotSet:
    """Slot numbers, one byte each up to the largest; `array` is kept until the set changes."""

    def __init__(self) -> None:
        self._flags = np.zeros(0, dtype=np.bool_)
        self._count = 0
        self._array: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, slots: NDArray[np.int64]) -> None:
        """Puts slots in, each at most once in the array."""
        self._set(slots, True)

    def discard(self, slots: NDArray[np.int64]) -> None:
        """Takes slots out where they are in."""
        self._set(slots, False)

    def holds(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Says of each slot whether it is in; readers may ask at once, so nothing grows here."""
        held = np.zeros(len(slots), dtype=np.bool_)
        known = slots < len(self._flags)
        held[known] = self._flags[slots[known]]
        return held

    def array(self) -> NDArray[np.int64]:
        """Returns the slots in ascending order."""
        if self._array is None:
            self._array = np.flatnonzero(self._flags).astype(np.int64)
        return self._array

    def _set(self, slots: NDArray[np.int64], value: bool) -> None:
        changed = slots[self.holds(slots) != value]
        if len(changed):
            self._reserve(changed)
            self._flags[changed] = value
            self._count += len(changed) if value else -len(changed)
            self._array = None

    def _reserve(self, slots: NDArray[np.int64]) -> None:
        need = int(slots.max()) + 1
        if need > len(self._flags):
            flags = np.zeros(max(need, 2 * len(self._flags)), dtype=np.bool_)
            flags[: len(self._flags)] = self._flags
            self._flags = flags
