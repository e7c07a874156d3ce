from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ryzanstein.memory.uses import _CAPACITY, Use, UseBuffer

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def test_uses_of_a_row_add_up_and_the_last_time_counts() -> None:
    uses = UseBuffer()
    uses.count([1, 2], LATER)
    uses.count([1], NOW)
    assert uses.take(10) == {2: Use(1, LATER), 1: Use(2, LATER)}
    assert len(uses) == 0


def test_what_is_taken_and_cannot_be_written_goes_back() -> None:
    uses = UseBuffer()
    uses.count([1, 2, 3], NOW)
    taken = uses.take(2)
    assert list(taken) == [1, 2]
    uses.count([1], LATER)
    uses.add(taken)
    assert uses.take(10) == {3: Use(1, NOW), 1: Use(2, LATER), 2: Use(1, NOW)}


def test_a_reader_that_never_writes_does_not_grow_without_end() -> None:
    uses = UseBuffer()
    uses.count(range(_CAPACITY + 5), NOW)
    assert len(uses) == _CAPACITY
    assert 4 not in uses.take(_CAPACITY)
