from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from ryzanstein.memory.sources.moments import clock, in_words, is_day, moment

AFTERNOON = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "1:56 pm on 8 May, 2023",
        "8 May 2023, 1:56 p.m.",
        "8th of May 2023 at 13:56",
        "May 8, 2023 1:56 PM",
        "Monday, May 8th, 2023 13:56",
        "2023-05-08T13:56:00Z",
        "2023-05-08 13:56",
        "2023-05-08T15:56:00+02:00",
        "2023/5/8 13:56",
        "08.05.2023 13:56",
        "8.5.23, 13:56:00",
        "5/8/23, 1:56 PM",
        "Mon, 08 May 2023 15:56:00 +0200",
        "1683554160",
        1683554160,
        1683554160.0,
        1683554160000,
    ],
)
def test_times_are_read_as_people_and_programs_write_them(written: object) -> None:
    assert moment(written) == AFTERNOON


def test_a_time_without_a_zone_gets_the_one_that_is_given() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert moment("8 May 2023 15:56", zone=berlin) == AFTERNOON
    assert moment("2023-05-08T13:56Z", zone=berlin) == AFTERNOON
    assert moment("13:56", day=date(2023, 5, 8)) == AFTERNOON


def test_a_day_comes_before_its_month_where_it_must_or_where_that_is_said() -> None:
    assert moment("31/12/2023").date() == date(2023, 12, 31)
    assert moment("1/2/2024").date() == date(2024, 1, 2)
    assert moment("1/2/2024", day_first=True).date() == date(2024, 2, 1)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "13:56",
        "25:99",
        "2024-13-45 10:00",
        "30 February 2024",
        "8 Brumaire 2024",
        "8/8/8",
        "13:56 pm on 8 May 2024",
        "12 of 8 may want 2024 x",
        None,
        True,
        [2024],
        1e300,
        float("nan"),
    ],
)
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        moment(written)


def test_clocks_and_days_are_told_from_sentences() -> None:
    assert clock("1:56 pm") == time(13, 56) and clock("12 am") == time(0)
    assert clock("at 10:00 sharp") is None
    assert is_day("Monday, 8 May 2023") and is_day("2024-05-01 at 10:00")
    assert not is_day("On 8 May 2023 we met") and not is_day("10:00")
    assert in_words(AFTERNOON) == "Monday 8 May 2023"
