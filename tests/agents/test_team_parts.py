from __future__ import annotations

import pytest

from ryzanstein.agents.routing.route import Router
from ryzanstein.agents.team.members import best_of, consulted, members_of, successor
from ryzanstein.agents.team.merge import merged, verdict
from ryzanstein.agents.team.parts import split
from ryzanstein.agents.team.work import Done
from ryzanstein.errors import AgentNotFound, InvalidRequest
from ryzanstein.registry import Registry


@pytest.mark.parametrize(
    ("task", "after"),
    [
        ("What is 2 + 2?", [()]),
        ("1. Calculate 3 * 4.\n2. Find the port in server.ini.", [(), ()]),
        ("First calculate 144 * 12, then divide the result by 9.", [(), (0,)]),
        ("1. Calculate 3 * 4.\n2. Count the files.\n3. Add up both.", [(), (), (0, 1)]),
        (
            "1. Calculate 3 * 4.\n2. Count the files.\n3. Add 5 to the result of (1).",
            [(), (), (0,)],
        ),
        ("1. Read notes.md.\n2. Find the port in server.ini.", [(), ()]),
    ],
)
def test_a_part_waits_for_what_it_speaks_of_and_for_files_it_needs(
    task: str, after: list[tuple[int, ...]]
) -> None:
    assert [part.after for part in split(task)] == after


def test_a_part_that_writes_a_file_comes_before_one_that_reads_it() -> None:
    parts = split(
        "1. Write 'a b' to the file w.txt.\n2. Calculate 3 * 4.\n3. Count words of w.txt."
    )
    assert [part.after for part in parts] == [(), (), (0,)]


def test_a_part_keeps_what_was_said_before_the_list_since_its_agent_sees_nothing_else() -> None:
    listed = "1. Count the lines.\n2. Find the longest line."
    parts = split(f"Look at the file app.log of yesterday:\n{listed}")
    assert parts[0].text == "Look at the file app.log of yesterday:\nCount the lines."
    assert parts[1].text == "Look at the file app.log of yesterday:\nFind the longest line."
    assert split(f"Do this:\n{listed}")[0].text == "Count the lines."


def test_a_team_is_named_by_kind_of_task_or_by_its_members(declared: Registry) -> None:
    assert members_of("security", declared) == ("CIPHER", "FORTRESS")
    assert members_of("Code-Review", declared) == declared.routing.teams["code review"]
    assert members_of("apex, @tensor, APEX", declared) == ("APEX", "TENSOR")
    assert len(members_of("auto", declared)) == 40


def test_an_unknown_team_is_refused_with_those_there_are(declared: Registry) -> None:
    with pytest.raises(InvalidRequest, match="No team is called 'secuirty'") as raised:
        members_of("secuirty", declared)
    assert "security" in raised.value.hint
    with pytest.raises(AgentNotFound):
        members_of("APEX,NOBODY", declared)
    with pytest.raises(InvalidRequest, match="needs a member"):
        members_of(" , ", declared)


def test_the_member_that_fits_does_the_work_and_the_registry_says_who_helps(
    declared: Registry, router: Router
) -> None:
    assert best_of("Which Argon2 parameters for passwords?", ("FLUX", "CIPHER"), router) == "CIPHER"
    adviser = consulted("APEX", "Prove that this loop ends", declared, router)
    assert adviser in declared.agent("APEX").consults
    heir = successor("APEX", "Encrypt the file", ("APEX",), declared, router)
    assert heir == "CIPHER"
    assert successor("APEX", "x", declared.agent("APEX").hands_on_to, declared, router) is None


def _done(index: int, answer: str, verified: bool | None = None, **more: object) -> Done:
    return Done(index, f"part {index}", "APEX", answer, verified, **more)  # type: ignore[arg-type]


def test_an_answer_says_who_found_what_and_what_could_not_be_done() -> None:
    parts = [
        _done(0, "12", True),
        _done(1, "", reason="The file is locked."),
        _done(2, "```\nx\n```", None, consulted=("AXIOM",), handed_on=("FLUX",)),
    ]
    text = merged(parts)
    assert "1. 12\n   (APEX, checked)" in text
    assert "2. This could not be done: The file is locked. (APEX)" in text
    assert "   ```\n   (APEX, advised by AXIOM, taken over from FLUX)" in text
    assert verdict(parts) is False


def test_a_team_is_verified_where_every_part_was_checked() -> None:
    assert verdict([_done(0, "1", True), _done(1, "2", True)]) is True
    assert verdict([_done(0, "1", True), _done(1, "2", None)]) is None
    assert verdict([_done(0, "1", True), _done(1, "2", False)]) is False
