"""Random weights as a stream of bytes, a few rows at a time.

A tensor's values depend on its name and the seed only, so every format of one shape and seed holds
the same model: the codes and their scale are the same, the embeddings as near as their format is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.synthesize.blocks import (
    TERNARY,
    dense_bytes,
    encode_dense,
    encode_ternary,
    ternary_bytes,
)
from ryzanstein.inference.synthesize.shape import Tensor
from ryzanstein.inference.synthesize.values import generator

__all__ = ["stored_bytes", "stream"]

_AT_ONCE: Final = 1 << 21  # weights turned into bytes at once: 8 MB of floats
# How far a master weight may lie from its code, in units of the distance between codes: with 0.2,
# the mean absolute value of uniform codes is 0.7, and every weight still rounds to its code.
_JITTER: Final = 0.2
_MEAN: Final = (2 + _JITTER / 2) / 3


def stored_bytes(tensor: Tensor, kind: str) -> int:
    """Returns the bytes of a tensor stored as `kind`.

    Raises:
        ValueError: its shape does not fit the layout.
    """
    if kind in TERNARY:
        return ternary_bytes(tensor.shape, kind)
    return dense_bytes(tensor.shape, kind)


def stream(tensor: Tensor, kind: str, seed: int) -> Iterator[memoryview]:
    """Yields the bytes of a tensor stored as `kind`, `stored_bytes` in all."""
    if tensor.make is not None:
        yield encode_dense(tensor.make(seed).reshape(-1, tensor.shape[-1]), kind).data
        return
    random = generator(seed, tensor.key or tensor.gguf)
    if tensor.kind != "ternary":
        around = 1.0 if tensor.kind == "norm" else 0.0
        for rows in _slices(tensor):
            values = random.standard_normal((rows, tensor.shape[-1]), np.float32)
            yield encode_dense(values * np.float32(tensor.scale) + np.float32(around), kind).data
        return
    # Whole, because the packing of transformers joins rows from all over the matrix; a byte a code.
    codes = random.integers(0, 3, tensor.shape, np.uint8)
    if kind in TERNARY:
        yield encode_ternary(codes, tensor.scale, kind).data
        return
    done = 0
    for rows in _slices(tensor):
        yield encode_dense(_masters(codes[done : done + rows], tensor.scale, random), kind).data
        done += rows


def _masters(
    codes: npt.NDArray[np.uint8], scale: float, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Weights that quantising by the mean absolute value turns into these codes and this scale."""
    jitter = random.random(codes.shape, np.float32) * np.float32(2 * _JITTER)
    jitter += codes
    jitter -= np.float32(1 + _JITTER)
    jitter *= np.float32(scale / _MEAN)
    return jitter


def _slices(tensor: Tensor) -> Iterator[int]:
    """Numbers of rows that are done at once; a vector is one row."""
    rows = tensor.size // tensor.shape[-1]
    step = max(1, _AT_ONCE // tensor.shape[-1])
    for start in range(0, rows, step):
        yield min(step, rows - start)
