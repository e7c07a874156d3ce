"""A byte a dimension, one scale for all, and Matryoshka cuts of it: the first dimensions only.

One scale keeps the scores of rows comparable as integers. A cut is for models that were trained so
that the first dimensions say most (Kusupati et al. 2022, Matryoshka representation learning); what
is left of a vector is made unit length again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ryzanstein.memory.vectors.form import Form, quantized

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ryzanstein.inference.kernels._vectors import Measure

__all__ = ["Int8"]

_FACTOR = 3
_CUT_FACTOR = 10
# Coordinates of unit vectors deviate by about 1/sqrt(d); a small sample shows no large ones.
_LEAST_DEVIATIONS = 4.0


class Int8(Form):
    """The first `cut` dimensions in int8; "int8" keeps all, "matryoshka-128" so many."""

    measure: ClassVar[Measure] = "dot_i8"
    dtype: ClassVar[DTypeLike] = np.int8

    def __init__(self, name: str, dimension: int, scale: float) -> None:
        cut = min(int(name.partition("-")[2] or dimension), dimension)
        super().__init__(name, dimension, cut, _FACTOR if cut == dimension else _CUT_FACTOR)
        self._scale = scale

    @classmethod
    def fit(cls, name: str, sample: NDArray[np.float32]) -> Self:
        """Takes the scale from the sample's largest coordinate; larger ones later are clipped."""
        form = cls(name, sample.shape[1], 1.0)
        cut = form._cut(sample)
        peak = max(float(np.abs(cut).max(initial=0)), _LEAST_DEVIATIONS / form.width**0.5)
        form._scale = min(peak, 1.0) / 127
        return form

    @classmethod
    def load(cls, name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Self:
        """Makes the form that had this state."""
        return cls(name, dimension, float(state["scale"]))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The scale."""
        return {"scale": np.array(self._scale)}

    def _cut(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.width == self.dimension:
            return vectors
        first = vectors[..., : self.width]
        norms = np.linalg.norm(first, axis=-1, keepdims=True)
        result: NDArray[np.float32] = first / np.maximum(norms, np.float32(1e-12))
        return result

    def _encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        codes = self._cut(vectors) * np.float32(1 / self._scale)
        return np.clip(np.rint(codes, out=codes), -127, 127, out=codes).astype(np.int8)

    def _prepare(
        self, query: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32], float]:
        codes, scale = quantized(self._cut(query))
        return codes, scale * np.float32(self._scale), 0.0
