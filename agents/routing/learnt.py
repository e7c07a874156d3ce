"""What single examples teach about routing beyond the sum of their vectors.

    features = [ task - m | w·words and pairs | 1 ]
    prior    = s·[ prototypes | w·prototypes of words | 0 ]

Logistic regression over these features is drawn to the prior (`logistic`), so that
it begins as the prototypes do and departs from them only as far as examples ask for it. Words
count for the more, the more experience there is: w² = 1.4·(1 - trust in what is declared).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.agents.routing.grams import Grams
from ryzanstein.agents.routing.logistic import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Learnt", "Rows", "unit"]

_WORDS = 1.4
# Cosines are at most 1; so much sharper are the chances that the regression starts from.
_SCALE = 8.0
_SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class Rows:
    """Example tasks with the place of the agent each belongs to.

    Attributes:
        owners: Int64 [n].
        texts: What was asked.
        weights: What each counts for, float32 [n], not negative.
        vectors: Float32 [n, dimension].
    """

    owners: NDArray[np.int64]
    texts: Sequence[str]
    weights: Floats
    vectors: Floats

    def joined(self, other: Rows) -> Rows:
        """These rows and then the others."""
        return Rows(
            np.concatenate([self.owners, other.owners]),
            [*self.texts, *other.texts],
            np.concatenate([self.weights, other.weights]),
            np.concatenate([self.vectors, other.vectors]),
        )

    def sums(self, vectors: Floats, agents: int) -> Floats:
        """Weighted sums of the rows' vectors by agent, float32 [agents, width]."""
        result = np.zeros((agents, vectors.shape[1]), dtype=np.float32)
        np.add.at(result, self.owners, self.weights[:, None] * vectors)
        return result


class Learnt:
    """Scores agents by examples; made anew when there are more of them.

    Args:
        rows: The examples, declared ones and past tasks.
        descriptions: One text an agent.
        prototypes: Unit prototypes of the vectors, float32 [agents, dimension].
        centre: What is taken from a vector before it is compared.
        alphas: What each description counts for, in examples, float32 [agents].
        trust: In what is declared, 0 to 1; 1 where there is no experience.

    Attributes:
        block: Vectors of words of the rows, their sums by agent, and what they count for.
    """

    def __init__(
        self,
        rows: Rows,
        descriptions: Sequence[str],
        prototypes: Floats,
        centre: Floats,
        alphas: Floats,
        trust: float,
    ) -> None:
        self._centre = centre
        self._grams = Grams([*descriptions, *rows.texts])
        self._width = float(np.sqrt(_WORDS * (1 - trust)))
        words = self._grams.vectors(rows.texts)
        sums = rows.sums(words, len(prototypes))
        sums += alphas[:, None] * self._grams.vectors(descriptions)
        self.block = (words, sums, self._width**2)
        self._words = np.float32(self._width**2) * unit(sums)
        features = self._features(unit(rows.vectors - centre), words)
        prior = self._features(prototypes, unit(sums))
        prior[:, -1] = 0
        prior *= _SCALE
        weights = fit(features, rows.owners, rows.weights, prior)
        self._change: Floats = (weights - prior) / np.float32(_SCALE)

    def scores(self, query: Floats, task: str) -> tuple[Floats, Floats]:
        """What the words of the examples, and what the regression, add to each agent's score.

        Args:
            query: Unit vector of the task, centred.
            task: Its text.
        """
        words = self._grams.vectors([task])
        features = self._features(query[None, :], words)
        return self._words @ words[0], self._change @ features[0]

    def _features(self, vectors: Floats, words: Floats) -> Floats:
        ones = np.ones((len(vectors), 1), dtype=np.float32)
        return np.concatenate([vectors, np.float32(self._width) * words, ones], axis=1)


def unit(vectors: Floats) -> Floats:
    """Rows of length one; zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Floats = vectors / np.maximum(norms, _SMALL)
    return result
