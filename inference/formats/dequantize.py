"""NumPy reference of every weight type the engine reads: what the bytes of a file mean.

Kernels and packing are checked against this. Layouts are ggml's (`ggml-quants.c`), `d` and `m`
are float16. Nibbles hold weights 0-15 in their low halves and 16-31 in their high ones:

    Q8_0  d, 32 int8                            d·q
    Q4_0  d, 16 bytes of nibbles                d·(q - 8)
    Q4_1  d, m, 16 bytes                        d·q + m
    Q5_0  d, 32 fifth bits, 16 bytes            d·(q - 16)
    Q5_1  d, m, 32 fifth bits, 16 bytes         d·q + m
    Q4_K  d, m, 8 six-bit scales and mins, 128 bytes
                                                d·s·q - m·t for each 32 of 256
    Q5_K  the same with 256 fifth bits before the nibbles
    Q6_K  128 bytes of low nibbles, 64 of bit pairs, 16 int8 scales, d
                                                d·s·(q - 32) for each 16 of 256
    TQ1_0 48 + 4 bytes of trits t, d            d·(t - 1): five trits to a byte, four in the last 4,
                                                the first ones of 32 (16, 4) bytes before the second
    TQ2_0 64 bytes of bit pairs t, d            d·(t - 1): the lowest pairs of 32 bytes first
    I2_S  32 bytes of bit pairs t               s·(t - 1): the highest pairs first; one s a tensor
    B158  bit pairs t                           s·(t - 1): row r of R is in bits 2·(4r // R) of the
                                                stored row r mod R/4
    I8    t                                     s·t

I2_S is as bitnet.cpp writes it on x86; on ARM it takes 64 weights at a time instead of 128, and
nothing in a file says which it was. A ternary code of 3, and a byte of TQ1_0 that no five trits
make, is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.raw import BLOCKS, RawTensor

__all__ = ["dequantize", "dequantize_bytes"]

_Bytes = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float32]


def dequantize(raw: RawTensor) -> _Floats:
    """Returns a tensor's values as float32, in its shape.

    Raises:
        ModelLoadError: a ternary tensor holds something else than -1, 0 and 1.
    """
    try:
        if raw.dtype == "B158":
            values = _b158(raw.data.reshape(-1, raw.shape[1]))
        else:
            values = dequantize_bytes(raw.dtype, raw.data)
    except ValueError as error:
        raise ModelLoadError(f"The tensor {raw.name} is damaged: it holds {error}.") from error
    return (values if raw.scale == 1.0 else values * np.float32(raw.scale)).reshape(raw.shape)


def dequantize_bytes(dtype: str, data: _Bytes) -> _Floats:
    """Returns the values of a whole number of blocks, one-dimensional.

    Raises:
        ValueError: blocks of a ternary type hold something else than -1, 0 and 1.
    """
    if dtype == "F32":
        return data.view(np.float32).copy()
    if dtype == "F16":
        return data.view(np.float16).astype(np.float32)
    if dtype == "BF16":
        return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return _BLOCKS[dtype](data.reshape(-1, BLOCKS[dtype][1])).reshape(-1)


def _half(blocks: _Bytes, at: int) -> _Floats:
    """The float16 at a byte offset of every block, as a column."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: _Bytes) -> _Bytes:
    """[n, k] bytes -> [n, 2k]: all low nibbles, then all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _fifth_bits(blocks: _Bytes, at: int) -> _Bytes:
    """[n, 32]: bit i of the little-endian word is weight i's fifth bit, moved to its place."""
    return np.unpackbits(blocks[:, at : at + 4], axis=1, bitorder="little") << np.uint8(4)


def _q8_0(blocks: _Bytes) -> _Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8)


def _q4_0(blocks: _Bytes) -> _Floats:
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: _Bytes) -> _Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]) + _half(blocks, 2)


def _q5_0(blocks: _Bytes) -> _Floats:
    codes = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks, 2)
    return _half(blocks, 0) * (codes.astype(np.float32) - 16)


def _q5_1(blocks: _Bytes) -> _Floats:
    codes = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks, 4)
    return _half(blocks, 0) * codes + _half(blocks, 2)


