"""Which tools can do a step: by what they say they do, by their words, and by their names.

    score = 1.5 z(cosine) + 0.5 z(words) + 0.1 z(words of the name)

A tool's document is its name, description and example; its vector and word counts are made once.
What a step only shows is said in words as well: a.csv is a file with data, https://… a web page.
z standardises over the tools, as in ryzanstein.memory.fusion: neither side alone will do, since
averaged word vectors miss names and words miss what is said in other words. Works for any tools
that describe themselves, so also for those of external servers. Search with the text of one step,
not of a whole task: a task of several steps finds the tools of one of them.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.text import Overlap, all_words, distinct_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Described", "rank"]

LIMIT = 8
# Chosen on one half of the steps that scripts/bench_retrieval.py measures.
_MEANING, _WORDS, _NAME = 1.5, 0.5, 0.1
# A spread below these is noise among equals and must not be blown up to one.
_LEAST_MEANING, _LEAST_WORDS = 0.05, 0.5
_SUFFIX = re.compile(r"(?<=\w{3})(?:ies|ing|ed|es|s|e|y)$")
_KEPT = 8
_SHOWN = tuple(
    (re.compile(pattern, re.I), words)
    for pattern, words in (
        (r"https?://|\bwww\.", "web page url"),
        (r"\.(db|sqlite3?)\b", "database"),
        (r"\.(csv|tsv|parquet|jsonl)\b", "data file"),
        (r"\.(zip|tar|gz|tgz)\b", "archive"),
        (r"\.pyi?\b", "python code"),
        (r"\b[\w-]+\.(?!com|org|net)[a-z]\w{0,4}\b", "file"),
    )
)


class Described(Protocol):
    """A tool as retrieval sees it."""

    @property
    def name(self) -> str:
        """What it is called by."""

    @property
    def family(self) -> str:
        """Its toolset."""

    @property
    def description(self) -> str:
        """When and how to use it."""

    @property
    def example(self) -> Mapping[str, Any]:
        """Arguments of one call."""


Kind = TypeVar("Kind", bound=Described)


def rank(query: str, tools: Sequence[Kind], limit: int = LIMIT) -> list[Kind]:
    """Returns the tools that fit a step, best first; in their own order where the query is empty.

    Args:
        query: What the step does.
        tools: What there is to choose from; described once, whatever is asked of them.
        limit: At most so many.
    """
    if not tools or not query.strip():
        return list(tools[:limit])
    scores = _index(tuple(map(_texts, tools))).scores(query)
    order = np.argsort(-scores, kind="stable")[:limit]
    return [tools[at] for at in order.tolist()]


def _texts(tool: Described) -> tuple[str, str]:
    """The words of the name, and everything the tool says of itself."""
    name = re.sub(r"[\W_]+", " ", tool.name)
    example = json.dumps(dict(tool.example), ensure_ascii=False) if tool.example else ""
    return name, f"{name}. {tool.description} {example}"


@functools.lru_cache(_KEPT)
def _index(texts: tuple[tuple[str, str], ...]) -> _Index:
    return _Index(texts)


class _Index:
    """Vectors and words of some tools."""

    def __init__(self, texts: Sequence[tuple[str, str]]) -> None:
        self._vectors = get_embedder().embed([text for _, text in texts])
        self._count = len(texts)
        self._documents = _overlap([text for _, text in texts])
        self._names = _overlap([name for name, _ in texts])

    def scores(self, query: str) -> NDArray[np.float64]:
        """Returns how well each tool fits, [tools]."""
        query = " ".join([query, *(words for shown, words in _SHOWN if shown.search(query))])
        cosines = (self._vectors @ get_embedder().embed([query])[0]).astype(np.float64)
        words = [_stem(word) for word in distinct_words(query)]
        found: NDArray[np.float64] = (
            _MEANING * _standardised(cosines, _LEAST_MEANING)
            + _WORDS * _standardised(self._matches(words, self._documents), _LEAST_WORDS)
            + _NAME * _standardised(self._matches(words, self._names), _LEAST_WORDS)
        )
        return found

    def _matches(self, words: Sequence[str], texts: Overlap) -> NDArray[np.float64]:
        found = texts.scores(list(dict.fromkeys(words)))
        return np.array([found.get(at, 0.0) for at in range(self._count)])


def _standardised(values: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (values - values.mean()) / max(float(values.std()), least)
    return result


def _overlap(texts: Sequence[str]) -> Overlap:
    return Overlap({at: " ".join(_stems(text)) for at, text in enumerate(texts)})


def _stems(text: str) -> list[str]:
    return [_stem(word) for word in all_words(text.replace("_", " "))]


def _stem(word: str) -> str:
    """A word without its ending, so that files, filing and file meet."""
    return _SUFFIX.sub("", word)
