"""The parts of a task as a graph: which can be worked on side by side, and which need others.

A part waits for those before it whose result it speaks of ("then add 5 to that", "compare both"),
and for those that write a file it names. Everything else runs at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ryzanstein.agents.running import plan, prompting
from ryzanstein.agents.running.menu import FILE

__all__ = ["Part", "split"]

# "Please do this:" says nothing that a part needs.
MOST_IDLE_WORDS = 3
_ONE_BACK = re.compile(
    r"\b(it|its|that|this)\b(?!\s+(?:is|was|the|a|an|are)\b)|"
    r"\b(?:the|your|this|that) (?:result|answer|value|number|sum|total|output|function|list|file|"
    r"table|text|code)\b|\b(?:previous|last|former) (?:part|step|result|answer)\b",
    re.I,
)
_ALL_BACK = re.compile(
    r"\b(both|these|those|them|all of (?:them|it)|the (?:two|three|four|results|answers|values|"
    r"numbers))\b",
    re.I,
)
_STEP_BACK = re.compile(r"\b(?:step|part|item|question|point)s? (\d)\b|\((\d)\)", re.I)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a task.

    Attributes:
        index: Its place, from 0.
        text: What is to be done, in the user's words.
        after: The parts whose results it needs.
    """

    index: int
    text: str
    after: tuple[int, ...] = ()


def split(task: str) -> tuple[Part, ...]:
    """Splits a task at the seams its words show; one part where there are none.

    Who does a part sees nothing else of the task, so each has what stands before their list.
    """
    texts = plan.parts(task)
    before = plan.before(task) if len(texts) > 1 else ""
    listed = texts[0] not in before
    opening = f"{before}\n" if listed and len(before.split()) > MOST_IDLE_WORDS else ""
    return tuple(Part(at, opening + text, _after(at, texts)) for at, text in enumerate(texts))


def _after(at: int, texts: tuple[str, ...]) -> tuple[int, ...]:
    text = texts[at]
    needed = {other for other in range(at) if _shares_a_file(texts[other], text)}
    named = {int(one or two) - 1 for one, two in _STEP_BACK.findall(text)}
    needed |= {other for other in named if 0 <= other < at}
    if _ALL_BACK.search(text):
        needed |= set(range(at))
    elif at and not named and _ONE_BACK.search(_without_files(text)):
        needed.add(at - 1)
    return tuple(sorted(needed))


def _shares_a_file(earlier: str, later: str) -> bool:
    """Whether both name a file that one of them writes: then their order matters."""
    shared = {*FILE.findall(earlier)} & {*FILE.findall(later)}
    return bool(shared) and any(map(prompting.asks_to_write, (earlier, later)))


def _without_files(text: str) -> str:
    """A text whose file is named: "this file notes.md" speaks of no earlier part."""
    return (
        re.sub(r"\b(?:this|that|the) (?:file|table|text)\b", "", text)
        if FILE.search(text)
        else text
    )
