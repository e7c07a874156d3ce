"""The time now, and reckoning with dates (proleptic Gregorian, as in ISO 8601)."""

from __future__ import annotations

import calendar
import datetime
import re
from typing import Annotated, Any

from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.toolbox import tool

_Date = datetime.datetime
_DateText = Annotated[str, Field(min_length=1, max_length=40)]
_Amount = Annotated[int, Field(ge=-100_000, le=100_000)]


@tool(
    title="Current time",
    read_only=True,
    example={"timezone": "Europe/Berlin"},
    main=("timezone", "line"),
)
async def current_time(
    ctx: ToolContext,
    timezone: Annotated[
        str, Field(max_length=100, description="such as Europe/Berlin or UTC; empty means here")
    ] = "",
) -> Output:
    """Tell the date, the time and the weekday, here or in another time zone.

    Use whenever today's date or the time matters: it cannot be known otherwise.

    Raises:
        ToolError: There is no such time zone.
    """
    now = datetime.datetime.now(_zone(timezone.strip()))
    data = {"iso": now.isoformat(timespec="seconds"), **_about(now), "unix": int(now.timestamp())}
    text = (
        f"{now:%A}, {now.day} {now:%B %Y}, {now:%H:%M:%S} {now.tzname()} "
        f"({data['iso']}), week {data['week']}, day {data['day_of_year']} of the year"
    )
    return Output(text, data)


def _zone(name: str) -> datetime.tzinfo | None:
    import zoneinfo

    if not name:
        return datetime.datetime.now().astimezone().tzinfo
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = zoneinfo.available_timezones()
        cities = {zone.rpartition("/")[2].replace("_", " ").lower(): zone for zone in known}
        if name.lower() in cities:
            return zoneinfo.ZoneInfo(cities[name.lower()])
        hint = did_you_mean(name, known) or "Give a name such as Europe/Berlin or UTC."
        raise ToolError(f"There is no time zone {name!r}.", hint=hint) from None


def _about(date: datetime.date) -> dict[str, Any]:
    return {
        "weekday": f"{date:%A}",
        "week": date.isocalendar().week,
        "day_of_year": date.timetuple().tm_yday,
        "leap_year": calendar.isleap(date.year),
    }


@tool(
    title="Shift a date",
    read_only=True,
    example={"date": "2026-01-31", "months": 1, "days": 10},
    main=("date", "json"),
)
async def shift_date(
    ctx: ToolContext,
    date: Annotated[_DateText, Field(description="such as 2026-01-31, 2026-01-31 14:30 or today")],
    years: Annotated[_Amount, Field(description="years to add, negative to go back")] = 0,
    months: Annotated[_Amount, Field(description="months to add")] = 0,
    weeks: Annotated[_Amount, Field(description="weeks to add")] = 0,
    days: Annotated[_Amount, Field(description="days to add")] = 0,
    workdays: Annotated[_Amount, Field(description="days from Monday to Friday to add")] = 0,
    hours: Annotated[_Amount, Field(description="hours to add")] = 0,
    minutes: Annotated[_Amount, Field(description="minutes to add")] = 0,
) -> Output:
    """Add years, months, weeks, days, workdays or hours to a date, or take them off.

    Use for every question what date it is some time before or after another. The 31st becomes the
    last day of a shorter month.

    Raises:
        ToolError: The date cannot be read, or the result is beyond the years 1 to 9999.
    """
    start, has_time = _read(date)
    try:
        moved = _add_months(start, 12 * years + months)
        moved += datetime.timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes)
        moved = _add_workdays(moved, workdays)
    except (OverflowError, ValueError):
        raise ToolError(
            "The result is beyond the years 1 to 9999.", hint="Use smaller amounts."
        ) from None
    shown = _shown(moved, has_time or bool(hours or minutes))
    about = _about(moved)
    return Output(f"{shown}, a {about['weekday']}", {"date": shown, **about})


