"""WebVTT and SubRip: short cues on a clock, joined into turns.

    00:01:02.000 --> 00:01:05.500
    <v Ada>What is said          WebVTT's voice, or "Ada: What is said"

Neighbouring cues of one speaker are one turn until a pause, or the end of a sentence once there
are enough words for a passage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from html import unescape
from itertools import groupby

from ryzanstein.memory.sources.chunks import LEAST
from ryzanstein.memory.sources.turns import Turn

__all__ = ["is_subtitles", "read_subtitles"]

_CLOCK = r"(?:(\d+):)?([0-5]\d):([0-5]\d)[.,](\d{3})"
_CUE = re.compile(rf"{_CLOCK}\s{{1,9}}-->\s{{1,9}}{_CLOCK}(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^\s>]{0,80})?\s{1,3}([^>]{1,120})>")
_TAG = re.compile(r"</?[^<>\n]{0,120}>")
_NAMED = re.compile(r"([^\W\d_][^:.!?<>\n]{0,40}?):\s+(?=\S)")
_PAUSE = 4.0


@dataclass(frozen=True, slots=True)
class _Cue:
    start: float
    end: float
    speaker: str | None
    text: str


def is_subtitles(text: str) -> bool:
    """Whether a text begins as WebVTT or SubRip does."""
    head = text.lstrip("\ufeff \n").split("\n", 3)
    return head[0].startswith("WEBVTT") or any(_CUE.fullmatch(line.strip()) for line in head[:2])


def read_subtitles(text: str, *, begins: datetime | None = None) -> list[Turn]:
    """Returns the turns of a WebVTT or SubRip file.

    Args:
        text: All of it.
        begins: When the recording began; without it no turn has a time, only a place.

    Raises:
        ValueError: A cue's times are wrong, or there is no cue; the line is named.
    """
    turns: list[Turn] = []
    joined: _Cue | None = None
    for cue in _cues(text):
        if joined is not None and _continues(joined, cue):
            joined = replace(joined, end=cue.end, text=f"{joined.text} {cue.text}")
            continue
        if joined is not None:
            turns.append(_turn(joined, begins))
        joined = cue
    if joined is None:
        raise ValueError("line 1: there is no cue")
    return [*turns, _turn(joined, begins)]


def _cues(text: str) -> Iterator[_Cue]:
    for first, lines in _blocks(text.split("\n")):
        at = next((at for at, line in enumerate(lines[:2]) if "-->" in line), None)
        if at is None:
            continue  # a header, a note, a style
        found = _CUE.fullmatch(lines[at].strip())
        if found is None:
            raise ValueError(f"line {first + at}: {lines[at][:60]!r} is not a cue's times")
        speaker, words = _said("\n".join(lines[at + 1 :]))
        if words:
            yield _Cue(_seconds(found.groups()[:4]), _seconds(found.groups()[4:]), speaker, words)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields runs of lines that are not empty, each with the number of its first line."""
    for filled, run in groupby(enumerate(lines, start=1), lambda one: bool(one[1].strip())):
        if filled:
            numbered = list(run)
            yield numbered[0][0], [line for _, line in numbered]


def _said(text: str) -> tuple[str | None, str]:
    voice = _VOICE.search(text)
    words = " ".join(unescape(_TAG.sub("", text)).split())
    if voice:
        return voice[1].strip(), words
    named = _NAMED.match(words)
    if named and len(named[1].split()) <= 4:
        return named[1], words[named.end() :]
    return None, words


def _continues(before: _Cue, cue: _Cue) -> bool:
    if cue.speaker not in (None, before.speaker) or cue.start - before.end > _PAUSE:
        return False
    ended = before.text[-1] in ".!?…。！？"
    return not (ended and len(before.text.split()) >= LEAST)


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in parts)
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _turn(cue: _Cue, begins: datetime | None) -> Turn:
    happened = None if begins is None else begins + timedelta(seconds=cue.start)
    return Turn(cue.text, f"{_clock(cue.start)}-{_clock(cue.end)}", cue.speaker, happened)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
