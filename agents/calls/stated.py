"""Which optional arguments a task states: small models fill in the others with inventions.

    text, one of a list   a word of it is in the task, or begins like one there
    number                it is in the task, in digits or words, or as a percentage
    flag                  the task speaks of what the flag is named after
    list, object          anything in it is stated

What a task does not state has a default that whoever wrote the tool chose; an invented value is
worse than that. Required arguments are never touched.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Final

from ryzanstein.memory.text import distinct_words

__all__ = ["stated"]

_NUMBERS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
).split()
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
# Words this long mean the same where they begin the same: annual, annually.
_ALIKE: Final = 4
# Words of names of flags that say nothing of what the flag is about.
_EMPTY: Final = frozenset(
    "include included use with show get is has enable enabled return optional flag whether".split()
)


def stated(task: str, arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments without the optional ones that the task does not state."""
    required = schema.get("required")
    required = required if isinstance(required, list | tuple) else ()
    task = task.lower()
    return {
        name: value
        for name, value in arguments.items()
        if name in required or _in(task, name, value)
    }


def _in(task: str, name: str, value: Any) -> bool:
    if isinstance(value, bool):
        words = [word for word in _words(name.replace("_", " ")) if word not in _EMPTY]
        return any(_said(task, word) for word in words)
    if isinstance(value, int | float):
        return _counted(task, value)
    if isinstance(value, str):
        return any(_said(task, word) for word in _words(value))
    if isinstance(value, list):
        return any(_in(task, name, one) for one in value)
    if isinstance(value, dict):
        return any(_in(task, key, one) for key, one in value.items())
    return False


def _words(text: str) -> list[str]:
    return [
        word for word in distinct_words(text.replace("_", " ")) if len(word) > 1 or text == word
    ]


def _said(task: str, word: str) -> bool:
    if word in task:
        return True
    begins = word[: max(_ALIKE, len(word) - 3)]
    return len(word) > _ALIKE and re.search(rf"\b{re.escape(begins)}", task) is not None


def _counted(task: str, value: float) -> bool:
    given = {float(found.replace(",", "")) for found in _NUMBER.findall(task)}
    given |= {float(at) for at, word in enumerate(_NUMBERS) if re.search(rf"\b{word}\b", task)}
    # A model may write digits without end: more than a float holds.
    size = min(abs(value), sys.float_info.max)
    return any(abs(float(size) * scale - one) < 1e-9 for one in given for scale in (1, 100))
