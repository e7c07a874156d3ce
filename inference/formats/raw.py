"""One tensor as it lies in a file, and the block sizes of the types the engine reads.

    type   weights  bytes        type   weights  bytes
    F32       1       4          Q5_0      32      22
    F16       1       2          Q5_1      32      24
    BF16      1       2          Q4_K     256     144
    Q8_0     32      34          Q5_K     256     176
    Q4_0     32      18          Q6_K     256     210
    Q4_1     32      20          TQ1_0    256      54
    I2_S    128      32          TQ2_0    256      66
    B158      4       1          I8         1       1

Block layouts are those of ggml (`ggml-common.h`), I2_S that of bitnet.cpp, B158 what transformers
packs four rows at a time; `dequantize.py` spells them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCKS", "TAILS", "TERNARY", "RawTensor", "stored_bytes"]

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
    "TQ1_0": (256, 54),
    "TQ2_0": (256, 66),
    "I2_S": (128, 32),
    "B158": (4, 1),
    "I8": (1, 1),
}

# Types that hold nothing but -1, 0 and 1, times a scale.
TERNARY: Final = ("TQ1_0", "TQ2_0", "I2_S", "B158", "I8")

# Bytes behind a tensor that are its own: I2_S's scale as a float, and padding.
TAILS: Final = {"I2_S": 32}


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A tensor's bytes, not yet interpreted.

    `shape` is (rows, cols) for a matrix, with `cols` contiguous, or (n,) for a vector; of a packed
    tensor it is the shape of what is packed in it. `data` is a one-dimensional uint8 view of the
    memory-mapped file, so holding it keeps the mapping alive. `scale` is what all values are
    multiplied by, beyond what the bytes say.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: npt.NDArray[np.uint8]
    scale: float = 1.0


def stored_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Returns the bytes a tensor takes in a file, without its tail.

    Raises:
        ValueError: a row is no whole number of blocks; B158: the rows are no whole number of them.
    """
    weights, size = BLOCKS[dtype]
    if dtype == "B158":
        if shape[0] % weights:
            raise ValueError(f"{shape[0]} rows cannot be packed four to a byte")
    elif shape and shape[-1] % weights:
        raise ValueError(f"{shape[-1]} columns are not a multiple of {dtype}'s block of {weights}")
    return math.prod(shape) // weights * size
