"""Plain text and Markdown transcripts.

    [2024-05-01 10:00] Ada: text       [10:00] <ada> text
    2024-05-01 10:00 Ada: text         12/31/23, 10:05 PM - Ada: text
    Ada (10:00): text                  **Ada** (2024-05-01 10:00): text
    Ada: text                          **Ada:** text
    ## User                            a heading that is a role, its words below

The form that most lines have is the file's. A line of another form continues the turn above it. A
line or heading that is a date begins a session and dates the clock times below.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo

from ryzanstein.memory.sources.moments import clock, is_day, moment
from ryzanstein.memory.sources.turns import Turn

__all__ = ["read_transcript"]

_BOLD = re.compile(r"^((?:\[[^\]]{0,80}\]\s{0,3})?)\*\*(.{1,80}?)\*\*")
_MARKS = re.compile("[\u200e\u200f\ufeff]")
_ZONE = r"(?:Z|[+-]\d\d:?\d\d|\s?[AaPp]\.?[Mm]\b\.?)?"
_WRITTEN = rf"\d[\d/.\-]{{5,9}}(?:,?\s{{1,3}}|T)\d{{1,2}}:\d{{2}}(?:[:.]\d{{1,9}}){{0,2}}{_ZONE}"
_PERSON = r"(?P<speaker>[^\W\d_][^:<>\[\]()#*`|]{0,60}?)"
# Beside a time, a chat's speaker may be a telephone number.
_ANYBODY = r"(?P<speaker>[^:<>\n]{1,80}?)"
_ROLES = r"user|human|you|me|assistant|system|ai|bot|model|chatgpt|gpt-[\w.]+|claude|gemini|copilot"
_TEXT = r"(?P<text>(?:\s.*)?)$"
# Every repetition is bounded: a line may be a megabyte of anything.
_NUMBERS = r"[^)\]]{0,40}?\d[^)\]]{0,40}"
_SPACE = r"\s{0,3}"
_FORMS = {
    "bracket": re.compile(rf"\[(?P<time>{_NUMBERS})\]{_SPACE}<?{_ANYBODY}[:>]{_TEXT}"),
    "stamp": re.compile(rf"(?P<time>{_WRITTEN}){_SPACE}[-–—]?{_SPACE}{_ANYBODY}:{_TEXT}"),
    "after": re.compile(rf"{_PERSON}{_SPACE}[(\[](?P<time>{_NUMBERS})[)\]]{_SPACE}:{_TEXT}"),
    "heading": re.compile(
        rf"#{{1,6}}\s{{1,3}}(?P<speaker>{_ROLES}){_SPACE}:?{_SPACE}"
        r"(?:[(\[](?P<time>[^)\]]{1,80})[)\]])?(?P<text>)$",
        re.IGNORECASE,
    ),
    "name": re.compile(rf"{_PERSON}:(?P<time>){_TEXT}"),
}
_UNSPOKEN = re.compile(rf"\[{_NUMBERS}\]|{_WRITTEN}")
_HEADING = re.compile(r"#{1,6}\s")
_SITTING = re.compile(r"(session|part|day|meeting|conversation|chapter)\b.*", re.IGNORECASE)
_DAY_FIRST = re.compile(r"\b(?:1[3-9]|2\d|3[01])[/-]\d{1,2}[/-]\d{2,4}")
_LONGEST_NAME = 5


def read_transcript(text: str, *, zone: tzinfo = UTC, day: date | None = None) -> list[Turn]:
    """Returns the turns of a transcript.

    Args:
        text: All of it.
        zone: Of times that name none.
        day: Of turns before the first date.

    Raises:
        ValueError: Nothing in it begins a turn, or a time is wrong; the line is named.
    """
    lines = [_plain(line) for line in text.split("\n")]
    return [one.turn() for one in _starts(lines, zone, day) if any(one.words)]


@dataclass
class _Open:
    """A turn that further lines may continue."""

    speaker: str
    happened: datetime | None
    session: str | None
    first: int
    words: list[str]

    def turn(self) -> Turn:
        text = "\n".join(self.words).strip()
        last = self.first + len("\n".join(self.words).rstrip().split("\n")) - 1
        place = f"line {self.first}" if last == self.first else f"lines {self.first}-{last}"
        return Turn(text, place, self.speaker, self.happened, self.session)


def _starts(lines: Sequence[str], zone: tzinfo, day: date | None) -> Iterator[_Open]:
    form, speakers = _form(lines)
    day_first = any(_DAY_FIRST.match(line.lstrip("[")) for line in lines)
    session: str | None = None
    begins = None if day is None else datetime.combine(day, time(), zone)
    now: _Open | None = None
    for number, line in enumerate(lines, start=1):
        found = _FORMS[form].match(line)
        speaker = " ".join(found["speaker"].split()) if found else ""
        if found and (speakers is None or speaker in speakers):
            if now is not None:
                yield now
            try:
                happened = _happened(found["time"], zone, begins, day_first)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            now = _Open(speaker, happened, session, number, [found["text"].strip()])
        elif (opened := _session(line, before=now is None)) is not None:
            session = opened[0] or session
            begins = _dated(opened[1], zone, day_first) or begins
        elif form in ("bracket", "stamp") and _UNSPOKEN.match(line):
            continue  # a chat's own notice: somebody joined, messages are encrypted
        elif now is not None:
            now.words.append(line)
    if now is not None:
        yield now


def _plain(line: str) -> str:
    return _BOLD.sub(r"\1\2", _MARKS.sub("", line).rstrip())


def _form(lines: Sequence[str]) -> tuple[str, frozenset[str] | None]:
    """Returns the form of most lines, and who speaks where a name alone could be anything."""
    found: dict[str, Counter[str]] = {name: Counter() for name in _FORMS}
    for line in lines:
        for name, form in _FORMS.items():
            match = form.match(line)
            if match and len(match["speaker"].split()) <= _LONGEST_NAME:
                found[name][" ".join(match["speaker"].split())] += 1
                break
    counts = {name: counter.total() for name, counter in found.items()}
    best = max(counts, key=lambda name: counts[name])
    if not counts[best]:
        raise ValueError("line 1: no line begins a turn")
    if best == "name" and counts["heading"] > 1:
        best = "heading"
    if best != "name":
        return best, None
    # Words before a colon are a speaker's name where they come back; "Note:" seldom does.
    again = frozenset(name for name, count in found["name"].items() if count > 1)
    return best, again or frozenset(found["name"])


def _happened(
    written: str | None, zone: tzinfo, begins: datetime | None, day_first: bool
) -> datetime | None:
    if not written or (begins is None and clock(written) is not None):
        return None if begins is None else begins.astimezone(UTC)
    return moment(written, zone=zone, day=begins and begins.date(), day_first=day_first)


def _session(line: str, *, before: bool) -> tuple[str | None, str] | None:
    """Returns a session's name and the text that may date it; None where the line is neither."""
    heading = _HEADING.match(line) is not None
    title = line.strip("# \t") if heading else line.strip("-=*_ \t")
    if is_day(title):
        return None if not title else (title, title)
    if heading and (before or _SITTING.fullmatch(title)):
        return title, title
    label, colon, rest = line.partition(":")
    if before and colon and label.strip().casefold() in ("date", "time", "when"):
        return None, rest
    return None


def _dated(text: str, zone: tzinfo, day_first: bool) -> datetime | None:
    try:
        return moment(text, zone=zone, day_first=day_first).astimezone(zone)
    except ValueError:
        return None
