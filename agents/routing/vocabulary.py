"""Which words point to which agent: BM25 over what each agent's profile says.

Averaged word vectors know that Kafka and RabbitMQ are alike, but not that a task that says "FHIR"
is PULSE's and nobody else's. An agent's document is its description, examples and prompt; a word
that few agents use counts for much. Everything is worked out once, so that a task costs one row
of additions a word.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.memory.text import distinct_words, terms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ryzanstein.registry import AgentProfile

__all__ = ["Vocabulary"]

_K1, _B = 1.2, 0.75
_DESCRIPTION = 2
# Words of a profile, on average, from which they count in full.
_RICH = 40
_ENDINGS = ("ing", "ies", "es", "ed", "s")
_SHORTEST = 4


class Vocabulary:
    """Scores every agent by the words of a task.

    Args:
        profiles: The agents, in the order of the scores.

    Attributes:
        richness: How far the profiles say enough for their words to count, 0 to 1.
    """

    def __init__(self, profiles: Sequence[AgentProfile]) -> None:
        documents = [_document(profile) for profile in profiles]
        lengths = np.array([max(sum(one.values()), 1) for one in documents], dtype=np.float32)
        damping = _K1 * (1 - _B + _B * lengths / lengths.mean())
        holders: dict[str, list[int]] = {}
        for at, document in enumerate(documents):
            for word in document:
                holders.setdefault(word, []).append(at)
        self._count = len(documents)
        # Two words a label, as a list of intents has, are no profile to find words in.
        self.richness = min(float(lengths.mean()) / _RICH, 1.0)
        self._documents, self._damping = documents, damping
        self._rarity: dict[str, float] = {}
        self._scores: dict[str, NDArray[np.float32]] = {}
        for word, places in holders.items():
            often = np.zeros(self._count, dtype=np.float32)
            often[places] = [documents[at][word] for at in places]
            rarity = math.log(1 + (self._count - len(places) + 0.5) / (len(places) + 0.5))
            self._rarity[word] = rarity
            self._scores[word] = rarity * often * (_K1 + 1) / (often + damping)

    def scores(self, task: str) -> tuple[NDArray[np.float32], list[str], NDArray[np.float32]]:
        """Scores the agents.

        Returns:
            Scores, float32 [agents]; the task's words that any agent uses; and the share of each
            word in the scores, float32 [words, agents].
        """
        stems = {_stem(word): word for word in terms(task) if _tells(word)}
        known = [stem for stem in stems if stem in self._scores]
        if not known:
            none = np.zeros((0, self._count), dtype=np.float32)
            return none.sum(axis=0), [], none
        shares = np.stack([self._scores[stem] for stem in known])
        return shares.sum(axis=0), [stems[stem] for stem in known], shares

    def score_without(self, example: str, at: int) -> float:
        """Score of an example of an agent's own, as if its profile did not have it."""
        total = 0.0
        for stem in {_stem(word) for word in distinct_words(example) if _tells(word)}:
            often = self._documents[at][stem] - 1
            if often > 0:
                total += self._rarity[stem] * often * (_K1 + 1) / (often + self._damping[at])
        return float(total)


def _document(profile: AgentProfile) -> Counter[str]:
    """Counts the words of a profile; the long prompt must not drown the few examples."""
    document: Counter[str] = Counter()
    for word in distinct_words(f"{profile.domain} {profile.summary}"):
        document[_stem(word)] += _DESCRIPTION
    for example in profile.examples:
        document.update({_stem(word) for word in distinct_words(example)})
    document.update({_stem(word) for word in distinct_words(profile.prompt_text)})
    return document


def _tells(word: str) -> bool:
    # Lone letters and numbers match by chance; two of them are programming languages.
    return (len(word) > 1 and not word.isdigit()) or word in {"c", "r"}


def _stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            return word[: -len(ending)]
    return word
