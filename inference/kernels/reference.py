"""What the linear kernels compute, in NumPy: unpack, quantise, product.

Written from panel.h's layout and not from the C code, so that the tests compare two readings of one
description.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ryzanstein.inference.kernels._linear import PackedMatrix

__all__ = [
    "GROUP",
    "integer_dots",
    "linear",
    "quantize",
    "quantize_token",
    "unpack",
    "unpack_codes",
    "unpack_trits",
]

GROUP = 32
_LANES = 16
_PANEL = 32
_ZERO = {"int8": 128, "split8": 128, "int6": 32, "int5": 16, "int4": 8}

Codes = NDArray[np.int32]
Floats = NDArray[np.float32]


def unpack_codes(packed: PackedMatrix) -> tuple[Codes, Floats, Floats]:
    """Codes (rows, groups * 32) less their zero; scales and minima (rows, groups, 2 halves)."""
    panels, groups, _ = packed.codes.shape
    quads, rest = _quads(packed)
    # [panel][group][block][quad][lane][k] -> [panel][block][lane][group][quad][k]
    codes = quads.transpose(0, 2, 4, 1, 3, 5).reshape(panels * _PANEL, groups * GROUP)
    halves = rest.view(np.float16).astype(np.float32).reshape(panels, groups, -1, _PANEL)
    columns = halves.transpose(0, 3, 1, 2).reshape(panels * _PANEL, groups, -1)
    minima = np.zeros((*columns.shape[:2], 2), np.float32)
    scales = np.broadcast_to(columns[..., :1], minima.shape).copy()
    if packed.scale == "half":
        scales = columns
    if packed.scale == "min":
        minima[:] = columns[..., 1:]
    else:
        codes = codes - _ZERO[packed.form]
    return codes[: packed.rows], scales[: packed.rows], minima[: packed.rows]


def _quads(packed: PackedMatrix) -> tuple[Codes, NDArray[np.uint8]]:
    """Codes [panel][group][block][quad][lane][k], and the bytes behind them."""
    data = packed.codes
    shape = (*data.shape[:2], 2, -1, _LANES, 4)
    if packed.form == "int8":
        return data[..., :1024].reshape(shape).astype(np.int32), data[..., 1024:].copy()
    if packed.form == "split8":
        flat, size = data.reshape(-1), data.shape[0] * data.shape[1] * 576
        upper = flat[:size].reshape(*data.shape[:2], 576)
        pair = [upper[..., :512].reshape(shape), flat[size:].reshape(shape)]
        nibbles = [np.concatenate([both & 15, both >> 4], axis=3) for both in pair]
        return (nibbles[0] * 16 + nibbles[1]).astype(np.int32), upper[..., 512:].copy()
    both = data[..., :512].reshape(shape)
    codes = np.concatenate([both & 15, both >> 4], axis=3).astype(np.int32)
    width = {"int4": 0, "int5": 1, "int6": 2}[packed.form]
    if width:
        planes = data[..., 512 : 512 + 128 * width].reshape(shape)
        per_plane = 8 // width
        slots = np.arange(8)
        plane, shift = slots // per_plane, width * (slots % per_plane)
        bits = planes[:, :, :, plane] >> shift[None, None, None, :, None, None]
        codes |= (bits.astype(np.int32) & (2**width - 1)) << 4
    return codes, data[..., 512 + 128 * width :].copy()


def unpack_trits(packed: PackedMatrix) -> Codes:
    """Weights -1, 0, 1 (rows, cols) of a ternary matrix, without its scale."""
    panels, groups, _ = packed.codes.shape
    if packed.form == "ternary3":
        words = packed.codes.view("<u2").reshape(panels, groups, _PANEL).astype(np.int32)
        indices = np.stack([words >> 5 * j & 31 for j in range(3)], axis=-1)
        digits = np.stack([indices // power % 3 for power in (1, 3, 9)], axis=-1)
        codes = digits.transpose(0, 2, 1, 3, 4)  # [panel][row][group][index][digit]
    elif packed.form == "ternary5":
        fraction = packed.codes.reshape(panels, groups, 2, _LANES, 4).astype(np.int32)
        quads = []
        for _ in range(5):
            quads.append(fraction * 3 >> 8)
            fraction = fraction * 3 & 255
        codes = np.stack(quads).transpose(1, 3, 4, 2, 0, 5)  # [panel][block][lane][group][quad][k]
    else:
        four = packed.codes.reshape(panels, groups, 2, 2, _LANES, 4).astype(np.int32)
        quads = [four >> 2 * j & 3 for j in range(4)]
        # [quad][panel][group][half][block][lane][k] -> [panel][block][lane][group][half][quad][k]
        codes = np.stack(quads).transpose(1, 4, 5, 2, 3, 0, 6)
    weights: Codes = codes.reshape(panels * _PANEL, -1)[: packed.rows, : packed.cols] - 1
    return weights


def unpack(packed: PackedMatrix) -> Floats:
    """The weights (rows, cols) that a packed matrix stands for."""
    if packed.scale == "tensor":
        return unpack_trits(packed).astype(np.float32) * np.float32(packed.tensor_scale)
    if packed.form == "f32":
        panels, groups, _ = packed.codes.shape
        values = packed.codes.view(np.float32).reshape(panels, groups, 2, GROUP, _LANES)
        dense = values.transpose(0, 2, 4, 1, 3).reshape(panels * _PANEL, groups * GROUP)
        return dense[: packed.rows, : packed.cols].copy()
    codes, scales, minima = unpack_codes(packed)
    weights = codes * np.repeat(scales, 16, axis=2).reshape(codes.shape)
    weights = weights + np.repeat(minima, 16, axis=2).reshape(codes.shape)
    return weights[:, : packed.cols].astype(np.float32)


def quantize(x: Floats) -> tuple[NDArray[np.int8], Floats, Codes]:
    """Activations (tokens, cols) as codes, scale a group, and sum a half group."""
    tokens, cols = x.shape
    groups = -(-cols // GROUP)
    padded = np.zeros((tokens, groups * GROUP), np.float32)
    padded[:, :cols] = x
    grouped = padded.reshape(tokens, groups, GROUP)
    absmax = np.abs(grouped).max(axis=2)
    finite, used = np.isfinite(absmax), absmax >= np.float32(1e-30)
    divisor = np.where(finite & used, absmax, np.float32(1))
    inverse = np.where(finite & used, np.float32(127) / divisor, np.float32(0))
    safe = np.where(finite[..., None], grouped, np.float32(0))
    codes = np.rint(safe * inverse[..., None]).astype(np.int8)
    scales = np.where(
        finite, np.where(used, absmax / np.float32(127), np.float32(0)), np.float32("nan")
    )
    sums = codes.reshape(tokens, groups * 2, 16).sum(axis=2, dtype=np.int32)
    return codes.reshape(tokens, -1), scales.astype(np.float32), sums


def quantize_token(x: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Activations (tokens, cols) as codes and one scale a token, as BitNet b1.58 defines them."""
    absmax = np.abs(x).max(axis=1, keepdims=True)
    finite = np.isfinite(absmax)
    factor = np.float32(127) / np.maximum(np.where(finite, absmax, 1), np.float32(1e-5))
    codes = np.rint(np.where(finite, x, 0) * factor).astype(np.int8)
    scales = np.where(finite, np.float32(1) / factor, np.float32("nan"))
    return codes, scales[:, 0].astype(np.float32)


