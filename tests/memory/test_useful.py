from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ryzanstein.memory.records import Experience, ExperienceHit, Reason
from ryzanstein.memory.useful import lifted, useful

BARE = Experience(
    id="exp_0",
    task="sort",
    agent="APEX",
    outcome="verified",
    fitness=1.0,
    strategy="",
    tools=(),
    lesson="",
    answer="",
    run_id=None,
    tokens=0,
    seconds=0.0,
    rating=None,
    created=datetime(2026, 1, 1, tzinfo=UTC),
)


def hit(id: str, score: float, similarity: float = 0.8, **fields: Any) -> ExperienceHit:
    one = replace(BARE, id=id, **fields)
    return ExperienceHit(one, score, similarity, (Reason("meaning", "near", score),))


def told(hits: list[ExperienceHit], tier: int | None = None, limit: int = 2) -> list[str]:
    made = [lifted(one, tier, {"k"}) for one in hits]
    return [one.experience.id for one in useful(made, tier, limit)]


def test_the_best_come_first_and_no_more_than_asked_for() -> None:
    hits = [hit("a", 1.0), hit("b", 3.0), hit("c", 2.0)]
    assert told(hits) == ["b", "c"]
    assert told(hits, limit=1) == ["b"]
    assert told([]) == []


def test_a_second_run_of_the_same_strategy_gives_way_to_another() -> None:
    hits = [hit("a", 3.0, strategy_key="x"), hit("b", 2.0, strategy_key="x"), hit("c", 1.0)]
    assert told(hits) == ["a", "c"]
    assert told(hits[:2]) == ["a", "b"]


def test_a_failure_on_a_task_like_this_one_is_among_them_and_says_why() -> None:
    failed = hit("f", 0.0, outcome="failed", reason="the file is gzip")
    hits = [hit("a", 3.0), hit("b", 2.0), failed]
    assert told(hits) == ["a", "f"]
    assert told(hits, limit=1) == ["a"]
    assert "the file is gzip" in str(lifted(failed, None, ()).reasons[-1])


def test_a_failure_on_another_task_or_without_a_word_why_does_not_warn() -> None:
    good = [hit("a", 3.0), hit("b", 2.0)]
    assert told([*good, hit("f", 0.0, 0.3, outcome="failed", reason="x")]) == ["a", "b"]
    assert told([*good, hit("f", 0.0, outcome="failed")]) == ["a", "b"]


def test_a_breakthrough_of_the_tier_comes_before_a_warning() -> None:
    hits = [
        hit("a", 9.0),
        hit("b", 8.0),
        hit("f", 0.0, outcome="failed", reason="x"),
        hit("t", 0.1, breakthrough=4.0, tier=2),
    ]
    assert told(hits, tier=2) == ["a", "t"]
    assert told(hits, tier=1) == ["a", "f"]
    assert told([*hits[:3], hit("t", 0.1, breakthrough=4.0, tier=2, refuted=True)], 2) == ["a", "f"]


def test_a_strategy_is_lifted_until_its_breakthrough_is_refuted() -> None:
    same = hit("a", 1.0, strategy_key="k")
    assert lifted(same, None, {"k"}).score == 1.25
    assert lifted(same, None, set()).score == 1.0
    assert lifted(hit("a", 1.0), None, {None}).score == 1.0
