from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.insight import LEAST_NEIGHBOURS
from ryzanstein.memory.records import Experience, ExperienceHit
from ryzanstein.memory.store import MemoryStore

FRUIT = ["apples", "pears", "plums", "cherries", "grapes", "lemons", "limes", "figs", "dates"]


def record(store: MemoryStore, task: str, **fields: Any) -> Experience:
    values = {"agent": "APEX", "outcome": "verified", "tier": 1, **fields}
    return store.record_experience(task=task, **values)


def history(store: MemoryStore, count: int = LEAST_NEIGHBOURS, fitness: float = 0.4) -> None:
    """Runs of tasks like each other that all went about equally well."""
    for number, fruit in enumerate(FRUIT[:count]):
        own = fitness + 0.02 * (number % 3)
        record(store, f"sort the list of {fruit} by price", fitness=own, strategy="bubble sort")


def excellent(store: MemoryStore, **fields: Any) -> Experience:
    values = {"fitness": 1.0, "strategy": "one sorted() call", **fields}
    return record(store, "sort the list of berries by price", **values)


def kinds(hit: ExperienceHit) -> set[str]:
    return {reason.kind for reason in hit.reasons}


def test_a_fitness_far_above_its_neighbourhoods_history_is_a_breakthrough(
    store: MemoryStore,
) -> None:
    history(store)
    kept = excellent(store)
    assert kept.breakthrough is not None and kept.breakthrough >= 3.5 and not kept.refuted
    assert store.breakthroughs() == [kept] == store.breakthroughs(tier=1, refuted=False)
    assert store.breakthroughs(tier=2) == [] == store.breakthroughs(refuted=True)


def test_the_first_ever_and_one_with_too_few_neighbours_are_none(store: MemoryStore) -> None:
    assert excellent(store).breakthrough is None
    history(store, LEAST_NEIGHBOURS - 2)
    late = record(store, "sort the list of nuts by price", fitness=1.0)
    assert late.breakthrough is None


def test_runs_of_other_tasks_are_no_neighbourhood(store: MemoryStore) -> None:
    history(store)
    other = record(store, "translate a poem about the sea into French", fitness=1.0)
    assert other.breakthrough is None


def test_what_nobody_checked_and_what_is_only_a_little_better_are_none(store: MemoryStore) -> None:
    history(store)
    assert excellent(store, outcome="unknown").breakthrough is None
    assert record(store, "sort a list of kiwis by price", fitness=0.5).breakthrough is None


def test_once_everybody_does_well_nobody_breaks_through(store: MemoryStore) -> None:
    history(store, fitness=0.95)
    assert excellent(store).breakthrough is None


def test_it_is_told_to_every_agent_of_its_tier_and_to_no_other(store: MemoryStore) -> None:
    history(store)
    kept = excellent(store, agent="CIPHER")
    for agent in (None, "APEX", "PRISM"):
        hits = store.find_experiences("sort a list of melons by price", agent=agent, tier=1)
        told = next(hit for hit in hits if hit.experience.id == kept.id)
        reason = next(one for one in told.reasons if one.kind == "breakthrough")
        assert "every agent of tier 1" in reason.detail and reason.weight > 0
        assert told.score == pytest.approx(sum(one.weight for one in told.reasons))
    elsewhere = store.find_experiences("sort a list of melons by price", agent="PRISM", tier=2)
    assert elsewhere == []
    far = store.find_experiences("translate a letter", tier=1)
    assert not any(reason.weight for hit in far for reason in hit.reasons if "break" in reason.kind)


def test_it_lifts_other_runs_of_its_strategy(store: MemoryStore) -> None:
    history(store)
    excellent(store)
    way: dict[str, Any] = {"strategy": "One  SORTED() call", "fitness": 0.6}
    same = record(store, "sort the list of melons by price", **way)
    hits = store.find_experiences("sort the list of melons by price", limit=20)
    lifted = [hit.experience.id for hit in hits if "strategy" in kinds(hit)]
    assert lifted == [same.id]


