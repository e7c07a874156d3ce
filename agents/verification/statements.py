"""Equations and inequalities that a task states, and values that an answer states for unknowns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Relation", "assignments", "relations", "values"]

_SIGNS = {
    "=": "==",
    "==": "==",
    "≠": "!=",
    "!=": "!=",
    "<=": "<=",
    "≤": "<=",
    ">=": ">=",
    "≥": ">=",
    "<": "<",
    ">": ">",
}
_SPLIT = re.compile(r"(==|!=|<=|>=|≤|≥|≠|=|<|>)")
# A name of one letter, perhaps with an index: longer words are words.
_NAME = r"[A-Za-z](?:_?\d{1,2})?"
_ATOM = rf"(?:\d+(?:\.\d+)?\s*{_NAME}\b|\d+(?:\.\d+)?|{_NAME}\b)"
_SIDE = rf"[-+(]*\s*{_ATOM}(?:\s*[()]*\s*(?:\*\*|[-+*/^×·])\s*[-+(]*\s*{_ATOM}|\s*\))*"
_RELATION = re.compile(
    rf"(?<![\w.)])({_SIDE}(?:\s*(?:==|!=|<=|>=|≤|≥|≠|=|<|>)\s*{_SIDE})+)(?![\w(])"
)
_JUXTAPOSED = re.compile(rf"(\d)\s*(?={_NAME}\b)")
_VALUE = r"[-−]?\d+(?:\.\d+)?(?:/\d+)?"
_ASSIGNED = re.compile(
    rf"(?<![\w.])(?<![-+*/^]\s)(?<![-+*/^(])({_NAME})\s*(?:=|≈|is|equals)\s*({_VALUE})"
    r"(?![\w/]|\.\d|\s*[-+*/^×]\s*[\w(])"
)
_MORE = re.compile(rf"\s*(?:,\s*(?:or|and)?|or|and)\s*({_VALUE})(?![\w/]|\.\d|\s*[-+*/=])")


@dataclass(frozen=True, slots=True)
class Relation:
    """Two sides and the sign between them.

    Attributes:
        text: As it is stated.
        sides: Left and right, as Python expressions.
        sign: ==, !=, <, <=, > or >=.
        names: The unknowns, in order of the alphabet.
    """

    text: str
    sides: tuple[str, str]
    sign: str
    names: tuple[str, ...]

    @property
    def difference(self) -> str:
        """The left side less the right one."""
        return f"({self.sides[0]}) - ({self.sides[1]})"

    def put(self, expression: str, values: Mapping[str, str]) -> str:
        """An expression of it with values in place of unknowns."""
        for name, value in values.items():
            expression = re.sub(rf"\b{re.escape(name)}\b", f"({value})", expression)
        return expression

    def __str__(self) -> str:
        return f"{self.sides[0]} {self.sign} {self.sides[1]}"


def relations(text: str) -> list[Relation]:
    """Equations and inequalities with at least one unknown; a < b < c is two of them."""
    found: list[Relation] = []
    for match in _RELATION.finditer(text):
        parts = [part.strip() for part in _SPLIT.split(match.group(1))]
        for place in range(0, len(parts) - 2, 2):
            made = _relation(parts[place], parts[place + 1], parts[place + 2])
            if made is not None and made not in found:
                found.append(made)
    return found


def _relation(left: str, sign: str, right: str) -> Relation | None:
    sides = (_python(left), _python(right))
    names: set[str] = set()
    for side in sides:
        try:
            tree = ast.parse(side, mode="eval")
        except SyntaxError:
            return None
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if not names:
        return None
    return Relation(f"{left} {sign} {right}", sides, _SIGNS[sign], tuple(sorted(names)))


def _python(side: str) -> str:
    """3x^2 as 3*x**2."""
    side = _JUXTAPOSED.sub(r"\1*", side)
    return side.replace("^", "**").replace("×", "*").replace("·", "*").replace("−", "-").strip()


def values(answer: str, name: str) -> list[str]:
    """The values an answer states for an unknown at last: x = 2, or "x = 2 or 3".

    What stands before the last lines that state one may have been tried and given up.
    """
    found: list[str] = []
    for line in reversed([one for one in answer.splitlines() if one.strip()]):
        stated = list(_stated(line, name))
        if found and not stated:
            break
        found = stated + found
    return list(dict.fromkeys(found))


def _stated(line: str, name: str) -> Iterator[str]:
    for match in _ASSIGNED.finditer(line):
        if match.group(1) != name:
            continue
        yield match.group(2).replace("−", "-")
        end = match.end()
        while more := _MORE.match(line, end):
            yield more.group(1).replace("−", "-")
            end = more.end()


def assignments(answer: str, names: tuple[str, ...]) -> dict[str, str] | None:
    """The last value an answer states for each of the unknowns; None where one has none."""
    stated = {name: values(answer, name) for name in names}
    if not all(stated.values()):
        return None
    return {name: found[-1] for name, found in stated.items()}