def _ternary(packed: PackedMatrix, x: Floats) -> NDArray[np.float64]:
    """Exact integer sums times the rounded product of both scales: the kernels give its bits."""
    codes, scales = quantize_token(x)
    sums = codes.astype(np.int64) @ unpack_trits(packed).T.astype(np.int64)
    factors = scales * np.float32(packed.tensor_scale)
    product: NDArray[np.float32] = sums.astype(np.float32) * factors[:, None]
    return product.astype(np.float64)


def integer_dots(codes: Codes, activations: NDArray[np.int8]) -> NDArray[np.int64]:
    """Dot products a half group: (tokens, rows, groups, 2)."""
    tokens, rows = activations.shape[0], codes.shape[0]
    left = codes.reshape(rows, -1, 2, 16).astype(np.int64)
    right = activations.reshape(tokens, -1, 2, 16).astype(np.int64)
    dots: NDArray[np.int64] = np.einsum("rghk,tghk->trgh", left, right)
    return dots


def linear(packed: PackedMatrix, x: Floats) -> NDArray[np.float64]:
    """Product of x (tokens, cols) and the transposed weights, summed in float64.

    Activations are quantised first, but for form f32. Ternary products are rounded to float32 as
    the kernels round them.
    """
    if packed.scale == "tensor":
        return _ternary(packed, x)
    if packed.form == "f32":
        return x.astype(np.float64) @ unpack(packed).astype(np.float64).T
    codes, scales, minima = unpack_codes(packed)
    activations, factors, sums = quantize(x)
    dots = integer_dots(codes, activations) * scales.astype(np.float64)
    dots = dots + sums.reshape(x.shape[0], 1, -1, 2) * minima.astype(np.float64)
    product: NDArray[np.float64] = np.einsum("trgh,tg->tr", dots, factors.astype(np.float64))
    return product
