"""How well a run went, as one number from 0 to 1: verification, cost and what people said.

    own     = quality · (1 - 0.15·expense)       quality by outcome, or as the caller judged it
    fitness = own                                 where nobody rated
            = 0.25·own + 0.75·rating              where somebody did

expense is how much dearer than its neighbourhood a run was, 0 at the median or below it, 1 from
eight times the median on: a right answer stays better than a cheap wrong one. A rating joins
linearly, so that it can be taken out again when somebody rates anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["QUALITIES", "expense", "joined", "outlier", "own_fitness", "rerated", "robust_z"]

# An answer nobody could check is better than one that failed its check, worse than a checked one.
QUALITIES = {"verified": 1.0, "rated": 0.6, "unknown": 0.6, "failed": 0.2}
_COST = 0.15
_RATED = 0.75
_DOUBLINGS = 3.0  # eight times the median
_TO_SIGMA = 0.6745  # the MAD of a normal distribution is this many standard deviations
# Fitness moves in coarse steps, so a neighbourhood whose runs all went alike has a spread of 0;
# below this one a robust z would call every rounding a breakthrough.
LEAST_MAD = 0.05
OUTLIER = 3.5  # Iglewicz and Hoaglin's
_AS_GOOD = 0.1


def expense(cost: float, neighbours: Sequence[float]) -> float:
    """How dear a run was for its neighbourhood, 0 to 1.

    Args:
        cost: Tokens or seconds; 0 means unknown.
        neighbours: The same of similar runs; zeros are left out.
    """
    known = [one for one in neighbours if one > 0]
    if cost <= 0 or not known:
        return 0.0
    doublings = math.log2(cost / float(np.median(known)))
    return min(max(doublings / _DOUBLINGS, 0.0), 1.0)


def own_fitness(quality: float, *expenses: float) -> float:
    """A run's fitness before anybody rates it: its quality, less what it cost too much."""
    return quality * (1.0 - _COST * max(expenses, default=0.0))


def joined(own: float, rating: float | None) -> float:
    """A run's fitness with what a person said of it, who counts for three quarters."""
    return own if rating is None else (1.0 - _RATED) * own + _RATED * rating


def rerated(fitness: float, former: float | None, rating: float) -> float:
    """The fitness after a rating, where a former one may already be in it."""
    own = fitness if former is None else (fitness - _RATED * former) / (1.0 - _RATED)
    return joined(min(max(own, 0.0), 1.0), rating)


def outlier(value: float, history: Sequence[float]) -> float | None:
    """The robust z of a fitness that is far above its history, else None.

    Far above is 3.5 standard deviations or more, and at most one in ten came nearer to it than to
    the median: where some runs succeed and most fail, the spread is that of the failures, and yet
    another success is nothing new.
    """
    halfway = 0.5 * (value + float(np.median(history)))
    as_good = sum(one >= halfway for one in history)
    score = robust_z(value, history)
    return score if score >= OUTLIER and as_good <= _AS_GOOD * len(history) else None


def robust_z(value: float, history: Sequence[float]) -> float:
    """How many standard deviations a value is above its history's median.

    The spread is the median absolute deviation, which one odd run cannot blow up (Iglewicz and
    Hoaglin, How to detect and handle outliers, 1993), and never below 0.05.
    """
    median = float(np.median(history))
    mad = float(np.median(np.abs(np.asarray(history) - median)))
    return _TO_SIGMA * (value - median) / max(mad, LEAST_MAD)
