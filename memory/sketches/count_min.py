"""Count-min sketch: how often something occurred, never too low and seldom too high.

Cormode and Muthukrishnan, An improved data stream summary, 2005: depth ceil(ln 1/δ) rows of width
ceil(e/ε) counters. With probability 1 - δ an estimate is above the truth by at most ε times the
sum of all counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ryzanstein.memory.sketches.payload import MOST_HASHES, BrokenSketch, hashes, pack, unpack

__all__ = ["CountMin"]


class CountMin:
    """Counts of texts.

    Args:
        error: ε, share of the total by which an estimate may be too high.
        doubt: δ, probability that it is more; at least e^-8.
    """

    kind: ClassVar[str] = "count-min"

    def __init__(self, error: float = 0.001, doubt: float = 0.01) -> None:
        if not (0 < error < 1 and math.exp(-MOST_HASHES) <= doubt < 1):
            raise ValueError(f"no count-min sketch has the bounds {error} and {doubt}")
        self.error = error
        self.doubt = doubt
        width, depth = math.ceil(math.e / error), math.ceil(math.log(1 / doubt))
        self._counts = np.zeros((depth, width), dtype=np.uint32)
        self._rows = np.arange(depth)

    def add(self, *items: str) -> None:
        """Counts each text once, one that is given twice twice."""
        np.add.at(self._counts, (self._rows, self._columns(items)), 1)

    def __getitem__(self, item: str) -> int:
        """How often it was added: at least the truth, above it by at most `bound` as a rule."""
        return int(self._counts[self._rows, self._columns((item,))].min())

    @property
    def total(self) -> int:
        """Sum of all counts."""
        return int(self._counts[0].sum(dtype=np.uint64))

    @property
    def bound(self) -> float:
        """What an estimate is too high by at most, with probability 1 - doubt."""
        return self.error * self.total

    def merge(self, other: CountMin) -> None:
        """Adds the counts of a sketch of the same form.

        Raises:
            ValueError: It has another form.
        """
        if (self.error, self.doubt) != (other.error, other.doubt):
            raise ValueError("sketches of two forms cannot be merged")
        self._counts += other._counts

    def to_bytes(self) -> bytes:
        """The stored form."""
        header = {"error": self.error, "doubt": self.doubt}
        return pack(self.kind, header, self._counts.astype("<u4").tobytes())

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Reads the stored form.

        Raises:
            BrokenSketch: It is damaged.
        """
        header, data = unpack(payload, cls.kind)
        made = cls(**header)
        if len(data) != made._counts.nbytes:
            raise BrokenSketch("The sketch has another size than its header says.")
        counts = np.frombuffer(data, dtype="<u4").astype(np.uint32)
        made._counts = counts.reshape(made._counts.shape)
        return made

    def _columns(self, items: Sequence[str]) -> NDArray[np.int64]:
        depth, width = self._counts.shape
        return (hashes(items, depth) % np.uint64(width)).astype(np.int64)
