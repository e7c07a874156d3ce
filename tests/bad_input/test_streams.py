"""Streams that are closed, full, or whose reader goes away."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def closed(redirection: str) -> list[str]:
    """A prefix that redirects as a shell does: `>&-` closes stdout."""
    return ["sh", "-c", f'exec "$@" {redirection}', "sh"]


@pytest.mark.parametrize("arguments", [("agents", "list", "--json"), ("memory", "export", "-")])
def test_a_full_disk_behind_stdout_is_one_line(place: Any, arguments: tuple[str, ...]) -> None:
    place.run("memory", "add", "The harbour closes at nine.")
    with Path("/dev/full").open("wb") as full:
        done = place.run(*arguments, stdout=full)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "stdout cannot be written: No space left on device" in done.err


def test_a_closed_stdout_is_said_and_what_was_done_stays_done(place: Any) -> None:
    done = place.run("memory", "add", "The harbour closes at nine.", wrap=closed(">&-"))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "stdout cannot be written" in done.err
    assert place.remembered() == ["The harbour closes at nine."]


def test_a_closed_stderr_changes_nothing_and_an_error_still_has_its_code(place: Any) -> None:
    done = place.run("agents", "show", "CYPHER", "--json", wrap=closed("2>&-"))
    assert done.code == 1
    assert done.json["error"]["code"] == "AGENT_NOT_FOUND"


def test_a_closed_stdin_is_an_empty_one(place: Any) -> None:
    done = place.run("ask", "-", "--json", wrap=closed("<&-"))
    assert done.failed("INVALID_REQUEST")["message"] == "The task is empty."
    assert place.run("mcp", "memory", wrap=closed("<&-")).code == 0


def test_with_every_stream_closed_the_exit_code_is_left(place: Any) -> None:
    assert place.run("agents", "show", "CYPHER", wrap=closed("<&- >&- 2>&-")).code == 1


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error_to_speak_of(
    make_place: Callable[..., Any], buffered: str
) -> None:
    place = make_place(PYTHONUNBUFFERED=buffered)
    with place.start("agents", "list", "--json", stdin=subprocess.DEVNULL) as child:
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == 1
