"""How far a measured share can be trusted, and a difference of two on the same problems."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["difference", "mcnemar", "wilson"]

_Z = 1.959964
_RESAMPLES = 10_000


def wilson(right: int, total: int) -> tuple[float, float]:
    """Bounds of a share with 95 % confidence, in 0..1 (Wilson, 1927)."""
    if total == 0:
        return 0.0, 1.0
    share, square = right / total, _Z * _Z
    middle = (share + square / (2 * total)) / (1 + square / total)
    width = math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    half = _Z * width / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(
    before: Sequence[bool], after: Sequence[bool], seed: int = 0
) -> tuple[float, float, float]:
    """The mean of after - before and its 95 % bounds, by a paired bootstrap over problems."""
    gains = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    if gains.size == 0:
        return 0.0, -1.0, 1.0
    drawn = np.random.default_rng(seed).integers(0, gains.size, (_RESAMPLES, gains.size))
    low, high = np.quantile(gains[drawn].mean(axis=1), [0.025, 0.975])
    return float(gains.mean()), float(low), float(high)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """The exact two-sided p-value that both are right equally often (McNemar, 1947)."""
    gained = sum(b < a for b, a in zip(before, after, strict=True))
    lost = sum(b > a for b, a in zip(before, after, strict=True))
    count = gained + lost
    tail = sum(math.comb(count, k) for k in range(min(gained, lost) + 1)) / 2**count
    return float(min(1.0, 2 * tail))
