"""Whether a task is one for these agents at all.

    z      = mean of (best score - μ)/σ and (nearest example - μ)/σ
    scope  = 1 / (1 + exp(-(a + b·z - c·outside)))

μ and σ are those of the examples themselves, each scored without what it adds to its own agent, so
that they fit any set of agents and move with experience. `outside` is by how many σ a declared
task that no agent does (routing.elsewhere) is nearer than any example. a, b and c are those of a
logistic regression over agents/bench/routing_tasks.yaml, with ten tasks in scope to one outside;
`ryzanstein bench routing` prints what is refused rightly and wrongly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.agents.routing.learnt import Rows, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["REFUSED_BELOW", "Scope", "Spread"]

# A task refused wrongly is worse than one tried in vain: of 300 word problems of GSM8K 1 % lie
# below, of everyday tasks none, of tasks outside almost half.
REFUSED_BELOW = 0.2
_OFFSET, _SLOPE, _OUTSIDE = 3.3, 2.2, 2.15
# μ and σ of more examples are no better, and each is compared with all.
_SAMPLED = 400
_SMALL = 1e-6


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and standard deviation of a score over tasks that are in scope."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Floats) -> Spread:
        """That of some values; of none, one that leaves scores as they are."""
        if not len(values):
            return cls(0.0, 1.0)
        return cls(float(values.mean()), max(float(values.std()), _SMALL))

    def standard(self, value: float) -> float:
        """How many deviations a value lies above the mean."""
        return (value - self.mean) / self.deviation


class Scope:
    """Compares a task with the examples and with what no agent does.

    Args:
        near: Unit vectors of all examples, float32 [n, dimension].
        outside: Unit vectors of declared tasks that no agent does, float32 [m, dimension].
        chosen: Places of some examples.
        best: Best score of each of these, without what it adds itself.
    """

    def __init__(
        self, near: Floats, outside: Floats, chosen: NDArray[np.int64], best: Floats
    ) -> None:
        self._near, self._outside = near, outside
        similar = near[chosen] @ near.T
        similar[np.arange(len(chosen)), chosen] = -1
        self._similar = Spread.of(similar.max(axis=1, initial=-1.0))
        self._best = Spread.of(best)

    def z(self, query: Floats, best: float) -> tuple[float, float]:
        """How well a task fits, and by how much what no agent does is nearer.

        Args:
            query: Unit vector of the task, centred.
            best: The best agent's score, without what the task says outright.
        """
        # As a product, thousands of rows wake the threads of the library: 20 ms on a busy machine.
        near = float(np.vecdot(self._near, query).max(initial=-1.0))
        outside = float((self._outside @ query).max(initial=-1.0))
        z = (self._best.standard(best) + self._similar.standard(near)) / 2
        return z, max(outside - near, 0.0) / self._similar.deviation

    def probability(self, query: Floats, best: float) -> float:
        """Probability that the task is in scope; the arguments are those of `z`."""
        z, outside = self.z(query, best)
        logit = _OFFSET + _SLOPE * z - _OUTSIDE * outside
        return 0.5 * (1 + math.tanh(logit / 2))  # as exp overflows far outside


def sampled(count: int) -> NDArray[np.int64]:
    """Places of some of many rows, evenly spread."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, _SAMPLED)).astype(np.int64))


def without_own(
    rows: Rows, chosen: NDArray[np.int64], vectors: Floats, sums: Floats, share: float
) -> Floats:
    """Cosines of some rows with all agents' sums, with that of its own agent less its own part.

    Args:
        rows: All examples.
        chosen: Those to score.
        vectors: What each row adds to its agent's sum, float32 [n, width].
        sums: What agents' rows (and declarations) add up to, float32 [agents, width].
        share: What a cosine counts for.

    Returns:
        Float32 [chosen, agents].
    """
    own = unit(vectors[chosen])
    result: Floats = own @ unit(sums).T
    owners = rows.owners[chosen]
    rest = unit(sums[owners] - rows.weights[chosen, None] * vectors[chosen])
    result[np.arange(len(chosen)), owners] = np.einsum("ij,ij->i", rest, own)
    return share * result
