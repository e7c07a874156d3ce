"""HyperLogLog: how many different texts there were, within 1.04/sqrt(m) of the truth.

Flajolet, Fusy, Gandouet and Meunier, HyperLogLog, 2007, over 64-bit hashes; estimated as in Ertl,
New cardinality estimation algorithms for HyperLogLog sketches, 2017 (algorithm 6), which needs no
tables of corrections and has no bias at either end.
"""

from __future__ import annotations

import math
from typing import ClassVar, Self

import numpy as np

from ryzanstein.memory.sketches.payload import BrokenSketch, hashes, pack, unpack

__all__ = ["HyperLogLog"]


class HyperLogLog:
    """Counts different texts.

    Args:
        precision: p, from 4 to 16: m = 2^p registers of one byte.
    """

    kind: ClassVar[str] = "hyperloglog"

    def __init__(self, precision: int = 10) -> None:
        if not 4 <= precision <= 16:
            raise ValueError(f"a precision of {precision} is not from 4 to 16")
        self.precision = precision
        self._registers = np.zeros(1 << precision, dtype=np.uint8)

    def add(self, *items: str) -> None:
        """Adds texts; again is the same as once."""
        rest = 64 - self.precision
        for hashed in hashes(items, 1)[:, 0].tolist():
            register, tail = hashed >> rest, hashed & ((1 << rest) - 1)
            rank = rest - tail.bit_length() + 1
            if rank > self._registers[register]:
                self._registers[register] = rank

    @property
    def standard_error(self) -> float:
        """Relative standard deviation of an estimate."""
        return 1.04 / math.sqrt(len(self._registers))

    def __len__(self) -> int:
        return round(self.estimate)

    @property
    def estimate(self) -> float:
        """How many different texts were added."""
        size, most = len(self._registers), 64 - self.precision
        of_rank = np.bincount(self._registers, minlength=most + 2).tolist()
        total = size * _tau(1 - of_rank[most + 1] / size)
        for rank in range(most, 0, -1):
            total = 0.5 * (total + of_rank[rank])
        total += size * _sigma(of_rank[0] / size)
        return size * size / (2 * math.log(2) * total)

    def merge(self, other: HyperLogLog) -> None:
        """Adds everything that is in a sketch of the same precision.

        Raises:
            ValueError: It has another precision.
        """
        if self.precision != other.precision:
            raise ValueError("sketches of two precisions cannot be merged")
        np.maximum(self._registers, other._registers, out=self._registers)

    def to_bytes(self) -> bytes:
        """The stored form."""
        return pack(self.kind, {"precision": self.precision}, self._registers.tobytes())

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Reads the stored form.

        Raises:
            BrokenSketch: It is damaged.
        """
        header, data = unpack(payload, cls.kind)
        made = cls(**header)
        if len(data) != len(made._registers):
            raise BrokenSketch("The sketch has another size than its header says.")
        made._registers = np.frombuffer(data, dtype=np.uint8).copy()
        return made


def _sigma(share: float) -> float:
    """Weighs the empty registers (Ertl, algorithm 6)."""
    if share == 1.0:
        return math.inf
    result, factor = share, 1.0
    while True:
        share *= share
        before, result = result, result + share * factor
        if result == before:
            return result
        factor += factor


def _tau(share: float) -> float:
    """Weighs the full registers (Ertl, algorithm 6)."""
    if share in (0.0, 1.0):
        return 0.0
    result, factor = 1 - share, 1.0
    while True:
        share = math.sqrt(share)
        factor *= 0.5
        before, result = result, result - (1 - share) ** 2 * factor
        if result == before:
            return result / 3
