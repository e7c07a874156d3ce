"""Cuts a document into passages along its own structure.

Blocks (paragraphs, list items, code, tables) are packed into passages of LEAST to GOAL words that
never cross a heading. A paragraph above MOST words is cut between sentences, each part repeating
the last short sentence of the one before; code and tables stay whole up to WHOLE words and are cut
between lines, a table's head being repeated. A passage is a slice of its document, so that a
citation of lines is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

__all__ = ["LEAST", "MOST", "Block", "Passage", "passages", "size"]

LEAST, GOAL, MOST, WHOLE = 60, 120, 200, 400
_REPEATED = 40
# A wrong guess at an abbreviation only moves a cut.
_SENTENCE = re.compile(
    r"(?<=[.!?…])[\"'”’»)\]*_]*\s+(?=[\"'“‘«(\[*_]*[^\W_a-zà-öø-ÿ])|(?<=[。！？])|\n\s*\n"
)
_IDEOGRAPH = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_SPACE = re.compile(r"\s+")
_LETTERS = 8


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together.

    Attributes:
        first: Its first line, from 1.
        last: Its last line.
        headings: Titles above it, outermost first.
        kind: prose, code or table.
        head: Lines of a table's head.
    """

    first: int
    last: int
    headings: tuple[str, ...] = ()
    kind: str = "prose"
    head: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that is remembered as one record; fields as those of Block."""

    text: str
    first: int
    last: int
    headings: tuple[str, ...] = ()


def size(text: str) -> float:
    """Returns the words of a text; eight letters count as one word at least, two ideographs too."""
    ideographs = 0 if text.isascii() else len(_IDEOGRAPH.findall(text))
    return max(len(text.split()), len(text) / _LETTERS, ideographs / 2)


def passages(lines: Sequence[str], blocks: Sequence[Block]) -> Iterator[Passage]:
    """Yields the passages of a document in order.

    Args:
        lines: All of its lines.
        blocks: What is in them, in order, without headings.
    """
    group: list[Block] = []
    words = 0.0
    for block in blocks:
        more = size(_slice(lines, block.first, block.last))
        if group and not _fits(group, words, block, more):
            yield _joined(lines, group)
            group, words = [], 0.0
        if more > (MOST if block.kind == "prose" else WHOLE):
            yield from _parts(lines, block)
        else:
            group.append(block)
            words += more
    if group:
        yield _joined(lines, group)


def _fits(group: Sequence[Block], words: float, block: Block, more: float) -> bool:
    if block.headings != group[0].headings:
        return False
    return words + more <= (MOST if words < LEAST else GOAL)


def _slice(lines: Sequence[str], first: int, last: int) -> str:
    return "\n".join(lines[first - 1 : last])


def _joined(lines: Sequence[str], group: Sequence[Block]) -> Passage:
    first, last = group[0].first, group[-1].last
    return Passage(_slice(lines, first, last).strip("\n"), first, last, group[0].headings)


def _parts(lines: Sequence[str], block: Block) -> Iterator[Passage]:
    text = _slice(lines, block.first, block.last)
    if block.kind == "prose":
        spans, repeated = _packed(text, _sentences(text), MOST), _REPEATED
    else:
        spans, repeated = _packed(text, _lines(text), WHOLE), 0
    head = _slice(lines, block.first, block.first + block.head - 1) if block.head else ""
    for number, (_, start, end) in enumerate(spans):
        if number and repeated:
            before = spans[number - 1][0][-1]
            start = before[0] if size(text[slice(*before)]) <= repeated else start
        part = text[start:end].strip("\n" if not repeated else None)
        skipped = len(text[start:end]) - len(text[start:end].lstrip())
        first = block.first + text.count("\n", 0, start + skipped)
        last = first + part.count("\n")
        yield Passage(f"{head}\n{part}" if head and number else part, first, last, block.headings)


_Span = tuple[int, int]


def _packed(text: str, units: Sequence[_Span], most: int) -> list[tuple[list[_Span], int, int]]:
    """Returns even groups of neighbouring spans with the start and end of each."""
    units = [part for unit in units for part in _bounded(text, unit, most)]
    sizes = [size(text[start:end]) for start, end in units]
    goal = sum(sizes) / ceil(sum(sizes) / most)
    groups: list[list[_Span]] = [[]]
    words = 0.0
    for unit, more in zip(units, sizes, strict=True):
        if groups[-1] and words + more / 2 > goal:
            groups.append([])
            words = 0.0
        groups[-1].append(unit)
        words += more
    return [(group, group[0][0], group[-1][1]) for group in groups]


def _sentences(text: str) -> list[_Span]:
    return _between(text, [found.end() for found in _SENTENCE.finditer(text)])


def _lines(text: str) -> list[_Span]:
    return _between(text, [at + 1 for at, letter in enumerate(text) if letter == "\n"])


def _between(text: str, cuts: Sequence[int]) -> list[_Span]:
    """Returns the spans between cuts that hold more than white space."""
    edges = sorted({0, *cuts, len(text)})
    return [(start, end) for start, end in pairwise(edges) if text[start:end].strip()]


def _bounded(text: str, span: _Span, most: int) -> list[_Span]:
    """Cuts a span that is too long, between words where there are any."""
    start, end = span
    if size(text[start:end]) <= most:
        return [span]
    cuts, at = [], start
    words = [found.end() for found in _SPACE.finditer(text, start, end)]
    for previous, here in pairwise([start, *words, end]):
        if here - at > most * 4 and previous > at:
            cuts.append(previous)
            at = previous
        while here - at > most * _LETTERS:
            at += most * _LETTERS
            cuts.append(at)
    return [(a, b) for a, b in pairwise([start, *cuts, end]) if text[a:b].strip()]
