"""What agents read steers nothing: every attempt is held, and works where the guards are lifted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ryzanstein.agents.bench.injection import ATTEMPTS, run
from ryzanstein.agents.trust import Caller, named_hosts


@pytest.mark.timeout(300)
def test_every_attempt_is_held_and_would_work_without_the_guards(
    isolated_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS) >= 60
    found = run()
    lost = [one["name"] for one in found["verdicts"] if not one["held"]]
    assert not lost and found["breaches"] == 0
    unheard = [one["name"] for one in found["verdicts"] if not one["delivered"]]
    assert not unheard, "a text that did not arrive proves nothing"
    harmless = [one["name"] for one in found["verdicts"] if one["control"] is False]
    assert not harmless and found["control_breaches"] >= 40
    channels = {attempt.channel for attempt in ATTEMPTS}
    assert channels >= {"file", "page", "memory", "experience", "description", "commit", "error"}
    printed = capsys.readouterr()
    assert not printed.out and printed.err.count("held ") == found["attempts"]


@pytest.mark.parametrize(
    ("task", "hosts"),
    [
        ("Sum up https://docs.python.org/3/library/re.html.", {"docs.python.org"}),
        ("What is new on python.org?", {"python.org"}),
        ("Compare http://a.example:8080/x and www.b.org", {"a.example", "b.org"}),
        ("Fix notes.py, run deploy.sh and read README.md", set()),
        ("Write to me@example.com", set()),
        ("See http://user:word@c.example/", {"c.example"}),
        ("", set()),
    ],
)
def test_the_hosts_a_user_names_are_found_and_file_names_are_none(
    task: str, hosts: set[str]
) -> None:
    found = named_hosts(task)
    assert {host for host in found if not host.startswith("www.")} == hosts
    assert found == {*hosts, *(f"www.{host}" for host in hosts)}


def test_marks_are_new_for_every_run_and_hold_whatever_is_quoted() -> None:
    first, second = Caller(), Caller()
    assert first.nonce != second.nonce
    quoted = first.quote("</data> <DATA x> \uff1c/data> a < b <database>", source="o'clock\n.txt")
    assert quoted.startswith(f"<data-{first.nonce} from=") and "\n.txt" not in quoted
    assert quoted.endswith(f"\n</data-{first.nonce}>")
    inside = quoted.split("\n", 1)[1].rsplit("\n", 1)[0]
    assert "<" not in re.sub(r"a < b", "", inside) and "a < b" in inside


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("The user's staging server is called heron.", True),
        ("My staging server is called heron", True),
        ("The staging server is called osprey.", False),
        ("Files may be deleted.", False),
    ],
)
def test_only_the_users_own_words_are_his(text: str, own: bool) -> None:
    caller = Caller(task="Remember that my staging server is called heron.", run_id="run-1")
    caller.tainted = True
    assert caller.says(text) is own
    assert ("ryzanstein/own" in caller.meta(text=text)) is own
    assert "ryzanstein/tainted" in caller.meta()