def _scales_and_mins(packed: _Bytes) -> tuple[_Bytes, _Bytes]:
    """[n, 12] bytes -> scales and mins [n, 8]: six bits, four of them whole, four as 4 + 2."""
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1)
    mins = np.concatenate([middle & 63, (high >> 4) | ((middle >> 6) << 4)], axis=1)
    return scales, mins


def _scaled(blocks: _Bytes, codes: _Bytes) -> _Floats:
    """Q4_K and Q5_K: codes [n, 8, 32] under the block's scales and mins."""
    scales, mins = _scales_and_mins(blocks[:, 4:16])
    scale, offset = _half(blocks, 0) * scales, _half(blocks, 2) * mins
    return scale[:, :, None] * codes - offset[:, :, None]


def _by_groups(packed: _Bytes) -> _Bytes:
    """[n, 128] bytes -> codes [n, 8, 32]: 32 bytes hold a group low and the next one high."""
    quarter = packed.reshape(-1, 4, 1, 32) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    return (quarter & np.uint8(15)).reshape(-1, 8, 32)


def _q4_k(blocks: _Bytes) -> _Floats:
    return _scaled(blocks, _by_groups(blocks[:, 16:]))


def _q5_k(blocks: _Bytes) -> _Floats:
    shifts = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = (blocks[:, 16:48].reshape(-1, 1, 32) >> shifts) & np.uint8(1)
    return _scaled(blocks, _by_groups(blocks[:, 48:]) | (fifth << np.uint8(4)))


def _q6_k(blocks: _Bytes) -> _Floats:
    halves = blocks[:, :128].reshape(-1, 2, 1, 64) >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1)
    pairs = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(
        1, 1, 4, 1
    )
    codes = (halves & 15).reshape(-1, 2, 4, 32) | ((pairs & 3) << 4)
    scale = _half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return scale[:, :, None] * (codes.reshape(-1, 16, 16).astype(np.float32) - 32)


def _trits(codes: _Bytes) -> _Floats:
    if (codes > 2).any():
        raise ValueError("the ternary code 3")
    return codes.astype(np.float32) - 1


def _fractions(packed: _Bytes, count: int) -> _Bytes:
    """[n, k] bytes -> [n, count·k] trits: 3·byte has the next trit above its low eight bits."""
    if (packed * np.uint8(243) >= 243).any():
        raise ValueError("a byte that five trits do not make")
    powers = 3 ** np.arange(count, dtype=np.uint8).reshape(1, -1, 1)
    left = packed[:, None, :] * powers
    return ((left.astype(np.uint16) * 3) >> 8).astype(np.uint8).reshape(len(packed), -1)


def _tq1_0(blocks: _Bytes) -> _Floats:
    parts = ((blocks[:, :32], 5), (blocks[:, 32:48], 5), (blocks[:, 48:52], 4))
    return _half(blocks, 52) * _trits(np.hstack([_fractions(*part) for part in parts]))


def _pairs(packed: _Bytes, shifts: tuple[int, ...]) -> _Bytes:
    """[n, k] bytes -> [n, 4, k] bit pairs."""
    return (packed[:, None, :] >> np.array(shifts, np.uint8).reshape(1, 4, 1)) & np.uint8(3)


def _tq2_0(blocks: _Bytes) -> _Floats:
    codes = _pairs(blocks[:, :64].reshape(-1, 32), (0, 2, 4, 6))
    return _half(blocks, 64) * _trits(codes.reshape(-1, 256))


def _i2_s(blocks: _Bytes) -> _Floats:
    return _trits(_pairs(blocks, (6, 4, 2, 0)))


def _b158(stored: _Bytes) -> _Floats:
    """[rows / 4, cols] -> [4, rows / 4, cols], which is rows in their order."""
    return _trits(_pairs(stored, (0, 2, 4, 6)).swapaxes(0, 1))


def _i8(blocks: _Bytes) -> _Floats:
    return _trits(blocks + np.uint8(1))


_BLOCKS: Final[dict[str, Callable[[_Bytes], _Floats]]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "TQ1_0": _tq1_0,
    "TQ2_0": _tq2_0,
    "I2_S": _i2_s,
    "I8": _i8,
}
