from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory import policies
from ryzanstein.memory.records import TIERS, Memory

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 10_000)
OUTCOMES = st.floats(-1, 1)
AGES = st.floats(0, 4e8)


def memory(tier: str = "short_term", importance: float = 0.5, age: float = 0.0) -> Memory:
    when = NOW - timedelta(seconds=age)
    return Memory("mem_1", "text", tier, "fact", None, (), None, when, when, importance=importance)


@given(st.none() | SHARES, SHARES, COUNTS, COUNTS, OUTCOMES)
def test_importance_is_the_sum_of_its_parts_and_within_bounds(
    mark: float | None, novelty: float, uses: int, reinforced: int, outcome: float
) -> None:
    parts = policies.importance_parts(mark, novelty, uses, reinforced, outcome)
    total = sum(part.weight for part in parts)
    assert -1e-9 <= total <= 1 + 1e-9
    value = policies.importance(mark, novelty, uses, reinforced, outcome)
    assert value == pytest.approx(total, abs=1e-9) and 0 <= value <= 1


@given(SHARES, COUNTS, COUNTS, st.floats(-1, 0.9))
def test_novelty_use_repetition_and_a_better_outcome_never_lower_it(
    novelty: float, uses: int, reinforced: int, outcome: float
) -> None:
    value = policies.importance(None, novelty, uses, reinforced, outcome)
    for better in (
        policies.importance(None, min(novelty + 0.1, 1), uses, reinforced, outcome),
        policies.importance(None, novelty, uses + 1, reinforced, outcome),
        policies.importance(None, novelty, uses, reinforced + 1, outcome),
        policies.importance(None, novelty, uses, reinforced, outcome + 0.1),
    ):
        assert better >= value - 1e-12


def test_a_mark_is_taken_as_it_is_and_novelty_counts_without_one() -> None:
    assert policies.importance(0.7, 1.0, 0, 0, 0.0) == 0.7
    assert policies.importance(None, 0.9, 0, 0, 0) > policies.importance(None, 0.1, 0, 0, 0)


@given(SHARES, AGES, st.sampled_from(TIERS))
def test_strength_halves_with_every_half_life(value: float, age: float, tier: str) -> None:
    half_life = policies.HALF_LIFE[tier]
    now = policies.strength(value, age, half_life)
    later = policies.strength(value, age + half_life, half_life)
    assert 0 <= now <= value and later == pytest.approx(now / 2, abs=1e-12)


def test_a_clock_that_went_back_does_not_make_a_memory_stronger() -> None:
    assert policies.strength(0.5, -1e6, 60.0) == 0.5


@given(
    st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1e7)), min_size=2, max_size=2),
    st.sampled_from(["working", "short_term", "long_term"]),
    st.floats(0, 1e6),
)
def test_retention_orders_by_strength_at_any_later_time(
    pair: list[tuple[float, float]], tier: str, later: float
) -> None:
    one, two = (memory(tier, value, age) for value, age in pair)
    orders = [policies.retention(one), policies.retention(two)]
    assert orders[0] is not None and orders[1] is not None
    half_life = policies.HALF_LIFE[tier]
    if orders[0] - orders[1] > 1e-6:
        strengths = [policies.strength(v, age + later, half_life) for v, age in pair]
        assert strengths[0] >= strengths[1]


def test_no_policy_moves_what_is_pinned_archived_replaced_or_in_a_tier_without_bound() -> None:
    kept = memory()
    assert policies.retention(kept) is not None
    assert policies.retention(replace(kept, mark=0.99)) is not None
    for one in (
        replace(kept, mark=1.0),
        replace(kept, archived=NOW),
        replace(kept, superseded_by="mem_2"),
        replace(kept, tier="episodic"),
        replace(kept, tier="semantic"),
    ):
        assert policies.retention(one) is None


@given(st.floats(0.02, 1), st.floats(0, 5e5))
def test_faded_is_said_of_the_same_memories_by_strength_and_by_retention(
    value: float, age: float
) -> None:
    one = memory("working", value, age)
    weak = policies.strength(value, age, policies.HALF_LIFE["working"])
    order = policies.retention(one)
    assert order is not None
    if abs(weak - policies.FADED) > 1e-6:
        assert (order < policies.faded_below("working", NOW)) == (weak < policies.FADED)


@given(st.sampled_from(TIERS), COUNTS)
def test_room_is_made_only_where_a_tier_is_full_and_only_a_little_more_than_needed(
    tier: str, count: int
) -> None:
    going = policies.excess(tier, count)
    room = policies.ROOM.get(tier)
    if room is None or count <= room:
        assert going == 0
    else:
        assert room * 0.9 <= count - going <= room


def test_tiers_hold_a_hundred_and_ten_thousand() -> None:
    assert policies.ROOM == {"short_term": 100, "long_term": 10_000}
    assert policies.excess("episodic", 10**7) == policies.excess("semantic", 10**7) == 0


def test_where_a_memory_goes_depends_on_what_it_proved() -> None:
    def to(tier: str, importance: float, **proof: float) -> tuple[str | None, str]:
        move = policies.leaves(replace(memory(tier, importance), **proof), "full")  # type: ignore[arg-type]
        assert move.reason.startswith("full; ")
        return move.tier, move.action

    assert to("working", 0.45) == (None, "archived")
    assert to("working", 0.45, uses=1) == ("short_term", "promoted")
    assert to("working", 0.6) == ("short_term", "promoted")
    assert to("short_term", 0.45) == ("long_term", "promoted")
    assert to("short_term", 0.1) == (None, "archived")
    assert to("short_term", 0.45, outcome=-0.5) == (None, "archived")
    assert to("long_term", 0.9) == (None, "archived")


@given(st.sampled_from(TIERS), SHARES, COUNTS, OUTCOMES)
def test_who_has_to_leave_never_stays_and_never_vanishes(
    tier: str, importance: float, uses: int, outcome: float
) -> None:
    move = policies.leaves(replace(memory(tier, importance), uses=uses, outcome=outcome), "full")
    assert move.tier != tier
    assert (move.tier is None) == (move.action == "archived")


def test_use_promotes_and_misleading_demotes() -> None:
    def to(tier: str, **proof: float) -> tuple[str | None, str] | None:
        move = policies.after_use(replace(memory(tier), **proof))  # type: ignore[arg-type]
        return None if move is None else (move.tier, move.action)

    assert to("short_term", uses=2) is None
    assert to("short_term", uses=2, reinforced=1) == ("long_term", "promoted")
    assert to("short_term", uses=9, outcome=-0.5) is None
    assert to("long_term", uses=9, outcome=-0.5) == ("short_term", "demoted")
    assert to("semantic", uses=99, outcome=-1.0) is None


@given(OUTCOMES, OUTCOMES)
def test_an_outcome_moves_half_way_to_the_newest(before: float, now: float) -> None:
    assert policies.blended_outcome(before, now) == pytest.approx((before + now) / 2)


def test_the_reasons_of_a_strength_add_up_to_it() -> None:
    value = policies.importance(None, 0.8, 2, 1, 0.5)
    one = replace(
        memory("long_term", value, age=30 * 86_400.0),
        novelty=0.8,
        uses=2,
        reinforced=1,
        outcome=0.5,
    )
    parts = policies.strength_parts(one, NOW)
    expected = policies.strength(value, 30 * 86_400.0, policies.HALF_LIFE["long_term"])
    assert sum(part.weight for part in parts) == pytest.approx(expected)
    assert [part.kind for part in parts] == [
        "start",
        "novelty",
        "use",
        "repetition",
        "outcome",
        "age",
    ]
