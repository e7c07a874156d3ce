"""Times that a query names: a month, a day, a year, "last week", as a stretch of time.

English only, and only what is said outright; the words themselves are searched for all the same,
since the date of a memory is among the words of its context.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["Stretch", "mentioned"]

Stretch = tuple[datetime, datetime]

_MONTHS = (
    "january february march april may june july august september october november december".split()
)
_MONTH = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
_YEAR = r"(?:19|20)\d\d"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?"
_UNITS = {"day": 1, "week": 7, "month": 30, "year": 365}
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def mentioned(query: str, now: datetime) -> Stretch | None:
    """Returns the stretch of time a query names, from its start to before its end; None if none.

    Args:
        query: A question or a task.
        now: What "yesterday" and "last month" refer to.
    """
    lowered = query[:2_000].lower()
    for pattern, read in _FORMS:
        found = pattern.search(lowered)
        if found is None:
            continue
        try:
            return read(found, now)
        except (ValueError, OverflowError):
            # A 31st of June, or a year nobody has.
            continue
    return None


def _day(year: int, month: int, day: int) -> Stretch:
    start = datetime(year, month, day, tzinfo=UTC)
    return start, start + timedelta(days=1)


def _month(year: int, month: int) -> Stretch:
    after = (year + 1, 1) if month == 12 else (year, month + 1)
    return datetime(year, month, 1, tzinfo=UTC), datetime(*after, 1, tzinfo=UTC)


def _number(month: str) -> int:
    return next(at for at, name in enumerate(_MONTHS, start=1) if name.startswith(month[:3]))


def _latest(month: int, now: datetime) -> int:
    """The year of the last such month that has begun."""
    return now.year if month <= now.month else now.year - 1


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _iso(found: re.Match[str], now: datetime) -> Stretch:
    return _day(*(int(part) for part in found.groups()))


def _day_month(found: re.Match[str], now: datetime) -> Stretch:
    day, name, year = found.groups()
    month = _number(name)
    return _day(int(year or _latest(month, now)), month, int(day))


def _month_day(found: re.Match[str], now: datetime) -> Stretch:
    name, day, year = found.groups()
    month = _number(name)
    return _day(int(year or _latest(month, now)), month, int(day))


def _month_year(found: re.Match[str], now: datetime) -> Stretch:
    return _month(int(found[2]), _number(found[1]))


def _month_alone(found: re.Match[str], now: datetime) -> Stretch:
    month = _number(found[1])
    return _month(_latest(month, now), month)


def _year(found: re.Match[str], now: datetime) -> Stretch:
    year = int(found[1])
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _near_day(found: re.Match[str], now: datetime) -> Stretch:
    start = _midnight(now) - timedelta(days=0 if found[1] == "today" else 1)
    return start, start + timedelta(days=1)


def _last(found: re.Match[str], now: datetime) -> Stretch:
    which, unit = found.groups()
    today = _midnight(now)
    if unit == "week":
        start = today - timedelta(days=today.weekday() + (0 if which == "this" else 7))
        return start, start + timedelta(days=7)
    if unit == "month":
        before = today.replace(day=1) - timedelta(days=0 if which == "this" else 1)
        return _month(before.year, before.month)
    year = today.year - (0 if which == "this" else 1)
    return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)


def _ago(found: re.Match[str], now: datetime) -> Stretch:
    number, unit = found.groups()
    days = _UNITS[unit]
    middle = _midnight(now) - timedelta(days=days * (_NUMBERS.get(number) or int(number)))
    # "Two weeks ago" is said of anything about then.
    slack = timedelta(days=days // 2)
    return middle - slack, middle + slack + timedelta(days=1)


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], datetime], Stretch]], ...] = (
    (re.compile(rf"\b({_YEAR})-(\d\d)-(\d\d)\b"), _iso),
    (re.compile(rf"\b{_DAY}(?: of)? ({_MONTH})\b,?(?: ({_YEAR}))?"), _day_month),
    (re.compile(rf"\b({_MONTH}) {_DAY}\b(?!\d),?(?: ({_YEAR}))?"), _month_day),
    (re.compile(rf"\b({_MONTH}),? ({_YEAR})\b"), _month_year),
    # "May I", "march on": a month alone needs a word that leads to one.
    (re.compile(rf"\b(?:in|during|since|of|last|this) ({_MONTH})\b"), _month_alone),
    (re.compile(rf"\b(?:in|during|since|of|year) ({_YEAR})\b"), _year),
    (re.compile(r"\b(today|yesterday)\b"), _near_day),
    (re.compile(r"\b(last|this|past|previous) (week|month|year)\b"), _last),
    (re.compile(rf"\b({'|'.join(_NUMBERS)}|\d{{1,3}}) (day|week|month|year)s? ago\b"), _ago),
)
