"""What the measures of compressed vectors compute, in NumPy: a line for each definition.

Codes are rows [n, ...] of one query at a time. dot_f32 adds as its definition says: 16 sums of
every sixteenth product, which are then added by halves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "bits_dot",
    "bits_scaled",
    "dot_f32",
    "dot_i8",
    "hamming",
    "lookup",
    "sparse_dot",
    "top",
]

_LANES = 16

Ints = NDArray[np.int32]


def dot_i8(codes: NDArray[np.int8], query: NDArray[np.int8]) -> Ints:
    """Dot products of [n, d] and [d]."""
    return codes.astype(np.int32) @ query.astype(np.int32)


def dot_f32(codes: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dot products of [n, d] and [d], each product and sum rounded to float32 in order."""
    padded = -(-codes.shape[1] // _LANES) * _LANES
    products = np.zeros((len(codes), padded), np.float32)
    products[:, : codes.shape[1]] = codes * query
    sums = np.zeros((len(codes), _LANES), np.float32)
    for start in range(0, padded, _LANES):
        sums += products[:, start : start + _LANES]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, half:] + sums[:, :half]
    return sums[:, 0]


def hamming(codes: NDArray[np.uint8], query: NDArray[np.uint8]) -> Ints:
    """Bits in which [n, b] differ from [b]."""
    sums: Ints = np.unpackbits(codes ^ query, axis=1).sum(1, dtype=np.int32)
    return sums


def bits_dot(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> Ints:
    """Dot products of the signs in [n, b], 1 for a set bit and -1 for another, and [8 b]."""
    signs = 2 * np.unpackbits(codes, axis=1, bitorder="little").astype(np.int32) - 1
    return signs @ query.astype(np.int32)


def bits_scaled(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> Ints:
    """The same of all bytes but the last, times the last."""
    return bits_dot(codes[:, :-1], query) * codes[:, -1].astype(np.int32)


def lookup(codes: NDArray[np.uint8], tables: NDArray[np.int16]) -> Ints:
    """Sums over m of tables[m, codes[:, m]]."""
    sums: Ints = tables[np.arange(len(tables)), codes].sum(1, dtype=np.int32)
    return sums


def sparse_dot(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> Ints:
    """Dot products of rows of places and values with [d]; a place beyond d counts nothing."""
    wide = len(query) > 256
    kept = codes.shape[1] // (3 if wide else 2)
    split = 2 * kept if wide else kept
    places = np.ascontiguousarray(codes[:, :split])
    places = places.view("<u2") if wide else places
    values = np.ascontiguousarray(codes[:, split:]).view(np.int8).astype(np.int32)
    whole = np.zeros(65536, np.int32)
    whole[: len(query)] = query
    sums: Ints = (whole[places] * values).sum(1, dtype=np.int32)
    return sums


def top(
    values: NDArray[Any], k: int, positions: NDArray[np.int64] | None = None, lowest: bool = False
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Positions and values of the k best, best first, equal ones by position."""
    if positions is None:
        positions = np.arange(len(values))
    order = np.lexsort((positions, values if lowest else -values))[:k]
    return positions[order], values[order]
