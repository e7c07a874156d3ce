from __future__ import annotations

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.records import experience_weight
from ryzanstein.memory.store import MemoryStore


def record(store: MemoryStore, task: str, **fields: object) -> str:
    values = {"agent": "APEX", "outcome": "success", "fitness": 0.9, **fields}
    return store.record_experience(task=task, **values).id  # type: ignore[arg-type]


def test_a_similar_task_finds_the_experience_with_all_it_holds(store: MemoryStore) -> None:
    kept = store.record_experience(
        task="write a function for the n-th Fibonacci number",
        agent="APEX",
        outcome="success",
        fitness=0.9,
        strategy="iterate, then assert",
        tools=["run_python", "run_python"],
        lesson="iteration is quick enough",
        answer="def fib(n): ...",
        run_id="run_1",
        tokens=321,
        seconds=1.5,
    )
    record(store, "translate a letter to French")
    hit = store.find_experiences("Fibonacci function please")[0]
    assert hit.experience == kept == store.get_experience(kept.id)
    assert sum(reason.weight for reason in hit.reasons) == pytest.approx(hit.score)


def test_of_two_equal_tasks_the_better_outcome_comes_first_and_the_failure_is_kept(
    store: MemoryStore,
) -> None:
    bad = record(store, "parse the log file", outcome="failure", fitness=0.0, lesson="it is gzip")
    good = record(store, "parse the log file")
    hits = store.find_experiences("parse the log file")
    assert [hit.experience.id for hit in hits] == [good, bad]
    assert hits[1].experience.lesson == "it is gzip"


def test_lessons_are_found_by_their_words(store: MemoryStore) -> None:
    for number in range(5):
        record(store, f"tidy up folder {number}")
    kept = record(store, "import the sheet", lesson="delimiter was a semicolon: SEP7781")
    assert store.find_experiences("SEP7781")[0].experience.id == kept


def test_only_the_asked_agents_experiences_are_found(store: MemoryStore) -> None:
    record(store, "encrypt the file", agent="CIPHER")
    kept = record(store, "encrypt the file", agent="APEX")
    hits = store.find_experiences("encrypt a file", agent="APEX")
    assert [hit.experience.id for hit in hits] == [kept]


def test_a_rating_outweighs_what_the_run_thought(store: MemoryStore) -> None:
    id = record(store, "draw a chart")
    assert store.rate_experience(id, 0.0).weight < 0
    assert store.rate_experience(id, 1.0).weight == 1.0
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidRequest):
            store.rate_experience(id, bad)
    with pytest.raises(InvalidRequest, match="No experience"):
        store.rate_experience("exp_0", 1.0)


def test_weights_rise_with_fitness_and_failures_are_negative() -> None:
    assert experience_weight("verified", 0.8) == 0.8
    assert 0 < experience_weight("unknown", 0.8) < 0.8
    assert experience_weight("failed", 0.0) < experience_weight("failed", 0.9) <= 0
    assert experience_weight("verified", 0.9, rating=0.0) == pytest.approx(-0.3)


def test_what_a_model_wrote_is_repaired_rather_than_refused(store: MemoryStore) -> None:
    id = record(store, "say \ud800 hello", answer="nul \x00 here", lesson="x" * 1_100_000)
    kept = store.get_experience(id)
    assert kept is not None and "\x00" not in kept.answer and len(kept.lesson) == 1_000_000


def test_wrong_fields_are_refused(store: MemoryStore) -> None:
    for fields in ({"outcome": "great"}, {"fitness": 2.0}, {"tokens": -1}, {"agent": ""}):
        with pytest.raises(InvalidRequest):
            record(store, "task", **fields)
    with pytest.raises(InvalidRequest):
        record(store, "  ")
    assert store.stats().experiences == 0


def test_prototypes_add_up_weighted_vectors_and_follow_ratings_and_deletions(
    store: MemoryStore,
) -> None:
    tasks = ["encrypt a file", "sign a message", "plot a curve"]
    ids = [
        record(store, tasks[0], agent="CIPHER", fitness=1.0),
        record(store, tasks[1], agent="CIPHER", outcome="failure", fitness=0.0),
        record(store, tasks[2], agent="PRISM", fitness=0.5),
    ]
    vectors = store.embedder.embed(tasks)
    made = store.prototypes()
    cipher = made.agents["CIPHER"]
    assert (made.count, cipher.count) == (3, 2) and cipher.weight == pytest.approx(0.7)
    assert np.allclose(cipher.total, vectors[0] - 0.3 * vectors[1], atol=1e-6)
    assert np.allclose(made.mean, vectors.mean(axis=0), atol=1e-6)
    store.rate_experience(ids[1], 1.0)
    assert store.prototypes().agents["CIPHER"].weight == pytest.approx(2.0)
    assert store.forget(ids[2])
    assert set(store.prototypes().agents) == {"CIPHER"}


def test_prototypes_of_an_empty_store_are_empty(store: MemoryStore) -> None:
    made = store.prototypes()
    assert made.count == 0 and made.agents == {} and not made.mean.any()
