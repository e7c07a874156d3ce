"""Words of a text, for the full text query and for scoring where there is no FTS5."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = [
    "MAX_TERMS",
    "Overlap",
    "all_words",
    "distinct_words",
    "match_query",
    "overlap_scores",
    "terms",
    "without_surrogates",
]

# A task of 200,000 characters must not become a query of 30,000 terms.
MAX_TERMS = 32
_WORD = re.compile(r"\w+")
_STOP = frozenset(
    "a about all also am an and any are as at be been being but by can could did do does for from "
    "get had has have he her him his how i if in into is it its just let like me my need no not of "
    "on or our out please she should so some than that the their them then there these they this "
    "those to too up us use want was we were what when where which who why will with would you "
    "your".split()
)
_K1, _B = 1.2, 0.75


def terms(text: str) -> list[str]:
    """Returns the distinct words of a text worth searching for, in order, at most MAX_TERMS.

    Stop words count only where there is nothing else.
    """
    chosen = distinct_words(text[:20_000])
    if len(chosen) > MAX_TERMS:
        # Long words are the rarer ones; order does not matter to the query.
        chosen = sorted(chosen, key=len, reverse=True)[:MAX_TERMS]
    return chosen


def distinct_words(text: str) -> list[str]:
    """Returns every distinct word in order, without stop words where others are left."""
    found = list(dict.fromkeys(all_words(text)))
    return [word for word in found if word not in _STOP] or found


def all_words(text: str) -> list[str]:
    """Returns every word in order, without regard to case.

    Not folded further: no database's full text takes "straße" for "strasse".
    """
    return _WORD.findall(unicodedata.normalize("NFC", text).lower())


def match_query(words: Sequence[str]) -> str:
    """Returns an FTS5 query for any of the words; they hold no quotes."""
    return " OR ".join(f'"{word}"' for word in words)


def overlap_scores(query: Sequence[str], documents: Mapping[int, str]) -> dict[int, float]:
    """Scores documents by BM25 over the words of the query, with only these documents as corpus.

    Args:
        query: Words from `terms`.
        documents: Text by row number.

    Returns:
        Scores above zero by row number.
    """
    return Overlap(documents).scores(query)


class Overlap:
    """Documents whose words are counted once, to be scored for many queries.

    Args:
        documents: Text by row number.
    """

    def __init__(self, documents: Mapping[int, str]) -> None:
        self._holding: dict[str, dict[int, int]] = {}
        lengths: dict[int, int] = {}
        for row, text in documents.items():
            count = Counter(all_words(text))
            lengths[row] = sum(count.values())
            for word, often in count.items():
                self._holding.setdefault(word, {})[row] = often
        self._count = len(documents)
        average = sum(lengths.values()) / max(len(lengths), 1) or 1.0
        self._damping = {
            row: _K1 * (1 - _B + _B * length / average) for row, length in lengths.items()
        }

    def scores(self, query: Sequence[str]) -> dict[int, float]:
        """Returns the BM25 scores above zero by row number."""
        scores: dict[int, float] = {}
        for word in query:
            holding = self._holding.get(word, {})
            rarity = math.log(1 + (self._count - len(holding) + 0.5) / (len(holding) + 0.5))
            for row, often in holding.items():
                share = rarity * often * (_K1 + 1) / (often + self._damping[row])
                scores[row] = scores.get(row, 0.0) + share
        return scores


def without_surrogates(text: str) -> str:
    """Returns the text with lone surrogates, which no tokenizer takes, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
