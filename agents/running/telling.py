"""Whether a task speaks of a tool: small models are misled by tools that only look alike.

A word tells of a tool where the tool says it in its name or first sentence and at most two others
do: `derivative`, `units`, `archive`, not `file`, `value` or `find`. Of the tools that fit best, any
word of the name will do. So a general tool that has
proven itself, such as run_python, is not crowded out by sixty that each do one thing well, and each
of those is offered where the words of the task call for it.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from ryzanstein.agents.clients.services import ToolSpec

__all__ = ["spoken_of"]

MOST_TOOLS = 3
BEST = 2
_WORD = re.compile(r"[a-z]{4,}")
_SUFFIX = re.compile(r"(?:ations?|ions?|ing|ed|es|s|e|y)$")
_COMMON = frozenset(
    "what which when where that this with from have does many much there their about into than "
    "then them they will would should could each other some more most such only just like also "
    "your mine make give tell show find need want write using used time name names word words "
    "line lines whole part first last next before after between over every more text file files "
    "value values result results number numbers simple short three four five list lists long "
    "year years month months many order ordered same different change changed changes code python "
    "function functions".split()
)


def spoken_of(task: str, tools: Sequence[ToolSpec], found: Sequence[str] = ()) -> set[str]:
    """Names of the tools of which a task says a telling word.

    Args:
        task: What the user asked.
        tools: Every tool there is, so that it is known which words tell.
        found: Names of those that fit the task, best first; a word of the name of one of the best
            tells, however many others have it.
    """
    said = _stems(task)
    telling = _telling(tuple((tool.name, tool.line) for tool in tools))
    called = {name for name, words in telling.items() if words & said}
    return called | {name for name in found[:BEST] if _stems(name.replace("_", " ")) & said}


@functools.lru_cache(4)
def _telling(tools: tuple[tuple[str, str], ...]) -> Mapping[str, frozenset[str]]:
    words = {name: _stems(f"{name.replace('_', ' ')} {line}") for name, line in tools}
    spread = Counter(word for found in words.values() for word in found)
    return {
        name: frozenset(word for word in found if spread[word] <= MOST_TOOLS)
        for name, found in words.items()
    }


def _stems(text: str) -> frozenset[str]:
    found = (word for word in _WORD.findall(text.lower()) if word not in _COMMON)
    return frozenset(_SUFFIX.sub("", word) if len(word) > 4 else word for word in found)
