from __future__ import annotations

from ryzanstein.agents import experience
from ryzanstein.agents.step import Call, Step
from ryzanstein.agents.verify import Check

GOOD = Step("tool", "query_sqlite", {"sql": "SELECT 1", "database": "a.db"}, "1")
BAD = Step("tool", "run_python", {"code": "1/0"}, "Traceback\nZeroDivisionError: x", ok=False)


def test_a_checked_answer_is_a_success_with_the_calls_that_worked() -> None:
    kept = experience.experience("t", [GOOD], [Check("c", True)], True, "It is 1.")
    assert (kept["outcome"], kept["fitness"]) == ("verified", 1.0)
    assert kept["strategy"] == "query_sqlite: SELECT 1 | a.db"
    assert kept["tools"] == ["query_sqlite"]


def test_a_failed_check_is_a_failure_that_says_why() -> None:
    kept = experience.experience("t", [], [Check("f(1) == 2", False, "f(1) gave 3")], False, "x")
    assert kept["outcome"] == "failed"
    assert "f(1) gave 3" in kept["lesson"]


def test_what_failed_on_the_way_is_the_lesson() -> None:
    kept = experience.experience("t", [BAD, GOOD], [], None, "It is 1.")
    assert kept["outcome"] == "unknown"
    assert kept["lesson"] == "run_python failed first: ZeroDivisionError: x"
    assert "1/0" not in kept["strategy"]


def test_no_answer_is_a_failure_of_fitness_zero() -> None:
    kept = experience.experience("t", [], [], None, "")
    assert (kept["outcome"], kept["fitness"]) == ("failed", 0.0)


def test_only_near_experiences_are_shown_and_at_most_two() -> None:
    hits = [
        {"id": str(i), "score": 1.0, "similarity": s} for i, s in enumerate((0.9, 0.8, 0.7, 0.1))
    ]
    assert [hit["id"] for hit in experience.chosen(hits)] == ["0", "1"]
    assert experience.chosen(hits[3:]) == []


def test_a_reminder_never_carries_the_old_answer() -> None:
    kept = experience.experience("t", [GOOD], [Check("c", True)], True, "It is 4711.")
    assert "4711" not in experience.reminder(kept)


def test_the_same_call_has_the_same_key() -> None:
    one = Call("t", {"a": 1, "b": 2})
    assert one.key == Call("t", {"b": 2, "a": 1}).key != Call("t", {"a": 1}).key
