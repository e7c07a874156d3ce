"""Checkpoint tensors to packed matrices.

    source                 auto           int8   int4      float
    Q4_0, TQ1_0, TQ2_0     int4/group     int8   int4      f32
    Q4_1, Q4_K             int4/min       int8   int4/min  f32
    Q5_0                   int5/group     int8   int4/min  f32
    Q5_1, Q5_K             int5/min       int8   int4/min  f32
    Q6_K                   int6/half      int8   int4/min  f32
    Q8_0, F32, F16, BF16   int8/group     int8   int4/min  f32

`auto` keeps every code of a quantised source as it is; only the K types' scales (products of an
fp16 and an integer) are rounded to fp16. An output matrix may be `scan` too: int8's codes and
scales, split8/group. See panel.h for the bytes.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ryzanstein.errors import QuantizationError
from ryzanstein.inference.kernels._linear import PackedMatrix, absmean, trits_scale
from ryzanstein.nearest import nearest

__all__ = [
    "HEADS",
    "SOURCES",
    "TRITS",
    "Head",
    "PackedMatrix",
    "Precision",
    "is_int8",
    "pack",
    "pack_absmean",
    "pack_ternary",
]

# ternary: of research only. Matrices of a model that was not trained so become -1, 0 and 1 by their
# mean magnitude; embeddings and the output matrix int8.
Precision = Literal["auto", "float", "int8", "int4", "ternary"]
# Of the output matrix; auto: that of the other dense matrices.
Head = Literal["auto", "float", "int8", "int4", "scan"]
HEADS: tuple[Head, ...] = get_args(Head)

# GGUF's numbers of the types, and the layout that keeps each.
SOURCES: dict[str, tuple[int, str, str]] = {
    "F32": (0, "int8", "group"),
    "F16": (1, "int8", "group"),
    "Q4_0": (2, "int4", "group"),
    "Q4_1": (3, "int4", "min"),
    "Q5_0": (6, "int5", "group"),
    "Q5_1": (7, "int5", "min"),
    "Q8_0": (8, "int8", "group"),
    "Q4_K": (12, "int4", "min"),
    "Q5_K": (13, "int5", "min"),
    "Q6_K": (14, "int6", "half"),
    "BF16": (30, "int8", "group"),
    "TQ1_0": (34, "int4", "group"),
    "TQ2_0": (35, "int4", "group"),
}


def is_int8(dtype: str, precision: Head) -> bool:
    """Says whether a tensor of that type becomes int8/group."""
    kept = precision == "auto" and SOURCES.get(dtype, (0, ""))[1] == "int8"
    return kept or precision == "int8"


_FORCED = {
    "float": ("f32", "none"),
    "int8": ("int8", "group"),
    "int4": ("int4", "min"),
    "scan": ("split8", "group"),
}


def pack(
    dtype: str, data: NDArray[np.uint8], rows: int, cols: int, precision: Head = "auto"
) -> PackedMatrix:
    """Packs a tensor of GGUF type `dtype`, given as its bytes, of shape (rows, cols).

    Raises:
        QuantizationError: an unknown type or precision, bytes that do not fit the shape, or scales
            that are not finite.
    """
    if dtype not in SOURCES:
        near = ", ".join(nearest(dtype, SOURCES))
        raise QuantizationError(f"tensor type {dtype} is not supported", hint=f"Nearest: {near}.")
    if precision not in HEADS:
        raise QuantizationError(
            f"precision {precision!r} is unknown",
            hint=f"Choose one of {', '.join(HEADS)}.",
        )
    source, *layout = SOURCES[dtype]
    form, scale = _FORCED.get(precision, layout)
    if precision == "int4" and layout == ["int4", "group"]:
        form, scale = layout
    packed = PackedMatrix(form, scale, rows, cols)
    packed.repack(source, np.ascontiguousarray(data).reshape(-1).view(np.uint8))
    return packed


# trits.h's numbers of the types that may hold ternary weights.
TRITS: dict[str, int] = {
    "F32": 0,
    "F16": 1,
    "I8": 24,
    "BF16": 30,
    "TQ1_0": 34,
    "TQ2_0": 35,
    "I2_S": 36,
    "B158": 158,
}
_DIFFERENT = -2


def pack_ternary(
    dtype: str,
    data: NDArray[np.uint8],
    rows: int,
    cols: int,
    scale: float = 1.0,
    form: str = "ternary2",
) -> PackedMatrix | None:
    """Packs a tensor whose weights are ternary already.

    Args:
        dtype: one of TRITS.
        data: the tensor's bytes; of I2_S without the scale behind them.
        rows: length of the output.
        cols: length of the dot product.
        scale: what all weights are multiplied by, beyond what the bytes say.
        form: ternary2, ternary5 or ternary3.

    Returns:
        The matrix, or None where the bytes have more than one scale.

    Raises:
        QuantizationError: the weights are not ternary, the bytes do not fit the shape, or the
            scale is zero, negative or not finite.
    """
    flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    status, inner = trits_scale(TRITS[dtype], flat)
    if status == _DIFFERENT:
        return None
    if status < 0:
        raise QuantizationError("a scale is negative or not finite", hint="The file is damaged.")
    packed = PackedMatrix(form, "tensor", rows, cols, tensor_scale=inner * scale)
    packed.pack_trits(TRITS[dtype], flat)
    return packed


def pack_absmean(
    dtype: str, data: NDArray[np.uint8], rows: int, cols: int, form: str = "ternary2"
) -> PackedMatrix:
    """Quantises master weights (F32, F16, BF16) to ternary ones by their mean magnitude.

    scale = 1 / max(mean |w|, 1e-5), weight = clamp(round(w * scale), -1, 1) / scale, as BitNet
    b1.58 defines it and transformers' WeightQuant computes it in float32.

    Raises:
        QuantizationError: a weight is not finite, or the bytes do not fit the shape.
    """
    flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    mean = np.maximum(np.float32(absmean(TRITS[dtype], flat)), np.float32(1e-5))
    scale = np.float32(1) / mean
    packed = PackedMatrix(form, "tensor", rows, cols, tensor_scale=float(np.float32(1) / scale))
    packed.pack_absmean(TRITS[dtype], flat, float(scale))
    return packed
