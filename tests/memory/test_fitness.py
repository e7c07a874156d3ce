from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ryzanstein.memory.fitness import (
    LEAST_MAD,
    OUTLIER,
    QUALITIES,
    expense,
    joined,
    outlier,
    own_fitness,
    rerated,
    robust_z,
)

share = st.floats(0, 1)


def test_a_run_as_dear_as_its_neighbours_or_cheaper_pays_nothing() -> None:
    assert expense(100, [80, 100, 120]) == expense(10, [100, 100]) == 0.0
    assert expense(200, [100, 100]) == pytest.approx(1 / 3)
    assert expense(800, [100]) == expense(80_000, [100]) == 1.0


def test_unknown_costs_are_no_costs() -> None:
    assert expense(0, [100]) == expense(100, []) == expense(100, [0, 0]) == 0.0
    assert expense(200, [0, 0, 100]) == pytest.approx(1 / 3)


@given(share, share)
def test_a_verified_run_at_any_cost_beats_an_unchecked_one_and_that_a_failed_one(
    one: float, other: float
) -> None:
    best, middle, worst = (QUALITIES[name] for name in ("verified", "unknown", "failed"))
    assert own_fitness(best, one) > own_fitness(middle, other)
    assert own_fitness(middle, one) > own_fitness(worst, other)


@given(share, share, share)
def test_the_dearer_of_tokens_and_seconds_counts(quality: float, one: float, other: float) -> None:
    assert own_fitness(quality, one, other) == own_fitness(quality, max(one, other))
    assert 0 <= own_fitness(quality, one) <= quality == own_fitness(quality)


@given(share, share)
def test_a_rating_draws_the_fitness_towards_itself_within_bounds(own: float, rating: float) -> None:
    made = joined(own, rating)
    assert min(own, rating) - 1e-12 <= made <= max(own, rating) + 1e-12
    assert joined(own, None) == own


@given(share, share, share)
def test_rating_anew_is_as_if_the_former_rating_had_never_been(
    own: float, former: float, rating: float
) -> None:
    again = rerated(joined(own, former), former, rating)
    assert again == pytest.approx(rerated(own, None, rating), abs=1e-9)


def test_the_robust_z_of_a_normal_history_is_its_z() -> None:
    history = np.random.default_rng(1).normal(0.5, 0.1, 5_000)
    assert robust_z(0.8, history.tolist()) == pytest.approx(3.0, rel=0.05)
    assert robust_z(0.2, history.tolist()) == pytest.approx(-3.0, rel=0.05)


def test_one_odd_run_does_not_hide_the_next() -> None:
    history = [0.4, 0.42, 0.38, 0.41, 0.39, 0.4, 0.43, 0.37]
    assert robust_z(0.9, [*history, 1.0]) == pytest.approx(robust_z(0.9, history), rel=0.1)


def test_a_history_without_spread_has_the_least_one() -> None:
    assert robust_z(0.6, [0.6] * 10) == 0.0
    assert robust_z(0.7, [0.6] * 10) == pytest.approx(0.6745 * 0.1 / LEAST_MAD)


@pytest.mark.parametrize("size", [8, 16, 32])
@pytest.mark.parametrize("successes", [0.0, 0.2, 0.4, 0.7, 1.0])
def test_a_run_like_its_history_is_seldom_an_outlier(size: int, successes: float) -> None:
    random = np.random.default_rng(5)
    found = 0
    for _ in range(400):
        went = random.random(size + 1) < successes
        runs = np.where(went, random.uniform(0.85, 1.0, size + 1), random.uniform(0, 0.2, size + 1))
        found += outlier(float(runs[0]), runs[1:].tolist()) is not None
    # Most for one success in five: at 8, none was seen before in .8^8 = 17 % of the histories.
    assert found / 400 <= 0.05


def test_a_first_success_after_failures_is_an_outlier_and_the_third_is_not() -> None:
    failures = [0.0, 0.1, 0.2, 0.05, 0.1, 0.15, 0.2, 0.1, 0.0, 0.1]
    assert outlier(0.9, failures) == robust_z(0.9, failures) > OUTLIER
    assert outlier(0.9, [*failures, 0.95]) is not None
    assert outlier(0.9, [*failures, 0.95, 0.9]) is None
