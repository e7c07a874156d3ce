"""Writes a constraint as a Python expression: the signs and words of logic, and its arrows."""

from __future__ import annotations

import re

__all__ = ["as_python"]

_SIGNS = str.maketrans(
    {"∧": " and ", "∨": " or ", "¬": " not ", "→": "->", "↔": "<->", "⇒": "->", "⇔": "<->"}
    | {"≤": "<=", "≥": ">=", "≠": "!=", "×": "*", "−": "-", "⊕": " xor ", "^": "**"}
)
_WORDS = (
    (re.compile(r"<=>"), "<->"),
    (re.compile(r"(?<![<>])=>"), "->"),
    (re.compile(r"\s+implies\s+"), " -> "),
    (re.compile(r"\s+iff\s+"), " <-> "),
    (re.compile(r"&&?"), " and "),
    (re.compile(r"\|\|?"), " or "),
    (re.compile(r"!(?!=)"), " not "),
    (re.compile(r"(?<![<>=!:])=(?!=)"), "=="),
    (re.compile(r"([=!]=)\s*not\s+(\w+)"), r"\1 (not \2)"),
)
_ARROWS = ("<->", "->", " xor ")


def as_python(line: str) -> str:
    """Returns a line with `and`, `or`, `not`, `==`, and calls of implies, iff and xor."""
    text = line.translate(_SIGNS)
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    return _without_arrows(text).strip()


def _without_arrows(text: str) -> str:
    """Writes a -> b as implies(a, b): Python has no such operators."""
    return ", ".join(_arrow(part) for part in _split(text, ","))


def _arrow(text: str) -> str:
    for mark, name in zip(_ARROWS, ("iff", "implies", "xor"), strict=True):
        left, *rest = _split(text, mark)
        if rest:
            return f"{name}({_arrow(left)}, {_arrow(mark.join(rest))})"
    return _in_brackets(text)


def _in_brackets(text: str) -> str:
    """Rewrites what stands inside each outermost bracket."""
    made, depth, start = [], 0, 0
    for position, letter in enumerate(text):
        if letter in "([":
            depth += 1
            if depth == 1:
                made.append(text[start : position + 1])
                start = position + 1
        elif letter in ")]":
            depth -= 1
            if depth == 0:
                made.append(_without_arrows(text[start:position]))
                start = position
    return "".join(made) + text[start:]


def _split(text: str, mark: str) -> list[str]:
    """Splits at a mark outside of brackets."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        depth += (text[position] in "([") - (text[position] in ")]")
        arrow_of_two = mark == "->" and text[position - 1 : position] == "<"
        if depth == 0 and text.startswith(mark, position) and not arrow_of_two:
            parts.append(text[start:position])
            position += len(mark)
            start = position
        else:
            position += 1
    return [*parts, text[start:]]