@tool(
    title="Compare dates",
    read_only=True,
    example={"start": "2026-03-01", "end": "2026-12-24"},
    main=("end", "json"),
    forms={"start": "line", "end": "line"},
)
async def compare_dates(
    ctx: ToolContext,
    start: Annotated[_DateText, Field(description="such as 2026-03-01, or today")],
    end: Annotated[_DateText, Field(description="such as 2026-12-24 18:00, or today")],
) -> Output:
    """Tell how long it is from one date to another: days, weeks, workdays, years.

    Use for ages, deadlines and durations. Workdays are Monday to Friday, the first day not counted.

    Raises:
        ToolError: A date cannot be read.
    """
    (first, first_time), (last, last_time) = _read(start), _read(end)
    span = last - first
    days = (last.date() - first.date()).days
    years, months, rest = _calendar_span(*sorted((first.date(), last.date())))
    sign = "-" if days < 0 else ""
    data: dict[str, Any] = {
        "days": days,
        "weeks": f"{sign}{abs(days) // 7} weeks and {abs(days) % 7} days",
        "calendar": f"{sign}{years} years, {months} months and {rest} days",
        "workdays": _workdays(first.date(), last.date()),
        "from": f"{first:%A}",
        "to": f"{last:%A}",
    }
    if first_time or last_time:
        data |= {"hours": round(span / datetime.timedelta(hours=1), 4), "duration": str(span)}
    return Output("\n".join(f"{name}: {value}" for name, value in data.items()), data)


def _read(text: str) -> tuple[_Date, bool]:
    """Returns the date and whether a time of day was given with it."""
    plain = text.strip().strip("'\"")
    now = datetime.datetime.now().replace(microsecond=0)
    midnight = now.replace(hour=0, minute=0, second=0)
    word = plain.lower()
    if word in {"today", "tomorrow", "yesterday"}:
        offset = {"today": 0, "tomorrow": 1, "yesterday": -1}[word]
        return midnight + datetime.timedelta(days=offset), False
    if word == "now":
        return now, True
    try:
        found = datetime.datetime.fromisoformat(plain)
        if found.tzinfo is not None:
            found = found.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ToolError(
            f"{text!r} is no date.", hint="Write year-month-day, such as 2026-01-31."
        ) from None
    return found, re.search(r"\d[T ]\d", plain) is not None


def _shown(date: _Date, with_time: bool) -> str:
    return date.isoformat(sep=" ", timespec="minutes") if with_time else date.date().isoformat()


def _add_months(date: _Date, months: int) -> _Date:
    year, month = divmod(date.year * 12 + date.month - 1 + months, 12)
    if not 1 <= year <= 9999:
        raise OverflowError
    last = calendar.monthrange(year, month + 1)[1]
    return date.replace(year=year, month=month + 1, day=min(date.day, last))


def _add_workdays(date: _Date, count: int) -> _Date:
    if not count:
        return date
    step = 1 if count > 0 else -1
    # From the weekend the first step leads to the next workday; whole weeks have five.
    while date.weekday() >= 5:
        date -= datetime.timedelta(days=step)
    weeks, rest = divmod(abs(count), 5)
    date += datetime.timedelta(days=7 * step * weeks)
    while rest:
        date += datetime.timedelta(days=step)
        rest -= date.weekday() < 5
    return date


def _workdays(first: datetime.date, last: datetime.date) -> int:
    """Counts Mondays to Fridays after the first day up to the last; negative backwards."""
    if last < first:
        return -_workdays(last, first)
    weeks, rest = divmod((last - first).days, 7)
    after = (first + datetime.timedelta(days=7 * weeks + day + 1) for day in range(rest))
    return 5 * weeks + sum(day.weekday() < 5 for day in after)


def _calendar_span(first: datetime.date, last: datetime.date) -> tuple[int, int, int]:
    months = (last.year - first.year) * 12 + last.month - first.month
    start = datetime.datetime.combine(first, datetime.time())
    if _add_months(start, months).date() > last:
        months -= 1
    rest = (last - _add_months(start, months).date()).days
    return (*divmod(months, 12), rest)
