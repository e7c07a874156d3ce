"""The coordinates that are largest in magnitude, with their places; the others count as zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ryzanstein.memory.vectors.form import Form, quantized

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ryzanstein.inference.kernels._vectors import Measure

__all__ = ["Sparse"]

_FACTOR = 40


class Sparse(Form):
    """Places and int8 values of so many coordinates: "sparse-32"."""

    measure: ClassVar[Measure] = "sparse_dot"
    dtype: ClassVar[DTypeLike] = np.uint8

    def __init__(self, name: str, dimension: int, scale: float) -> None:
        self._kept = min(int(name.partition("-")[2]), dimension)
        self._places = np.dtype(np.uint8) if dimension <= 256 else np.dtype("<u2")
        super().__init__(name, dimension, self._kept * (self._places.itemsize + 1), _FACTOR)
        self._scale = scale

    @classmethod
    def fit(cls, name: str, sample: NDArray[np.float32]) -> Self:
        """Takes the scale from the sample's largest coordinate; larger ones later are clipped."""
        peak = float(np.abs(sample).max(initial=0))
        return cls(name, sample.shape[1], (peak or 1.0) / 127)

    @classmethod
    def load(cls, name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Self:
        """Makes the form that had this state."""
        return cls(name, dimension, float(state["scale"]))

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The scale."""
        return {"scale": np.array(self._scale)}

    def _encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        largest = np.argpartition(-np.abs(vectors), self._kept - 1, axis=1)[:, : self._kept]
        places = np.sort(largest, axis=1)
        values = np.rint(np.take_along_axis(vectors, places, axis=1) / np.float32(self._scale))
        bytes_of_values = np.clip(values, -127, 127).astype(np.int8).view(np.uint8)
        return np.hstack([places.astype(self._places).view(np.uint8), bytes_of_values])

    def _prepare(
        self, query: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32], float]:
        codes, scale = quantized(query)
        return codes, scale * np.float32(self._scale), 0.0
