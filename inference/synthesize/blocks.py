"""Encoders from ternary codes and from float rows to the bytes of GGUF and Hugging Face files.

Codes are 0, 1, 2 for -1, 0, 1. GGUF's layouts are those of ggml (`ggml-common.h`, `ggml-quants.c`)
and, for I2_S, of bitnet.cpp as its published files have it (128 weights in 32 bytes; other builds
of it differ); B158 is `pack_weights` of transformers. Q6_K rounds to the nearest code without
ggml's search for better scales, which random weights do not need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "DENSE",
    "TERNARY",
    "dense_bytes",
    "encode_dense",
    "encode_ternary",
    "round_bf16",
    "ternary_bytes",
]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_UPWARDS: Final = (0, 2, 4, 6)
_DOWNWARDS: Final = (6, 4, 2, 0)


def encode_ternary(codes: Bytes, scale: float, kind: str) -> Bytes:
    """Encodes a matrix of codes [rows, columns] as `kind`, a name of TERNARY."""
    return TERNARY[kind](codes, scale)


def ternary_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Returns the bytes that a ternary matrix takes.

    Raises:
        ValueError: its shape does not fit the layout.
    """
    rows, cols = shape
    if kind == "B158":
        _require(rows, 4)
        return rows // 4 * cols
    if kind == "I2_S":
        _require(cols, 128)
        return rows * cols // 4 + 32
    _require(cols, 256)
    return rows * cols // 256 * {"TQ1_0": 54, "TQ2_0": 66}[kind]


def encode_dense(rows: Floats, kind: str) -> Bytes:
    """Encodes float rows [n, columns] as `kind`, a name of DENSE."""
    return DENSE[kind][2](rows)


def dense_bytes(shape: tuple[int, ...], kind: str) -> int:
    """Returns the bytes that a dense tensor takes.

    Raises:
        ValueError: its shape does not fit the layout.
    """
    weights, size, _ = DENSE[kind]
    _require(shape[-1], weights)
    return int(np.prod(shape, dtype=np.int64)) // weights * size


def round_bf16(value: float) -> float:
    """Rounds to the nearest bfloat16."""
    bits = _bf16(np.array([value], np.float32)).view(np.uint16)
    return float((bits.astype(np.uint32) << 16).view(np.float32)[0])


def _require(size: int, multiple: int) -> None:
    if size % multiple:
        raise ValueError(f"{size} is no multiple of {multiple}")


def _tq2_0(codes: Bytes, scale: float) -> Bytes:
    """Per 256: two runs of 128, whose quarters share 32 bytes from the low bits up; f16 scale."""
    return _with_scale(_shared(codes.reshape(-1, 4, 32), _UPWARDS).reshape(-1, 64), scale)


def _tq1_0(codes: Bytes, scale: float) -> Bytes:
    """Per 256: trits 0-159 in 32 bytes, 160-239 in 16 (five each), 240-255 in 4 (four each)."""
    blocks = codes.reshape(-1, 256)
    first = _base3(blocks[:, :160].reshape(-1, 5, 32))
    second = _base3(blocks[:, 160:240].reshape(-1, 5, 16))
    padded = np.zeros((len(blocks), 5, 4), np.uint8)
    padded[:, :4] = blocks[:, 240:].reshape(-1, 4, 4)
    return _with_scale(np.concatenate([first, second, _base3(padded)], 1), scale)


