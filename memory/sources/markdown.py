"""Markdown into blocks with their headings and lines; CommonMark with tables, by markdown-it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from ryzanstein.memory.sources.chunks import Block, Passage, passages

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["front_matter", "markdown_passages"]

_FENCE = re.compile(r"-{3,}\s*")
_TITLE = re.compile(r"title:\s*[\"']?(.+?)[\"']?", re.IGNORECASE)


def markdown_passages(text: str) -> list[Passage]:
    """Returns the passages of a Markdown document."""
    lines = text.split("\n")
    skipped, title = front_matter(lines)
    # Blank lines in its place keep the numbers of those below.
    parsed = "\n".join([""] * skipped + lines[skipped:])
    blocks = [Block(1, skipped, kind="code")] if skipped else []
    blocks += _blocks(_parser(words=False).parse(parsed), lines, title)
    return list(passages(lines, blocks))


def front_matter(lines: Sequence[str]) -> tuple[int, str | None]:
    """Returns how many lines a YAML head takes, and the title it gives."""
    if not lines or not _FENCE.fullmatch(lines[0]):
        return 0, None
    for number, line in enumerate(lines[1:200], start=1):
        if _FENCE.fullmatch(line):
            titles = (_TITLE.fullmatch(one[:500].rstrip()) for one in lines[1:number])
            return number + 1, next((found[1] for found in titles if found), None)
    return 0, None


@cache
def _parser(*, words: bool) -> MarkdownIt:
    """Of blocks only, or of words too: those of headings are all that is asked for."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    return parser if words else parser.disable("inline")


def _blocks(tokens: Sequence[Token], lines: Sequence[str], title: str | None) -> Iterator[Block]:
    above: list[tuple[int, str]] = [] if title is None else [(0, title)]
    for at, token in enumerate(tokens):
        if token.map is None or not _is_block(token):
            continue
        if token.type == "heading_open":
            level = int(token.tag[1:])
            above = [
                *(one for one in above if one[0] < level),
                (level, _words(tokens[at + 1].content)),
            ]
            continue
        first, last = token.map[0] + 1, token.map[1]
        while last > first and not lines[last - 1].strip():
            last -= 1
        kind, head = _KINDS.get(token.type, ("prose", 0))
        yield Block(first, last, tuple(name for _, name in above if name), kind, head)


_KINDS = {"fence": ("code", 0), "code_block": ("code", 0), "table_open": ("table", 2)}


def _is_block(token: Token) -> bool:
    """The outermost blocks, but a list's items instead of the list."""
    if token.type == "list_item_open":
        return token.level == 1
    opens = token.nesting >= 0 and token.type not in ("bullet_list_open", "ordered_list_open", "hr")
    return token.level == 0 and opens and token.type != "inline"


def _words(heading: str) -> str:
    (inline,) = _parser(words=True).parseInline(heading)
    parts = [one.content for one in inline.children or () if one.type in ("text", "code_inline")]
    return " ".join("".join(parts).split())
