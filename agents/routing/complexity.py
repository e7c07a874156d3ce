"""How much work a task is, read from its words alone, and what the loop may spend on it.

    direct     one short request: one or two steps, the first answer that passes its check
    reasoned   several steps, a why, a comparison, code that has to meet examples
    searched   a proof, a puzzle, an optimum, a program of many demands: several candidates

Each sign in the text adds points; two make a task reasoned, five make it searched. The signs are
those of the tasks labelled `development` in tests/agents/data/complexity_tasks.yaml; the same
file's `held_out` says how far they carry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Complexity", "Level", "estimate"]

Level = Literal["direct", "reasoned", "searched"]

_REASONED, _SEARCHED = 2, 5
# A sign beyond this many characters is part of a text that was brought along, not of the request.
_LOOKED_AT = 4_000


@dataclass(frozen=True, slots=True)
class Complexity:
    """What a task asks for.

    Attributes:
        level: direct, reasoned or searched.
        reasons: The signs that speak for it, the strongest first.
        steps: Steps the loop should need at most.
        candidates: Answers to try where a check can tell the right one (n of best-of-n).
        temperature: Of the candidates after the first.
    """

    level: Level
    reasons: tuple[str, ...]
    steps: int
    candidates: int
    temperature: float


_BUDGETS: dict[Level, tuple[int, int, float]] = {
    "direct": (4, 2, 0.3),
    "reasoned": (8, 5, 0.6),
    "searched": (12, 8, 0.8),
}


@dataclass(frozen=True, slots=True)
class _Sign:
    """A pattern, what each of its finds adds, and what they add at most."""

    name: str
    pattern: re.Pattern[str]
    points: int
    most: int


def _sign(name: str, points: int, most: int, pattern: str) -> _Sign:
    return _Sign(name, re.compile(pattern, re.IGNORECASE), points, most)


_SIGNS = (
    _sign("a list of steps", 1, 4, r"(?:^|\n)[ \t]*(?:\d+[.)]|[-*])[ \t]+\S"),
    _sign(
        "one thing after another",
        2,
        4,
        r"\b(?:and then|then|after that|afterwards|finally|step by step|"
        r"first (?:find|read|check))\b",
    ),
    _sign(
        "a proof",
        5,
        5,
        r"\b(?:prove|proof|disprove|counter-?example|show that|by induction)\b",
    ),
    _sign(
        "conditions to meet all at once",
        5,
        5,
        r"\b(?:so that (?:no|none|nobody|every|each|as)|such that|subject to|constraints?|"
        r"where each|(?:nobody|no one|none) (?:gets|has|works|sits))\b",
    ),
    _sign(
        "an optimum",
        5,
        5,
        r"\b(?:optimal|optimi[sz]e|minimi[sz]e|maximi[sz]e|"
        r"as (?:few|little|many|much) \w+ as possible|"
        r"shortest (?:tour|path|route|way)|(?:lowest|highest) (?:total|possible)|"
        r"(?:smallest|largest|least|greatest) (?:integer|number|set|value)s? (?:that|such|with))\b",
    ),
    _sign(
        "a puzzle",
        5,
        5,
        r"\b(?:sudoku|riddle|puzzle|cryptarithm\w*|queens|knight'?s tour|knapsack|solutions of|"
        r"[A-Z]{3,} \+ [A-Z]{3,} = [A-Z]{3,})\b",
    ),
    _sign("a comparison", 2, 2, r"\b(?:compare|versus|vs\.?|trade-?offs?|pros and cons|weigh)\b"),
    _sign(
        "a why",
        2,
        2,
        r"\b(?:why|explain how|root cause|debug|diagnose|crash\w*|fails?|wrong|bug)\b",
    ),
    _sign(
        "a plan or design",
        2,
        2,
        r"\b(?:plan|design|architecture|strategy|refactor|migrate|migration|review|audit|"
        r"set up|analy[sz]e)\b",
    ),
    _sign("code with examples to meet", 3, 3, r">>> |\bassert \w|\bdef \w+\("),
)
_FIGURE = re.compile(r"(?<![\w.])\d[\d.,:]*(?!\w)")
# From so many figures on they are worked with in steps, not looked up.
_FIGURES = 5
_PROGRAM = re.compile(r"\b(?:write|implement|build|program|develop)\b", re.IGNORECASE)
_DEMAND = re.compile(r",|\band\b", re.IGNORECASE)
_DEMANDS = 4
_LONG = 60


def estimate(task: str) -> Complexity:
    """Says how much work a task is; about a tenth of a millisecond."""
    text = task[:_LOOKED_AT]
    found = [
        (min(times * sign.points, sign.most), sign.name)
        for sign in _SIGNS
        if (times := len(sign.pattern.findall(text)))
    ]
    found += _amounts(text)
    points = sum(each for each, _ in found)
    level: Level = (
        "searched" if points >= _SEARCHED else "reasoned" if points >= _REASONED else "direct"
    )
    reasons = tuple(name for _, name in sorted(found, key=lambda one: -one[0]))
    return Complexity(level, reasons, *_BUDGETS[level])


def _amounts(text: str) -> list[tuple[int, str]]:
    """What counts only in number: words, figures in prose, demands on a program."""
    found = []
    words = len(text.split())
    if words > _LONG:
        found.append((2, "a long request"))
    if len(_FIGURE.findall(text)) >= _FIGURES and ">>>" not in text:
        found.append((2, "many figures"))
    program = _PROGRAM.search(text)
    if program is not None and words <= _LONG:
        demands = len(_DEMAND.findall(text, program.end()))
        if demands >= _DEMANDS:
            found.append((5, "many demands on a program"))
    return found
