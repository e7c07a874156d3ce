"""Thompson sampling: whom to ask when some are known well, some a little, and some not at all.

Thompson, On the likelihood that one unknown probability exceeds another, 1933; Agrawal and Goyal,
Analysis of Thompson sampling, 2012 (regret grows with the logarithm of the time). Each candidate
has a Beta distribution over how good it is at such a task:

    alpha = 1 + Σ weight·quality        beta = 1 + Σ weight·(1 - quality)

over its past tasks, each weighted by how similar it is to this one. One draw from each, the
highest wins: the good ones are asked most, and nobody is given up on before it was tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Belief", "Draw", "belief", "ranked"]


@dataclass(frozen=True, slots=True)
class Belief:
    """A Beta distribution over how good one is, both parameters above 0."""

    alpha: float = 1.0
    beta: float = 1.0

    @property
    def mean(self) -> float:
        """What is expected."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def weight(self) -> float:
        """How much experience is behind it, in tasks just like this one."""
        return self.alpha + self.beta - 2.0


@dataclass(frozen=True, slots=True)
class Draw:
    """A candidate, what was drawn for it, and from what."""

    name: str
    value: float
    belief: Belief


def belief(outcomes: Iterable[tuple[float, float]]) -> Belief:
    """Adds up past tasks, each a quality from 0 to 1 and a weight of at least 0."""
    alpha = beta = 1.0
    for quality, weight in outcomes:
        if not (0.0 <= quality <= 1.0 and weight >= 0.0):
            raise ValueError(f"no quality and weight: {quality}, {weight}")
        alpha += weight * quality
        beta += weight * (1.0 - quality)
    return Belief(alpha, beta)


def ranked(beliefs: Mapping[str, Belief], random: np.random.Generator) -> list[Draw]:
    """Draws once from every belief; highest first."""
    names = sorted(beliefs)  # so that a seed gives the same draws whatever the order
    draws = [
        Draw(n, float(random.beta(beliefs[n].alpha, beliefs[n].beta)), beliefs[n]) for n in names
    ]
    return sorted(draws, key=lambda one: -one.value)
