"""Bloom filter: says for certain that something is new, and almost for certain that it is not.

Bloom, Space/time trade-offs in hash coding with allowable errors, 1970. With k = log2(1/p) hashes
into m = n·log2(e)·k bits, at most a share p of new items looks known once n are in. An item that
was added never looks new.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ryzanstein.memory.sketches.payload import MOST_HASHES, BrokenSketch, hashes, pack, unpack

__all__ = ["BloomFilter"]


class BloomFilter:
    """A set of texts that only knows whether one may be in it.

    Args:
        capacity: Items until the error is reached.
        error: Share of new items that look known then, from 1/256 to 1/2.
    """

    kind: ClassVar[str] = "bloom"

    def __init__(self, capacity: int, error: float = 0.01) -> None:
        if capacity < 1 or not 2.0**-MOST_HASHES <= error <= 0.5:
            raise ValueError(f"no Bloom filter holds {capacity} items with an error of {error}")
        self.capacity = capacity
        self.error = error
        self._hashes = math.ceil(math.log2(1 / error))
        bits = math.ceil(capacity * math.log2(math.e) * math.log2(1 / error))
        self._bytes = np.zeros((bits + 7) // 8, dtype=np.uint8)

    def add(self, *items: str) -> None:
        """Adds texts."""
        places, masks = self._places(items)
        np.bitwise_or.at(self._bytes, places, masks)

    def __contains__(self, item: str) -> bool:
        """Whether the text may have been added; False is certain."""
        places, masks = self._places((item,))
        return bool((self._bytes[places] & masks).all())

    @property
    def count(self) -> float:
        """Estimate of how many different items are in it (Swamidass and Baldi, 2007)."""
        bits = 8 * len(self._bytes)
        zeros = bits - int(np.bitwise_count(self._bytes).sum())
        return math.inf if not zeros else -bits / self._hashes * math.log(zeros / bits)

    def merge(self, other: BloomFilter) -> None:
        """Adds everything that is in a filter of the same form.

        Raises:
            ValueError: It has another form.
        """
        if (self.capacity, self.error) != (other.capacity, other.error):
            raise ValueError("filters of two forms cannot be merged")
        self._bytes |= other._bytes

    def to_bytes(self) -> bytes:
        """The stored form."""
        header = {"capacity": self.capacity, "error": self.error}
        return pack(self.kind, header, self._bytes.tobytes())

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Reads the stored form.

        Raises:
            BrokenSketch: It is damaged.
        """
        header, data = unpack(payload, cls.kind)
        made = cls(**header)
        if len(data) != len(made._bytes):
            raise BrokenSketch("The filter has another length than its header says.")
        made._bytes = np.frombuffer(data, dtype=np.uint8).copy()
        return made

    def _places(self, items: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        bits = hashes(items, self._hashes) % np.uint64(8 * len(self._bytes))
        return (bits >> np.uint64(3)).astype(np.int64), np.uint8(1) << (bits & 7).astype(np.uint8)
