"""A bit a dimension: on which side of the mean a coordinate lies, against a query of int8.

A set bit stands for the mean plus the mean deviation of its coordinate, another for the mean less
it: what such vectors give with the query is

    q . x  ~  q . mean  +  sum over i of sign_i * deviation_i * q_i

so deviations go into the query and the scan is a sum of signed query values. Keeping the query in
eight bits instead of one is what makes signs usable (.54 of the ten nearest instead of .40 at
100,000 vectors of 256 dimensions, before rescoring).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ryzanstein.memory.vectors.form import Form, quantized

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ryzanstein.inference.kernels._vectors import Measure

__all__ = ["Bits"]

_FACTOR = 40


class Bits(Form):
    """Sign bits against a float query."""

    measure: ClassVar[Measure] = "bits_dot"
    dtype: ClassVar[DTypeLike] = np.uint8

    def __init__(
        self, name: str, mean: NDArray[np.float32], deviation: NDArray[np.float32]
    ) -> None:
        super().__init__(name, len(mean), -(-len(mean) // 8), _FACTOR)
        self._mean, self._deviation = mean, deviation

    @classmethod
    def fit(cls, name: str, sample: NDArray[np.float32]) -> Self:
        """Takes mean and mean absolute deviation of each coordinate from the sample."""
        mean = sample.mean(0, dtype=np.float64).astype(np.float32)
        return cls(name, mean, np.abs(sample - mean).mean(0))

    @classmethod
    def load(cls, name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Self:
        """Makes the form that had this state."""
        return cls(name, state["mean"], state["deviation"])

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """Mean and deviation of each coordinate."""
        return {"mean": self._mean, "deviation": self._deviation}

    def _encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        return np.packbits(vectors > self._mean, axis=1, bitorder="little")

    def _prepare(
        self, query: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
        codes, scale = quantized(query * self._deviation)
        padded = np.zeros((*codes.shape[:-1], 8 * self.width), np.int8)
        padded[..., : self.dimension] = codes
        return padded, scale, (query @ self._mean)[..., None]
