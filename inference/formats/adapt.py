"""Tensors of a checkpoint in another form than they are stored in, made when they are asked for.

    reshaped(raw, shape)            the same values in another shape, no copy
    squeezed(raw, shape)            the same without some axes of one, or with more of them
    piece(raw, index)               one of those stacked along the first axis, no copy
    computed(raw, shape, function)  float32 values that a function makes of the stored ones
    transposed(raw)                 a matrix with its rows and columns swapped
    doubled(raw, times)             the values times a power of two, in their type

What has no meaning (a transposed vector, a piece of a scalar) is given back as it is stored: the
check of all shapes refuses it by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import BLOCKS, RawTensor, stored_bytes

__all__ = [
    "Adapted",
    "Tensor",
    "computed",
    "doubled",
    "piece",
    "read",
    "reshaped",
    "squeezed",
    "transposed",
]

_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]

# Where a block has its scale and minimum as float16; a float16 is a block of its own.
_HALVES: Final[dict[str, tuple[int, ...]]] = {
    "F16": (0,),
    "Q8_0": (0,),
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
}


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """A tensor whose bytes are computed of a stored one, every time they are asked for.

    Attributes:
        source: As it lies in the file, so that its pages can be given back.
        dtype: Of the result.
        shape: Of the result.
        make: Bytes of the result, of the source.
    """

    source: RawTensor
    dtype: str
    shape: tuple[int, ...]
    make: Callable[[RawTensor], _Bytes]

    def read(self, name: str) -> RawTensor:
        """Computes it.

        Raises:
            ModelLoadError: the source holds what its type does not allow.
        """
        return RawTensor(name, self.dtype, self.shape, self.make(self.source))


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


def computed(raw: RawTensor, shape: tuple[int, ...], make: Callable[[_Floats], _Floats]) -> Tensor:
    """Values of the shape that `make` computes of the stored ones, given in theirs."""
    if math.prod(shape) != math.prod(raw.shape):
        return raw

    def values(source: RawTensor) -> _Bytes:
        made = np.ascontiguousarray(make(dequantize(source)), np.float32)
        return made.reshape(-1).view(np.uint8)

    return Adapted(raw, "F32", shape, values)


def transposed(raw: RawTensor) -> Tensor:
    """A matrix stored [in, out] as [out, in]; of more axes the last two are swapped."""
    if len(raw.shape) < 2:
        return raw
    *outer, rows, cols = raw.shape
    return computed(raw, (*outer, cols, rows), lambda values: values.swapaxes(-1, -2))


def doubled(raw: RawTensor, times: int) -> Tensor:
    """The values times a power of two; exact, and a quantised tensor keeps its type and codes."""
    factor = np.float32(2.0**times)
    places = _HALVES.get(raw.dtype)
    if places is None:
        return computed(raw, raw.shape, lambda values: values * factor)

    def scaled(source: RawTensor) -> _Bytes:
        blocks = source.data.reshape(-1, BLOCKS[source.dtype][1]).copy()
        for at in places:
            halves = np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16)
            with np.errstate(over="ignore"):  # packing refuses scales that are not finite
                grown = (halves.astype(np.float32) * factor).astype(np.float16)
            blocks[:, at : at + 2] = grown.view(np.uint8)
        return blocks.reshape(-1)

    return Adapted(raw, raw.dtype, raw.shape, scaled)