def _base3(digits: Bytes) -> Bytes:
    """Five digits [n, 5, m], highest first, as the fraction value / 243 in a byte, rounded up."""
    value = np.zeros((len(digits), digits.shape[2]), np.uint16)
    for place in range(5):
        value = value * np.uint16(3) + digits[:, place]
    # value * 256 needs 16 bits: at most 242 * 256 + 242.
    return ((value * np.uint16(256) + np.uint16(242)) // np.uint16(243)).astype(np.uint8)


def _with_scale(blocks: Bytes, scale: float) -> Bytes:
    scales = np.full((len(blocks), 1), scale, np.float16).view(np.uint8)
    return np.concatenate([blocks, scales], 1).reshape(-1)


def _i2_s(codes: Bytes, scale: float) -> Bytes:
    """Per 128: quarters share 32 bytes from the high bits down; one float32 and 28 bytes after."""
    tail = np.zeros(8, np.float32)
    tail[0] = scale
    packed = _shared(codes.reshape(-1, 4, 32), _DOWNWARDS)
    return np.concatenate([packed.reshape(-1), tail.view(np.uint8)])


def _b158(codes: Bytes, scale: float) -> Bytes:
    """Row i of the first quarter shares its bytes with the same row of the others."""
    return _shared(codes.reshape(1, 4, -1), _UPWARDS).reshape(-1)


def _shared(parts: Bytes, shifts: tuple[int, ...]) -> Bytes:
    """Four runs of two bits [n, 4, m] in the same bytes [n, m]."""
    shifted = parts << np.array(shifts, np.uint8)[:, None]
    packed: Bytes = np.bitwise_or.reduce(shifted, axis=1)
    return packed


def _q8_0(rows: Floats) -> Bytes:
    """Per 32: f16 scale, int8 codes."""
    blocks = rows.reshape(-1, 32)
    scale = np.abs(blocks).max(1, keepdims=True) / 127
    codes = np.rint(blocks / _divisor(scale)).astype(np.int8)
    return np.concatenate([_half(scale), codes.view(np.uint8)], 1).reshape(-1)


def _q4_0(rows: Floats) -> Bytes:
    """Per 32: f16 scale that takes the value farthest from 0 to -8, halves in the nibbles."""
    blocks = rows.reshape(-1, 32)
    far = np.take_along_axis(blocks, np.abs(blocks).argmax(1, keepdims=True), 1)
    codes = np.clip(np.rint(blocks / _divisor(far / -8)) + 8, 0, 15).astype(np.uint8)
    return np.concatenate([_half(far / -8), codes[:, :16] | codes[:, 16:] << 4], 1).reshape(-1)


def _q6_k(rows: Floats) -> Bytes:
    """Per 256: low nibbles, high pairs of bits, an int8 scale for each 16, their f16 scale."""
    blocks = rows.reshape(-1, 16, 16)
    wanted = np.abs(blocks).max(2) / 31
    scale = wanted.max(1, keepdims=True) / 127
    scales = np.maximum(np.rint(wanted / _divisor(scale)), 1)
    codes = np.clip(np.rint(blocks / _divisor(scale * scales)[:, :, None]), -32, 31) + 32
    parts = codes.astype(np.uint8).reshape(-1, 2, 4, 32)
    low, pairs = parts & 15, _shared((parts >> 4).reshape(-1, 4, 32), _UPWARDS)
    nibbles = low[:, :, :2] | low[:, :, 2:] << 4
    columns = [nibbles.reshape(-1, 128), pairs.reshape(-1, 64), scales.astype(np.uint8)]
    return np.concatenate([*columns, _half(scale)], 1).reshape(-1)


def _divisor(scale: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A scale to divide by: that of a block of zeros is none."""
    return np.where(scale == 0, scale.dtype.type(1), scale)


def _half(column: npt.NDArray[Any]) -> Bytes:
    return column.astype(np.float16).view(np.uint8)


def _f32(rows: Floats) -> Bytes:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(-1)


def _f16(rows: Floats) -> Bytes:
    return rows.astype(np.float16).view(np.uint8).reshape(-1)


def _bf16(rows: Floats) -> Bytes:
    """Rounds to nearest, ties to even; values are finite."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return rounded.astype(np.uint16).view(np.uint8).reshape(-1)


TERNARY: Final[Mapping[str, Callable[[Bytes, float], Bytes]]] = {
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "I2_S": _i2_s,
    "B158": _b158,
}
# Weights of a block, its bytes, its encoder.
DENSE: Final[Mapping[str, tuple[int, int, Callable[[Floats], Bytes]]]] = {
    "F32": (1, 4, _f32),
    "F16": (1, 2, _f16),
    "BF16": (1, 2, _bf16),
    "Q8_0": (32, 34, _q8_0),
    "Q6_K": (256, 210, _q6_k),
    "Q4_0": (32, 18, _q4_0),
}
