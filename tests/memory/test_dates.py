from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory.dates import mentioned

# A Wednesday.
NOW = datetime(2024, 3, 20, 15, 30, tzinfo=UTC)


def day(year: int, month: int, number: int) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("what happened on 2023-05-08?", day(2023, 5, 8), day(2023, 5, 9)),
        ("lunch on 8 May, 2023", day(2023, 5, 8), day(2023, 5, 9)),
        ("lunch on the 8th of May 2023", day(2023, 5, 8), day(2023, 5, 9)),
        ("lunch on May 8th", day(2023, 5, 8), day(2023, 5, 9)),
        ("lunch on 1 March", day(2024, 3, 1), day(2024, 3, 2)),
        ("what did Ada paint in May 2023", day(2023, 5, 1), day(2023, 6, 1)),
        ("the trip in december", day(2023, 12, 1), day(2024, 1, 1)),
        ("camping in June", day(2023, 6, 1), day(2023, 7, 1)),
        ("the figures of 2022", day(2022, 1, 1), day(2023, 1, 1)),
        ("what did I do yesterday", day(2024, 3, 19), day(2024, 3, 20)),
        ("today's plan", day(2024, 3, 20), day(2024, 3, 21)),
        ("what was said last week", day(2024, 3, 11), day(2024, 3, 18)),
        ("what was said this week", day(2024, 3, 18), day(2024, 3, 25)),
        ("costs of last month", day(2024, 2, 1), day(2024, 3, 1)),
        ("costs of last year", day(2023, 1, 1), day(2024, 1, 1)),
        ("two weeks ago we met", day(2024, 3, 3), day(2024, 3, 10)),
        ("3 days ago", day(2024, 3, 17), day(2024, 3, 18)),
        # A day that never was leaves its month.
        ("the 31st of June", day(2023, 6, 1), day(2023, 7, 1)),
    ],
)
def test_a_time_in_the_query_is_read(query: str, start: datetime, end: datetime) -> None:
    assert mentioned(query, NOW) == (start, end)


@pytest.mark.parametrize(
    "query",
    ["", "May I march on?", "port 2024", "version 3.11", "2023-13-45", "9999999999 years ago"],
)
def test_what_is_no_time_is_none(query: str) -> None:
    assert mentioned(query, NOW) is None


@given(st.text(max_size=60), st.integers(0, 999), st.sampled_from(["day", "week", "year"]))
def test_any_query_is_read_or_left(noise: str, number: int, unit: str) -> None:
    found = mentioned(f"{noise} {number} {unit}s ago", NOW)
    assert found is None or found[1] - found[0] >= timedelta(days=1)
