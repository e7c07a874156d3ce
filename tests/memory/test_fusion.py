from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from ryzanstein.memory.fusion import Candidates, Weights, fuse, unrelated


def candidates(words: list[float], **sides: list[float]) -> Candidates:
    """Rows that match so many words; every other side says nothing unless it is given."""
    count = len(words)
    zeros = np.zeros(count)
    given = {name: np.array(values) for name, values in sides.items()}
    return Candidates(
        rows=given.get("rows", np.arange(count)),
        cosines=given.get("cosines", zeros),
        words=np.array(words, dtype=np.float64),
        groups=given.get("groups", np.full(count, -1)),
        turns=given.get("turns", np.arange(count)),
        speaker=given.get("speaker", zeros),
        substance=given.get("substance", zeros),
        time=given.get("time", zeros),
        standing=given.get("standing", zeros),
    )


def test_the_score_is_the_sum_of_its_shares() -> None:
    random = np.random.default_rng(5)
    sides = {
        name: random.random(40).tolist()
        for name in ("cosines", "speaker", "substance", "time", "standing")
    }
    groups = random.integers(-1, 4, 40).tolist()
    found = candidates(random.random(40).tolist(), groups=groups, **sides)
    shares = fuse(found)
    parts = [getattr(shares, field.name) for field in fields(shares)]
    assert np.allclose(shares.total, np.sum(parts, axis=0))
    assert all(np.isfinite(part).all() for part in parts)


def test_a_turn_gains_from_the_words_before_it_more_than_from_those_after() -> None:
    found = candidates([0, 0, 9, 0, 0, 0, 0], groups=[0] * 7)
    near = fuse(found).neighbours
    assert near[3] > near[4] > near[5] and near[3] > near[1] > near[0]
    assert near[5] == near[6] == pytest.approx(min(near))


def test_words_of_another_session_or_of_no_neighbour_do_not_count() -> None:
    found = candidates([9, 0, 0, 0], groups=[0, 1, 0, -1], turns=[4, 5, 9, 5])
    near = fuse(found).neighbours
    assert near.tolist() == pytest.approx([0, 0, 0, 0])


def test_parts_of_one_long_turn_share_their_neighbours() -> None:
    found = candidates([0, 0, 6, 1], groups=[0, 0, 0, 0], turns=[1, 1, 2, 2])
    near = fuse(found).neighbours
    assert near[0] == near[1] > near[2] == near[3]


def test_a_fact_is_neither_helped_nor_hurt_by_what_only_turns_have() -> None:
    found = candidates([1, 5, 2], groups=[-1, 0, 0], substance=[0, 3, 1])
    shares = fuse(found)
    assert shares.neighbours[0] == shares.session[0] == shares.substance[0] == 0


def test_a_session_with_many_matches_lifts_its_turns() -> None:
    found = candidates([4, 4, 4, 0, 4, 0], groups=[0, 0, 0, 0, 1, 1], turns=[0, 5, 10, 20, 30, 40])
    session = fuse(found).session
    assert session[3] > 0 > session[5] and session[3] == session[0]


def test_equal_sides_decide_nothing_and_small_spreads_are_not_blown_up() -> None:
    even = fuse(candidates([2.0] * 5, cosines=[0.4] * 5))
    assert not even.total.any()
    narrow = fuse(candidates([0.0] * 2, cosines=[0.40, 0.41]))
    assert abs(narrow.meaning).max() < 0.1


def test_one_candidate_alone_scores_by_its_standing() -> None:
    assert fuse(candidates([3.0], standing=[0.25], groups=[0])).total.tolist() == [0.25]


def test_what_shares_nothing_with_the_query_is_unrelated() -> None:
    found = candidates(
        [0, 0, 3, 0, 0],
        cosines=[0.05, 0.5, 0.05, 0.05, 0.05],
        groups=[-1, -1, 0, 0, 0],
        turns=[0, 0, 1, 2, 30],
    )
    assert unrelated(found, fuse(found)).tolist() == [True, False, False, False, True]


def test_weights_know_how_far_they_reach() -> None:
    weights = Weights(before=(0.5,), after=(0.3, 0.2, 0.1))
    assert weights.reach == 3
    assert dict(weights.offsets) == {-1: 0.5, 1: 0.3, 2: 0.2, 3: 0.1}
