from __future__ import annotations

import math

import numpy as np
import pytest

from ryzanstein.memory.sketches.thompson import Belief, belief, ranked

TRUE = {"POOR": 0.3, "FAIR": 0.5, "GOOD": 0.7}


def played(seed: int, rounds: int) -> list[str]:
    """Whom a sampler asks that learns from each answer, good with the candidate's chance."""
    random = np.random.default_rng(seed)
    outcomes: dict[str, list[tuple[float, float]]] = {name: [] for name in TRUE}
    asked = []
    for _ in range(rounds):
        beliefs = {name: belief(seen) for name, seen in outcomes.items()}
        name = ranked(beliefs, random)[0].name
        outcomes[name].append((float(random.random() < TRUE[name]), 1.0))
        asked.append(name)
    return asked


def test_it_settles_on_the_best_and_its_regret_is_within_the_logarithmic_bound() -> None:
    rounds, regrets, late = 500, [], []
    for seed in range(5):
        asked = played(seed, rounds)
        regrets.append(sum(TRUE["GOOD"] - TRUE[name] for name in asked))
        late.append(asked[-100:].count("GOOD") / 100)
        assert set(asked[:100]) == set(TRUE)  # everybody gets a turn
    # Lai and Robbins' constant for these chances, which Thompson sampling reaches, and half more.
    bound = 1.5 * sum(
        (0.7 - p) / (p * math.log(p / 0.7) + (1 - p) * math.log((1 - p) / 0.3)) for p in (0.3, 0.5)
    )
    assert np.mean(regrets) <= bound * math.log(rounds)
    assert np.mean(late) >= 0.85


def test_an_unknown_candidate_is_tried_beside_a_known_fair_one_but_not_a_known_bad_one() -> None:
    fair = belief([(0.6, 1.0)] * 50)
    bad = belief([(0.0, 1.0)] * 50)
    random = np.random.default_rng(3)
    first = [
        ranked({"KNOWN": fair, "NEW": Belief(), "BAD": bad}, random)[0].name for _ in range(1_000)
    ]
    # P(uniform > about 0.6) = 0.4, within four standard deviations.
    assert first.count("NEW") / 1_000 == pytest.approx(0.4, abs=0.065)
    assert first.count("BAD") == 0


def test_past_tasks_count_by_their_similarity() -> None:
    made = belief([(1.0, 0.5), (0.0, 0.25), (0.5, 0.0)])
    assert (made.alpha, made.beta) == (1.5, 1.25)
    assert made.weight == pytest.approx(0.75) and made.mean == pytest.approx(1.5 / 2.75)
    for wrong in ((1.5, 1.0), (0.5, -1.0), (math.nan, 1.0), (0.5, math.nan)):
        with pytest.raises(ValueError, match="no quality"):
            belief([wrong])


def test_a_seed_gives_the_same_draws_in_whatever_order_the_candidates_come() -> None:
    beliefs = {name: Belief(2.0, 2.0) for name in "CAB"}
    turned = dict(reversed(beliefs.items()))
    one, other = (ranked(some, np.random.default_rng(5)) for some in (beliefs, turned))
    assert one == other and [d.value for d in one] == sorted((d.value for d in one), reverse=True)
