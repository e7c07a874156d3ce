"""One tensor as it lies in a file, and the block sizes of the types the engine reads.

    type   weights  bytes        type   weights  bytes
    F32       1       4          Q5_0      32      22
    F16       1       2          Q5_1      32      24
    BF16      1       2          Q4_K     256     144
    Q8_0     32      34          Q5_K     256     176
    Q4_0     32      18          Q6_K     256     210
    Q4_1     32      20

Block layouts are those of ggml (`ggml-common.h`); `dequantize.py` spells them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCKS", "RawTensor", "stored_bytes"]

BLOCKS: Final[dict[str, tuple[int, int]]] = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q8_0": (32, 34),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A tensor's bytes, not yet interpreted.

    `shape` is (rows, cols) for a matrix, with `cols` contiguous, or (n,) for a vector. `data` is a
    one-dimensional uint8 view of the memory-mapped file, so holding it keeps the mapping alive.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]


def stored_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Returns the bytes a tensor takes in a file.

    Raises:
        ValueError: a row is no whole number of blocks.
    """
    weights, size = BLOCKS[dtype]
    if shape and shape[-1] % weights:
        raise ValueError(f"{shape[-1]} columns are not a multiple of {dtype}'s block of {weights}")
    return math.prod(shape) // weights * size
