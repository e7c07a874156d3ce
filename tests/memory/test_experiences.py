from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.records import Lesson, experience_weight
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


def test_a_run_that_is_recorded_again_is_one_experience(store: MemoryStore) -> None:
    def run(outcome: str, **fields: object) -> str:
        return record(store, "sort the letters", outcome=outcome, run_id="run_1", **fields)

    first = run("failed", strategy="by hand", reason="It ran out of time.", lesson="be quick")
    store.rate_experience(first, 0.5)
    assert run("verified", strategy="with a program", tools=["run_python"]) == first
    assert run("verified", strategy="with a program", tools=["run_python"]) == first
    kept = store.get_experience(first)
    assert kept is not None and store.stats().experiences == 1
    assert (kept.outcome, kept.reason, kept.lesson, kept.rating) == ("verified", "", "", 0.5)
    assert run("verified", agent="PRISM") != first
    assert record(store, "sort the letters", run_id="run_2") != first
    # The identity it has now is the one it is known again by.
    again = {"strategy": "with a program", "tools": ["run_python"], "run_id": "run_3"}
    assert record(store, "sort the letters", **again) == first


def test_runs_recorded_twice_at_once_are_one_experience_each(store: MemoryStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(
            pool.map(
                lambda number: record(store, f"count {number // 2}", run_id=f"run_{number // 2}"),
                range(8),
            )
        )
    assert ids[::2] == ids[1::2] and store.stats().experiences == 4


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


def test_steps_reason_and_lessons_are_kept_and_the_former_words_are_understood(
    store: MemoryStore,
) -> None:
    lesson = {"title": "Gzip first", "description": "Logs of the server", "content": "Unpack them."}
    kept = store.record_experience(
        task="count the errors of the log",
        agent="APEX",
        outcome="failure",
        strategy="grep",
        steps=["read_file: server.log.gz"],
        reason="The file is gzip.",
        lesson="Look at the file's kind.",
        lessons=[lesson, Lesson("Short", "", "")],
        trace_id="trace-1",
        tier=3,
    )
    assert kept == store.get_experience(kept.id)
    assert (kept.outcome, kept.steps, kept.tier) == ("failed", ("read_file: server.log.gz",), 3)
    assert kept.lessons[0] == Lesson(**lesson) and len(kept.lessons) == 2
    assert kept.lesson.splitlines() == [
        "Look at the file's kind.",
        "Gzip first: Logs of the server Unpack them.",
        "Short",
    ]
    assert store.find_experiences("unpack")[0].experience.id == kept.id


def test_fitness_joins_the_outcome_the_cost_and_the_rating(store: MemoryStore) -> None:
    alike = "sort the list of berries by price, shop"
    cheap = [
        store.record_experience(
            task=f"{alike} {number}", agent="APEX", outcome="verified", tokens=100, seconds=1.0
        )
        for number in range(3)
    ]
    assert [one.fitness for one in cheap] == [1.0] * 3
    dear = store.record_experience(
        task=f"{alike} 4", agent="APEX", outcome="verified", tokens=800, seconds=1.0
    )
    assert dear.fitness == pytest.approx(0.85)
    assert store.rate_experience(dear.id, 0.0).fitness == pytest.approx(0.25 * 0.85)
    assert store.rate_experience(dear.id, 1.0).fitness == pytest.approx(0.25 * 0.85 + 0.75)
    fields = {"task": f"{alike} 5", "agent": "APEX"}
    unknown = store.record_experience(**fields, outcome="unknown")
    answered = store.record_experience(**fields, outcome="failed", answer="42")
    assert (unknown.fitness, answered.fitness) == (0.6, 0.2)
    silent = store.record_experience(task=f"{alike} 6", agent="APEX", outcome="failed")
    assert silent.fitness == 0.0


def test_an_exact_repeat_renews_the_experience_and_keeps_what_people_said(
    store: MemoryStore,
) -> None:
    fields = {"strategy": "sorted()", "tools": ["run_python"], "fitness": 0.9}
    first = record(store, "sort it", run_id="run_1", lesson="works", **fields)
    store.rate_experience(first, 0.5)
    again = store.record_experience(
        task="sort it", agent="APEX", outcome="verified", run_id="run_2", tokens=7, **fields
    )
    assert (again.id, again.run_id, again.tokens) == (first, "run_2", 7)
    assert (again.rating, again.lesson) == (0.5, "works")
    assert again.fitness == pytest.approx(0.25 * 0.9 + 0.75 * 0.5)
    assert again == store.get_experience(first) and store.stats().experiences == 1
    others: list[dict[str, object]] = [
        {"agent": "PRISM"},
        {"outcome": "failed"},
        {"strategy": "heapq"},
        {"tools": []},
    ]
    for other in others:
        record(store, "sort it", **{**fields, **other})
    record(store, "sort it now", **fields)
    assert store.stats().experiences == 6


def test_a_repeat_of_what_was_rated_since_is_known_too(store: MemoryStore) -> None:
    first = record(store, "sort it", outcome="unknown")
    assert store.rate_experience(first, 0.9).outcome == "rated"
    assert record(store, "sort it", outcome="rated") == first
    assert record(store, "sort it", outcome="unknown") != first


def test_one_or_two_are_given_a_failure_among_them_where_it_warns(store: MemoryStore) -> None:
    task = "sort the list of berries by price"
    for number in range(3):
        record(store, f"{task}, shop {number}", strategy=f"way {number}")
    failed = record(
        store, f"{task}, shop 9", outcome="failed", fitness=0.0, reason="prices are texts"
    )
    hits = store.find_experiences(task)
    assert len(hits) == 2 and hits[1].experience.id == failed
    assert any("prices are texts" in reason.detail for reason in hits[1].reasons)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("outcome", ["running", "cancelled", "", "Verified"])
def test_a_run_without_a_known_end_leaves_nothing(store: MemoryStore, outcome: str) -> None:
    with pytest.raises(InvalidRequest, match="no outcome of a finished run"):
        record(store, "sort it", outcome=outcome)
    assert store.stats().experiences == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tier": 0}, "tier is 0"),
        ({"seconds": float("nan")}, "negative or without end"),
        ({"trace_id": "a b"}, "cannot be a trace id"),
        ({"lessons": [{"title": " "}]}, "lesson's title is empty"),
        ({"lessons": [{"content": "x"}]}, "A lesson has a title"),
        ({"lessons": [{"title": "x", "colour": "y"}]}, "A lesson has a title"),
    ],
)
def test_wrong_parts_are_refused_by_name(
    store: MemoryStore, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        record(store, "sort it", **fields)


def test_the_same_run_recorded_by_many_at_once_is_kept_once(store: MemoryStore, url: str) -> None:
    with MemoryStore(url) as other, ThreadPoolExecutor(4) as pool:
        at_once = [
            pool.submit(record, (store, other)[number % 2], f"task {number % 3}", strategy="same")
            for number in range(24)
        ]
        ids = {one.result() for one in at_once}
    assert len(ids) == 3 == store.stats().experiences


def test_a_failure_without_a_reason_says_so_and_where_it_ended(store: MemoryStore) -> None:
    fields: dict[str, object] = {"outcome": "failed", "fitness": 0.0}
    bare = record(store, "parse the log file", **fields)
    ended = record(store, "count the words", steps=["open it", "split it"], **fields)
    taught = record(store, "sort the cards", lesson="they are not numbered", **fields)
    told = {id: store.get_experience(id) for id in (bare, ended, taught)}
    assert [one.reason for one in told.values() if one] == [
        "no reason was given",
        "no reason was given; the last step was: split it",
        "no reason was given",
    ]
    [hit] = store.find_experiences("sort the cards", limit=1)
    assert "failed: they are not numbered" in [reason.detail for reason in hit.reasons]
    [hit] = store.find_experiences("parse the log file", limit=1)
    assert hit.experience.id == bare
    assert "warning" not in [reason.kind for reason in hit.reasons]


def test_a_reason_that_is_known_is_not_lost_to_a_repeat_without_one(store: MemoryStore) -> None:
    fields: dict[str, object] = {"outcome": "failed", "fitness": 0.0}
    reasons = ("", "it is gzip", "")
    told = [record(store, "parse the log file", reason=reason, **fields) for reason in reasons]
    assert len(set(told)) == 1
    kept = store.get_experience(told[0])
    assert kept is not None and kept.reason == "it is gzip"
