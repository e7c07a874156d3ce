"""Times as people and programs write them.

ISO 8601, RFC 2822, seconds or milliseconds since 1970, "1:56 pm on 8 May, 2023",
"May 8, 2023 1:56 PM", "08.05.2023 13:56", "12/31/23, 10:05 PM". Slashes mean month first where
the number leaves a choice; a transcript that shows otherwise says so with `day_first`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, tzinfo
from email.utils import parsedate_to_datetime

from ryzanstein.errors import InvalidRequest

__all__ = ["asked_moment", "clock", "in_words", "is_day", "moment"]

_MONTHS = (
    "January February March April May June July August September October November December".split()
)
_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_MONTH = {name[:3].lower(): number for number, name in enumerate(_MONTHS, start=1)}
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2}))(?::(?P<second>\d{2})(?:[.,]\d+)?)?"
    r"(?:\s*(?P<half>[ap])\.?m\b\.?)?|(?P<whole>\d{1,2})\s*(?P<part>[ap])\.?m\b\.?",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<month>[a-z]{3,9})\.?"
    r"|(?P<month2>[a-z]{3,9})\.?\s+(?P<day2>\d{1,2})(?:st|nd|rd|th)?),?\s+(?P<year>\d{4})",
    re.IGNORECASE,
)
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})")
_YEAR_LAST = re.compile(
    r"(?P<one>\d{1,2})(?P<mark>[/.-])(?P<two>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2})"
)
_BESIDE = re.compile(
    r"\b(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\b|\b(?:on|at)\b|\W", re.I
)
# Without a zone at its end it may be a time that mail would read wrongly, as 1:56 PM.
_MAIL = re.compile(r"[a-z]{3} \d{4} .*(?:[+-]\d{4}|GMT|UTC?)$", re.IGNORECASE)
_EPOCH = re.compile(r"\d{9,13}(?:\.\d+)?")
_LONGEST = 100
# Seconds since 1970 reach this number in the year 5138; milliseconds passed it in 1973.
_MILLISECONDS = 1e11


def moment(
    value: object, *, zone: tzinfo = UTC, day: date | None = None, day_first: bool = False
) -> datetime:
    """Returns a time in UTC.

    Args:
        value: Text, or seconds or milliseconds since 1970.
        zone: Of a time that names none.
        day: Of a time that is only a clock's.
        day_first: 1/2/2024 is the first of February.

    Raises:
        ValueError: It is no time, or a clock's without a day.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is not a time")
    if not isinstance(value, str) or _EPOCH.fullmatch(value.strip()):
        return _since_1970(float(value))
    text = " ".join(value[:_LONGEST].split())
    found = _standard(text) or _written(text, day, day_first)
    if found is None or len(value) > _LONGEST:
        raise ValueError(f"{text[:60]!r} is not a time")
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)


def asked_moment(text: str | None, name: str) -> datetime | None:
    """Returns a time that somebody gave with a request, in UTC; None where there is none.

    Raises:
        InvalidRequest: It is no time.
    """
    if text is None:
        return None
    try:
        return moment(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{name}: {error}.", hint="Write it like 2026-05-01 or 2026-05-01T14:00+02:00."
        ) from error


def clock(text: str) -> time | None:
    """Returns the time of day of a text that is nothing else, as "1:56 pm"; None for others."""
    found = _CLOCK.fullmatch(text.strip())
    return None if found is None else _time(found)


def is_day(text: str) -> bool:
    """Whether a text is a day and nothing else but its weekday and a time, as a session's title."""
    found = _dated(text) if len(text) <= _LONGEST else None
    if found is None:
        return False
    rest = _CLOCK.sub(" ", f"{text[: found.start()]} {text[found.end() :]}", count=1)
    return not _BESIDE.sub("", rest)


def in_words(when: datetime) -> str:
    """Returns a day in words, as "Monday 8 May 2023", to be found by any of them."""
    return f"{_DAYS[when.weekday()]} {when.day} {_MONTHS[when.month - 1]} {when.year}"


def _since_1970(number: float) -> datetime:
    try:
        return datetime.fromtimestamp(number / 1000 if number > _MILLISECONDS else number, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{number!r} is not a time") from error


def _standard(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if _MAIL.search(text) else datetime.fromisoformat(text)
    except (ValueError, IndexError):
        return None


def _written(text: str, day: date | None, day_first: bool) -> datetime | None:
    found = _dated(text)
    if found is None:
        time_only = clock(text)
        return None if day is None or time_only is None else datetime.combine(day, time_only)
    rest = f"{text[: found.start()]} {text[found.end() :]}"
    at = _CLOCK.search(rest)
    # Words beside a date are its own ("on", "at", a weekday), not a sentence that names a day.
    if len(rest) > 40:
        return None
    of_day = _time(at) if at else time()
    written = _day(found, day_first)
    return None if of_day is None or written is None else datetime.combine(written, of_day)


def _dated(text: str) -> re.Match[str] | None:
    return _NAMED.search(text) or _YEAR_FIRST.search(text) or _YEAR_LAST.search(text)


def _time(found: re.Match[str]) -> time | None:
    hour = int(found["hour"] or found["whole"])
    half = (found["half"] or found["part"] or "").lower()
    if half:
        if hour > 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        return time(hour, int(found["minute"] or 0), int(found["second"] or 0))
    except ValueError:
        return None


def _day(found: re.Match[str], day_first: bool) -> date | None:
    parts = found.groupdict()
    if "one" in parts:
        one, two, year = int(parts["one"]), int(parts["two"]), int(parts["year"])
        european = day_first or parts["mark"] == "." or one > 12
        month, day = (two, one) if european else (one, two)
        year += 2000 if year < 100 else 0
    else:
        name = parts["month"] or parts["month2"]
        named = _MONTH.get(name[:3].lower())
        if not name.isdigit() and named is None:
            return None
        month = int(name) if name.isdigit() else named or 0
        day, year = int(parts["day"] or parts["day2"]), int(parts["year"])
    try:
        return date(year, month, day)
    except ValueError:
        return None
