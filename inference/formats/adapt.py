"""Tensors of a checkpoint in another form than they are stored in, made when they are asked for.

    reshaped(raw, shape)            the same values in another shape, no copy
    squeezed(raw, shape)            the same without some axes of one, or with more of them
    piece(raw, index)               one of those stacked along the first axis, no copy
    computed(raw, shape, function)  float32 values that a function makes of the stored ones
    transposed(raw)                 a matrix with its rows and columns swapped

What has no meaning (a transposed vector, a piece of a scalar) is given back as it is stored: the
check of all shapes refuses it by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import RawTensor, stored_bytes

__all__ = ["Adapted", "Tensor", "computed", "piece", "read", "reshaped", "squeezed", "transposed"]

_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A float32 tensor whose values are computed of a stored one, every time they are asked for.

    Attributes:
        source: As it lies in the file, so that its pages can be given back.
        shape: Of the result.
        make: float32 values of the source, in its shape, to those of the result.
    """

    source: RawTensor
    shape: tuple[int, ...]
    make: Callable[[_Floats], _Floats]

    dtype = "F32"

    def read(self, name: str) -> RawTensor:
        """Computes it.

        Raises:
            ModelLoadError: the source holds what its type does not allow.
        """
        values = np.ascontiguousarray(self.make(dequantize(self.source)), np.float32)
        return RawTensor(name, "F32", self.shape, values.reshape(-1).view(np.uint8))


Tensor = RawTensor | Adapted


def read(tensor: Tensor, name: str) -> RawTensor:
    """A tensor under its name, its values computed where they are not stored so."""
    return tensor.read(name) if isinstance(tensor, Adapted) else replace(tensor, name=name)


def reshaped(raw: RawTensor, shape: tuple[int, ...]) -> RawTensor:
    """The same values in another shape of as many."""
    if math.prod(shape) != math.prod(raw.shape):
        return raw
    try:
        same = stored_bytes(raw.dtype, shape) == raw.data.size
    except ValueError:  # a block would lie across two rows
        return raw
    return replace(raw, shape=shape) if same else raw


def squeezed(raw: RawTensor, shape: tuple[int, ...]) -> RawTensor:
    """The same values in another shape that differs in axes of one only."""
    if [size for size in raw.shape if size != 1] != [size for size in shape if size != 1]:
        return raw
    return reshaped(raw, shape)


def piece(raw: RawTensor, index: int) -> RawTensor:
    """Number `index` of the tensors that are stacked along the first axis."""
    if len(raw.shape) < 2 or not 0 <= index < raw.shape[0]:
        return raw
    size = raw.data.size // raw.shape[0]
    return replace(raw, shape=raw.shape[1:], data=raw.data[index * size : (index + 1) * size])


def computed(
    raw: RawTensor, shape: tuple[int, ...], make: Callable[[_Floats], _Floats]
) -> Adapted | RawTensor:
    """Values of the shape that `make` computes of the stored ones, given in theirs."""
    if math.prod(shape) != math.prod(raw.shape):
        return raw
    return Adapted(raw, shape, make)


def transposed(raw: RawTensor) -> Tensor:
    """A matrix stored [in, out] as [out, in]; of more axes the last two are swapped."""
    if len(raw.shape) < 2:
        return raw
    *outer, rows, cols = raw.shape
    return Adapted(raw, (*outer, cols, rows), lambda values: values.swapaxes(-1, -2))
