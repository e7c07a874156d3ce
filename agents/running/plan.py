"""The parts of a task, where it has several: a plan is made only to split, from the words alone.

    1. … 2. … / - … - …         each item that says what to do or asks something; an item has a line
                                to itself, or numbers count 1, 2, 3 behind ends of sentences
    First …, then …; and then   each clause that says what to do or asks something
    … ? … ?                     each question

A model of a billion parameters writes worse plans than the user did, and each plan costs tokens; so
what the user did not write as several parts stays one. What stands before a list is in no part:
`before` has it for those who are given one part alone.
"""

from __future__ import annotations

import re

from ryzanstein.agents.running import prompting

__all__ = ["MOST_PARTS", "before", "parts"]

MOST_PARTS = 6
_ITEM = re.compile(r"^[ \t]*(?:\d{1,2}[.)]|[-*•])[ \t]+(?=\S)", re.M)
_NUMBER = re.compile(r"(?:^|(?<=[.?!:;,]\s))[ \t]*\(?(\d{1,2})[.)][ \t]+(?=\S)")
_THEN = re.compile(
    r"(?:[,;.]\s+(?:and\s+)?|(?<!\s)\s+and\s+)"
    r"(?:then|after that|afterwards|finally|lastly|next)\b[,\s]+",
    re.I,
)
_FIRST = re.compile(r"^\s*(?:first(?:ly)?|to begin with)\b[,:\s]+", re.I)
_SENTENCE = re.compile(r".+?(?:[.?!](?=\s)|$)", re.S)
_BREAK = re.compile(r"\n|(?<=[.?!])\s")
_ORDERS = re.compile(
    r"^(?:please\s+)?(?:now\s+)?(?:add|analy[sz]e|append|build|calculate|change|check|compare|"
    r"compute|convert|count|create|delete|describe|determine|divide|double|draft|draw|estimate|"
    r"explain|export|extract|fetch|filter|find|fix|format|generate|give|group|halve|import|improve|"
    r"list|look|make|measure|merge|move|multiply|name|open|order|plan|plot|print|prove|put|read|"
    r"remember|remove|rename|replace|report|review|round|run|save|say|search|select|show|solve|"
    r"sort|square|state|store|subtract|sum|summari[sz]e|tell|test|translate|update|use|verify|"
    r"write)\b",
    re.I,
)
_ASKS = re.compile(
    r"^(?:and\s+)?(?:what|which|who|whom|whose|when|where|why|how|is|are|was|were|does|do|did|can)\b",
    re.I,
)


def parts(task: str) -> tuple[str, ...]:
    """The parts of a task in order; the task alone where it is one thing."""
    text = task.strip()
    begins = _ITEM.match(text) is not None
    if prompting.asks_for_code(text) and not begins and not _lists_code(text):
        return (text,)  # its rules are one program's
    for split in (_listed, _sequence, _questions):
        found = [part.strip() for part in split(text) if part.strip()]
        if 2 <= len(found) and all(map(_is_task, found)):
            return _at_most(found)
    return (text,)


def before(task: str) -> str:
    """What a task says before its list, "" where it has none."""
    starts = _starts(task)
    return task[: starts[0].start()].strip() if starts else ""


def _listed(text: str) -> list[str]:
    """Items of a list, without what was said before it."""
    items = _items(text)
    return items if all(map(_is_task, items)) else []


def _items(text: str) -> list[str]:
    starts = _starts(text)
    ends = [one.start() for one in starts[1:]] + [len(text)]
    return [text[one.end() : end].strip() for one, end in zip(starts, ends, strict=False)]


def _lists_code(text: str) -> bool:
    """Whether items of a list ask for code from their first sentence on, and nothing around does.

    Rules that come before or behind what asks for a program are that program's.
    """
    if prompting.asks_for_code(before(text)):
        return False
    return all(
        prompting.asks_for_code(_BREAK.split(item, maxsplit=1)[0])
        for item in _items(text)
        if prompting.asks_for_code(item)
    )


def _starts(text: str) -> list[re.Match[str]]:
    """The marks of a list's items."""
    lines = list(_ITEM.finditer(text))
    counted: list[re.Match[str]] = []
    for one in _NUMBER.finditer(text):
        if int(one[1]) == len(counted) + 1:
            counted.append(one)
    return counted if len(counted) > max(1, len(lines)) else lines


def _sequence(text: str) -> list[str]:
    return _THEN.split(_FIRST.sub("", text))


def _questions(text: str) -> list[str]:
    """Questions one after the other; what is said between them goes with the one behind it."""
    found: list[str] = []
    said = ""
    for one in _SENTENCE.findall(text):
        said = f"{said} {one.strip()}".strip()
        if one.rstrip().endswith("?"):
            found.append(said)
            said = ""
    return found if not said else []


def _is_task(text: str) -> bool:
    """Whether a text says what to do, or asks something."""
    last = text.rsplit(". ", 1)[-1].strip()
    return bool(
        _ORDERS.match(text) or _ASKS.match(text) or _ORDERS.match(last) or _ASKS.match(last)
    )


def _at_most(found: list[str]) -> tuple[str, ...]:
    """At most so many parts; what is over stays together in the last."""
    first, rest = found[: MOST_PARTS - 1], found[MOST_PARTS - 1 :]
    return (*first, *(["; ".join(rest)] if rest else []))
