from __future__ import annotations

from collections.abc import Callable

import pytest

from ryzanstein.mcp_servers import _kept_runs
from ryzanstein.mcp_servers._shared import shared
from tests.core.cli.conftest import Done

Run = Callable[..., Done]


@pytest.fixture
def kept() -> None:
    """A run that is done, one whose process is gone, and one that left nothing."""
    runs = shared().runs
    events = [{"stage": "route", "message": "APEX takes the task", "at": 1.0}]
    result = {
        "events": events,
        "answer": "It is 4.",
        "verified": True,
        "checks": [{"name": "2 + 2 = 4", "passed": True, "detail": ""}],
        "steps": [],
        "experiences": [],
        "tokens": 9,
        "seconds": 0.5,
        "agent": "APEX",
        "failures": ["The memory was away.", "A tool was not allowed."],
    }
    runs.save("What is 2 + 2?", id="run-done", agent="APEX", result=result)
    runs.update("run-done", status="done")
    left = {"asked": {"task": "Say hello"}, "state": None}
    gone = _kept_runs.owner().rsplit(":", 1)[0] + ":1.00"
    runs.save("Say hello", id="run-gone", owner=gone, checkpoint=left, result={"events": events})
    failed = [*events, {"stage": "failure", "message": "The model was away.", "at": 2.0}]
    runs.save("Say nothing", id="run-old", status="failed", result={"events": failed})


def test_runs_are_listed_newest_first(run: Run, kept: None) -> None:
    found = run("runs", "list", "--json").json
    assert [one["run_id"] for one in found] == ["run-old", "run-gone", "run-done"]
    assert run("runs", "list", "--status", "done", "--json").json[0]["run_id"] == "run-done"
    assert "What is 2 + 2?" in run("runs", "list").out


def test_a_run_whose_process_is_gone_is_listed_as_interrupted(run: Run, kept: None) -> None:
    found = run("runs", "list", "--status", "interrupted", "--json").json
    assert [one["run_id"] for one in found] == ["run-gone"]
    assert run("runs", "list", "--status", "running", "--json").json == []


def test_a_run_is_shown_as_it_ended_or_with_how_to_go_on(run: Run, kept: None) -> None:
    done = run("runs", "show", "run-done").out
    assert "It is 4." in done
    assert "failures    The memory was away.\n            A tool was not allowed.\n" in done
    assert "failures    The model was away.\n" in run("runs", "show", "run-old").out
    gone = run("runs", "show", "run-gone")
    assert "interrupted" in gone.out and "ryzanstein runs resume run-gone" in gone.out
    assert run("runs", "show", "run-gone", "--json").json["status"] == "interrupted"


def test_a_run_is_watched_until_it_ends(run: Run, kept: None) -> None:
    done = run("runs", "watch", "run-done")
    assert "route: APEX takes the task" in done.err
    assert "It is 4." in done.out


def test_what_is_not_under_way_is_not_stopped(run: Run, kept: None) -> None:
    assert "run-done is not under way: done." in run("runs", "cancel", "run-done").out
    assert "run-gone is not under way: cancelled." in run("runs", "cancel", "run-gone").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("runs", "resume", "run-done"), "is done"),
        (("runs", "resume", "run-old"), "left nothing to go on from"),
        (("runs", "resume", "run-none"), "There is no run"),
        (("runs", "watch", "run-none"), "There is no run"),
        (("ask", "--resume", "run-old"), "left nothing to go on from"),
        (("ask", "Say goodbye", "--resume", "run-gone"), "is of another task"),
    ],
)
def test_what_cannot_be_gone_on_with_is_told_in_one_line(
    run: Run, kept: None, arguments: tuple[str, ...], says: str
) -> None:
    done = run(*arguments)
    assert done.code == 1
    assert says in done.err.splitlines()[-1]