def test_a_later_failure_of_its_strategy_refutes_it_and_the_flag_says_so(
    store: MemoryStore,
) -> None:
    history(store)
    kept = excellent(store)
    way: dict[str, Any] = {"strategy": "one sorted() call", "outcome": "failed", "fitness": 0.1}
    record(store, "translate a poem about the sea into French", **way)
    assert store.breakthroughs(refuted=False) == [kept]
    record(store, "sort the list of melons by price", reason="prices are texts", **way)
    (refuted,) = store.breakthroughs()
    assert refuted.refuted and refuted.breakthrough == kept.breakthrough
    hits = store.find_experiences("sort the list of berries by price", tier=1, limit=20)
    told = next(hit for hit in hits if hit.experience.id == kept.id)
    assert "refuted" in kinds(told) and "breakthrough" not in kinds(told)
    assert not any("strategy" in kinds(hit) for hit in hits)


def test_one_failure_among_later_successes_does_not_refute_it_and_most_of_them_do(
    store: MemoryStore,
) -> None:
    history(store)
    kept = excellent(store)
    way: dict[str, Any] = {"strategy": "one sorted() call"}
    for shop in (1, 2):
        record(store, f"sort the list of berries by price, shop {shop}", fitness=1.0, **way)
    for shop, refuted in ((3, False), (4, False), (5, True)):
        task = f"sort the list of berries by price, shop {shop}"
        record(store, task, outcome="failed", fitness=0.0, reason="prices are texts", **way)
        found = store.get_experience(kept.id)
        assert found is not None and found.refuted is refuted


def test_ratings_refute_and_make_breakthroughs(store: MemoryStore) -> None:
    history(store)
    kept = excellent(store)
    rated = store.rate_experience(kept.id, 0.0)
    assert rated.refuted and rated.breakthrough == kept.breakthrough
    later = record(store, "sort the list of melons by price", outcome="unknown", fitness=0.6)
    assert later.breakthrough is None
    praised = store.rate_experience(later.id, 1.0)
    assert praised.outcome == "rated" and praised.breakthrough is not None
    assert praised.fitness == pytest.approx(0.9)


def test_a_breakthrough_is_seen_by_other_stores_on_the_same_database(
    store: MemoryStore, url: str
) -> None:
    history(store)
    kept = excellent(store)
    with MemoryStore(url) as other:
        hits = other.find_experiences("sort a list of melons by price", agent="PRISM", tier=1)
        assert [hit.experience.id for hit in hits] == [kept.id]


def test_the_agent_that_did_such_tasks_well_is_consulted_most_and_strangers_get_a_turn(
    store: MemoryStore,
) -> None:
    for fruit in FRUIT:
        record(store, f"sort the list of {fruit} by price", agent="APEX", fitness=0.95)
        task = f"sort the list of {fruit} by weight"
        record(store, task, agent="PRISM", outcome="failed", fitness=0.1)
    names = ["APEX", "PRISM", "SCRIBE"]
    task = "sort the list of melons by price"
    first = Counter(store.consult(names, task, seed=seed)[0].name for seed in range(60))
    assert first["APEX"] > first["SCRIBE"] > first["PRISM"]
    one, again = (store.consult(names[::-1], task, seed=7) for _ in range(2))
    assert one == again and {draw.name for draw in one} == set(names)
    strange = store.consult(names, "write a sonnet about the moon", seed=7)
    assert all(draw.belief.weight == 0 for draw in strange)


def test_bad_questions_are_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidRequest, match="task is empty"):
        store.consult(["APEX"], " ")
    with pytest.raises(InvalidRequest, match="0 candidates"):
        store.consult([], "sort")
    with pytest.raises(InvalidRequest, match="codename"):
        store.consult(["no name"], "sort")
    for wrong in (0, 1_001):
        with pytest.raises(InvalidRequest, match="limit"):
            store.breakthroughs(limit=wrong)
    with pytest.raises(InvalidRequest, match="tier"):
        store.find_experiences("sort", tier=0)
