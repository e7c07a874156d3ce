"""What a search reads of turns: where they stand, who said them, how much they say, and when.

A record is a turn where it has a conversation and a place in it. Passages of a document have them
too and are none: each of them says what it says by itself, and a search for words of one passage
finds it first in 85 of 100 cases without its neighbours and in 75 with them (506 passages of
WikiText, four words of a sentence). Neighbours are of the same session.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Row, case, func

from ryzanstein.memory.dates import Stretch
from ryzanstein.memory.records import PASSAGE
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.text import all_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AT", "TURN_COLUMNS", "no_sides", "places_around", "turn_sides"]

# How much a turn says is known from its beginning.
_READ = 1_000
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_WEEK = 7 * 86_400.0

TURN_COLUMNS: tuple[Any, ...] = (
    MemoryRow.session,
    case((MemoryRow.kind != PASSAGE, MemoryRow.turn)).label("turn"),
    MemoryRow.speaker,
    func.substr(MemoryRow.text, 1, _READ).label("beginning"),
)
# Read only where the query names a time.
AT = func.coalesce(MemoryRow.happened, MemoryRow.created, type_=MemoryRow.created.type).label("at")


def places_around(known: Iterable[Row[Any]], reach: int) -> list[tuple[str, int]]:
    """Lists the places, (conversation, turn), within reach of what is known and not known yet."""
    there = {
        (one.conversation, one.turn)
        for one in known
        if one.conversation is not None and one.turn is not None
    }
    offsets = range(-reach, reach + 1)
    return sorted({(name, turn + offset) for name, turn in there for offset in offsets} - there)


def turn_sides(query: str, known: Sequence[Row[Any]], stretch: Stretch | None) -> dict[str, Any]:
    """Returns the sides of a search that only memories have, as arrays [n] of `Candidates`.

    Args:
        query: What is looked for.
        known: Rows of TURN_COLUMNS and those of a memory's standing; AT where there is a stretch.
        stretch: The time that the query names.
    """
    groups: dict[tuple[str, str | None], int] = {}
    numbers = [
        -1
        if one.conversation is None or one.turn is None
        else groups.setdefault((one.conversation, one.session), len(groups))
        for one in known
    ]
    asked = frozenset(all_words(query))
    speakers = {one.speaker for one in known if one.speaker}
    named = {speaker: float(not asked.isdisjoint(all_words(speaker))) for speaker in speakers}
    substance = [
        _substance(one.beginning) if number >= 0 else 0.0
        for one, number in zip(known, numbers, strict=True)
    ]
    return {
        "groups": np.array(numbers, dtype=np.int64),
        "turns": np.array([one.turn or 0 for one in known], dtype=np.int64),
        "speaker": np.array([named.get(one.speaker, 0.0) for one in known]),
        "substance": np.array(substance),
        "time": np.zeros(len(known)) if stretch is None else _closeness(known, stretch),
    }


def no_sides(count: int) -> dict[str, Any]:
    """The same of n rows that are no memories."""
    zeros = np.zeros(count)
    return {
        "groups": np.full(count, -1),
        "turns": np.zeros(count, dtype=np.int64),
        "speaker": zeros,
        "substance": zeros,
        "time": zeros,
    }


def _substance(text: str) -> float:
    """Logarithm of one and the words of what is stated: a turn that only asks says nothing."""
    if "?" not in text:
        return math.log1p(len(text.split()))
    stated = (part for part in _SENTENCE.findall(text) if not part.endswith("?"))
    return math.log1p(sum(len(part.split()) for part in stated))


def _closeness(known: Sequence[Row[Any]], stretch: Stretch) -> NDArray[np.float64]:
    """1 for what happened in the stretch of time, falling with the distance from it."""
    start, end = (moment.timestamp() for moment in stretch)
    at = np.array([one.at.timestamp() for one in known])
    gap = np.maximum(np.maximum(start - at, at - end), 0.0)
    closeness: NDArray[np.float64] = np.exp(-gap / max(end - start, _WEEK))
    return closeness
