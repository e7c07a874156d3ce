"""Fenced blocks of Markdown: the one reading of ``` for tasks, answers and arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Block", "blocks"]

_FENCE = re.compile(r"```([\w+-]*)[ \t]*\n(.*?)(```|\Z)", re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block.

    Attributes:
        language: As it stands behind the opening fence, in lower case; "" where nothing does.
        text: What is inside.
        closed: False where the text ends before the block does.
        start: Where the opening fence begins.
        inside: Where its text begins.
    """

    language: str
    text: str
    closed: bool
    start: int
    inside: int


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a text in order; the last one may be cut."""
    return [
        Block(found[1].lower(), found[2], bool(found[3]), found.start(), found.start(2))
        for found in _FENCE.finditer(text)
    ]
