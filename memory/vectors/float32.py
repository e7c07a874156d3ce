"""Vectors as they are: the exact scan that all other forms are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ryzanstein.memory.vectors.form import Form

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ryzanstein.inference.kernels._vectors import Measure

__all__ = ["Float32"]


class Float32(Form):
    """4 bytes a dimension; nothing is rescored."""

    measure: ClassVar[Measure] = "dot_f32"
    dtype: ClassVar[DTypeLike] = np.float32

    def __init__(self, name: str, dimension: int) -> None:
        super().__init__(name, dimension, dimension, factor=1)

    @classmethod
    def fit(cls, name: str, sample: NDArray[np.float32]) -> Self:
        """Makes the form; nothing is learned."""
        return cls(name, sample.shape[1])

    @classmethod
    def load(cls, name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Self:
        """Makes the form; it has no state."""
        return cls(name, dimension)

    def _encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        return vectors

    def _prepare(self, query: NDArray[np.float32]) -> tuple[NDArray[Any], float, float]:
        return query, 1.0, 0.0
