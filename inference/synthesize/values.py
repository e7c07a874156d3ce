"""Values that are more than normal noise: decays, time steps and what is derived from them.

A `Make` gives all values of a tensor for a seed. They depend on its key and the seed only, so a
tensor that one format stores transposed, negated or beside others is the same in every format.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Fill", "Floats", "Make", "drawn", "generator", "joined", "noise", "turned"]

Floats = npt.NDArray[np.float32]
Make = Callable[[int], Floats]
Fill = Callable[[np.random.Generator], npt.NDArray[Any]]


def generator(seed: int, key: str) -> np.random.Generator:
    """Returns the source of one tensor's values."""
    return np.random.default_rng((seed, zlib.crc32(key.encode())))


def drawn(key: str, fill: Fill) -> Make:
    """Draws the values of a key."""
    return lambda seed: np.asarray(fill(generator(seed, key)), np.float32)


def noise(shape: tuple[int, ...], scale: float, around: float = 0.0) -> Fill:
    """Normal values."""
    return lambda random: around + scale * random.standard_normal(shape, np.float32)


def turned(make: Make, change: Callable[[Floats], Floats]) -> Make:
    """The same values in another form."""
    return lambda seed: np.ascontiguousarray(change(make(seed)), np.float32)


def joined(makes: Sequence[Make]) -> Make:
    """Several tensors of one shape under one another, along a new first axis."""
    return lambda seed: np.stack([make(seed) for make in makes])
