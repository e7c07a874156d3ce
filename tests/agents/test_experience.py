from __future__ import annotations

from ryzanstein.agents.running import experience
from ryzanstein.agents.running.step import Call, Step
from ryzanstein.agents.verification.checks import Check

GOOD = Step("tool", "query_sqlite", {"sql": "SELECT 1", "database": "a.db"}, "1")
BAD = Step("tool", "run_python", {"code": "1/0"}, "Traceback\nZeroDivisionError: x", ok=False)


LOOK = Step("look", arguments={"path": "a.db"}, observation="tables: t")
CHECK = Step("check", "run_python", {"code": "def f(): ..."})


def test_a_checked_answer_is_verified_with_the_calls_that_worked() -> None:
    kept = experience.experience("t", [LOOK, GOOD], [Check("c", True)], True, "It is 1.")
    assert (kept["outcome"], kept["reason"]) == ("verified", "")
    assert kept["strategy"] == "looked into what the task names, then query_sqlite"
    assert kept["steps"] == ["looked at a.db", "query_sqlite: SELECT 1 | a.db"]
    assert kept["tools"] == ["query_sqlite"]
    assert [one["title"] for one in kept["lessons"]] == ["What held"]


def test_the_same_way_with_other_arguments_is_the_same_strategy() -> None:
    other = Step("tool", "query_sqlite", {"sql": "SELECT 2", "database": "b.db"}, "2")
    assert experience.strategy([GOOD]) == experience.strategy([BAD, other, other])
    assert experience.strategy([CHECK]) != experience.strategy([])


def test_a_failed_check_is_a_failure_that_says_why_and_what_to_avoid() -> None:
    kept = experience.experience(
        "t", [CHECK], [Check("f(1) == 2", False, "f(1) gave 3")], False, "x"
    )
    assert kept["outcome"] == "failed"
    assert kept["reason"] == "A check failed: f(1) == 2: f(1) gave 3"
    (lesson,) = kept["lessons"]
    assert lesson["description"] == kept["reason"] and "asserts first" in lesson["content"]


def test_what_failed_on_the_way_and_what_worked_instead_is_a_lesson() -> None:
    kept = experience.experience("t", [BAD, GOOD], [], None, "It is 1.")
    assert kept["outcome"] == "unknown"
    assert kept["lessons"] == [
        {
            "title": "run_python failed first",
            "description": "ZeroDivisionError: x",
            "content": "What worked instead: query_sqlite: SELECT 1 | a.db",
        }
    ]
    assert kept["steps"][0] == "run_python failed: ZeroDivisionError: x"
    assert "1/0" not in kept["strategy"]


def test_a_check_that_could_not_be_told_holds_nothing() -> None:
    kept = experience.experience("t", [], [Check("c", None)], None, "x")
    assert (kept["outcome"], kept["lessons"]) == ("unknown", [])


def test_no_answer_is_a_failure_that_says_what_ended_it() -> None:
    kept = experience.experience("t", [], [], None, "")
    assert (kept["outcome"], kept["reason"]) == ("failed", "No answer came of it.")
    late = experience.experience("t", [GOOD], [], None, "", stopped="It ran out of time.")
    assert late["reason"] == "It ran out of time."


def test_every_part_is_short_whatever_happened() -> None:
    loud = Step("tool", "run_python", {"code": "x" * 9_000}, "y" * 9_000, ok=False)
    kept = experience.experience("t", [loud, GOOD] * 40, [], None, "z" * 9_000)
    assert len(kept["steps"]) == 20 and max(map(len, kept["steps"])) <= 240
    assert len(kept["strategy"]) <= 300
    assert all(len(part) <= 600 for one in kept["lessons"] for part in one.values())


def test_only_near_experiences_are_shown_and_at_most_two() -> None:
    hits = [
        {"id": str(i), "score": 1.0, "similarity": s} for i, s in enumerate((0.9, 0.8, 0.7, 0.1))
    ]
    assert [hit["id"] for hit in experience.chosen(hits)] == ["0", "1"]
    assert experience.chosen(hits[3:]) == []


def test_a_reminder_never_carries_the_old_answer() -> None:
    kept = experience.experience("t", [GOOD], [Check("c", True)], True, "It is 4711.")
    assert "4711" not in experience.reminder(kept)


def test_a_reminder_says_how_it_went_and_what_was_done() -> None:
    failed = experience.experience("t", [BAD], [], None, "", stopped="It ran out of time.")
    said = experience.reminder({**failed, "lesson": "Ask for less."})
    assert "It failed: It ran out of time." in said
    assert "run_python failed: ZeroDivisionError: x" in said and "Ask for less." in said
    rated = experience.reminder({"task": "t", "outcome": "rated", "rating": 0.9})
    assert "A person rated it 90%." in rated


def test_the_same_call_has_the_same_key() -> None:
    one = Call("t", {"a": 1, "b": 2})
    assert one.key == Call("t", {"b": 2, "a": 1}).key != Call("t", {"a": 1}).key
