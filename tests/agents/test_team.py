"""Teams over real servers, with a scripted model behind an OpenAI-compatible URL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.route import Router
from ryzanstein.agents.team.result import TeamResult
from ryzanstein.agents.team.review import code_of
from ryzanstein.agents.team.run import run_team
from ryzanstein.errors import AgentNotFound, InvalidRequest, StorageError, TimedOut
from ryzanstein.events import Event
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.registry import Limits, Registry
from tests.agents.backend_server import BackendServer
from tests.agents.test_backends import spec

TWO = "1. Calculate 3 * 4.\n2. Calculate 5 * 6."
CHAIN = "First calculate 3 * 4, then multiply the result by 10."


def _asked(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def _persona(body: Mapping[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def _sums(body: Mapping[str, Any]) -> str:
    asked = _asked(body)
    if "multiply" in asked:
        return "12 * 10 = 120"
    return "3 * 4 = 12" if "3 * 4" in asked else "5 * 6 = 30"


class _Team:
    """Runs tasks through a team whose model is scripted."""

    def __init__(self, declared: Registry, router: Router) -> None:
        self.declared = declared
        self.router = router
        self.events: list[Event] = []
        self.states: list[dict[str, Any]] = []

    async def __call__(
        self, task: str, server: BackendServer, team: str = "auto", **options: Any
    ) -> TeamResult:
        registry = self.declared.model_copy(update={"backends": (spec(server.url),)})

        async def hear(event: Event) -> None:
            self.events.append(event)

        async def keep(state: dict[str, Any]) -> None:
            self.states.append(json.loads(json.dumps(state)))

        async with Services(registry) as services:
            return await run_team(
                task,
                services=services,
                registry=registry,
                router=self.router,
                team=team,
                tools=False,
                on_event=hear,
                **{"checkpoint": keep, **options},
            )


@pytest.fixture
def team(place: Path, smollm2: Path, declared: Registry, router: Router) -> _Team:
    return _Team(declared, router)


async def test_independent_parts_are_worked_on_at_the_same_time(team: _Team) -> None:
    together = threading.Barrier(2, timeout=20)

    def both(body: Mapping[str, Any]) -> str:
        together.wait()
        return _sums(body)

    with BackendServer(text=both) as server:
        result = await team(TWO, server)
    assert "1. 3 * 4 = 12\n   (" in result.answer
    assert "2. 5 * 6 = 30\n   (" in result.answer
    assert result.verified is True
    assert result.agent == "OMNISCIENT"
    assert [part["part"] for part in result.parts] == ["Calculate 3 * 4.", "Calculate 5 * 6."]
    assert all(part["agent"] in result.answer for part in result.parts)
    assert {event.run_id for event in team.events} == {result.run_id}


async def test_a_part_that_no_agent_fits_is_refused_and_the_others_go_on(team: _Team) -> None:
    with BackendServer(text=_sums) as server:
        result = await team("1. Calculate 3 * 4.\n2. Order a pizza with mushrooms.", server)
        assert "3 * 4 = 12" in result.answer and result.verified is not True
        assert "No agent fits this part" in result.parts[1]["reason"]
        asked = len(server.requests)
        with pytest.raises(AgentNotFound, match="No agent fits"):
            await team("Order a pizza with mushrooms.", server)
        assert len(server.requests) == asked


async def test_a_part_that_needs_a_result_gets_it_as_data(team: _Team) -> None:
    with BackendServer(text=_sums) as server:
        result = await team(CHAIN, server)
    assert "120" in result.answer
    last = _asked(server.requests[-1])
    assert "found: 3 * 4 = 12" in last
    assert last.index("<data-") < last.index("found: 3 * 4 = 12") < last.rindex("</data-")


async def test_findings_are_shared_while_the_team_works_and_end_with_it(team: _Team) -> None:
    seen: list[str] = []

    def look(body: Mapping[str, Any]) -> str:
        if "multiply" in _asked(body):
            kept = shared().store.list(tier="working", limit=10)
            seen.extend(memory.text for memory in kept.memories if memory.task)
        return _sums(body)

    with BackendServer(text=look) as server:
        await team(CHAIN, server)
    assert any("3 * 4 = 12" in text for text in seen)
    kept = shared().store.list(tier="working", limit=10).memories
    assert not [memory for memory in kept if memory.archived is None]
    experiences = shared().store.find_experiences(CHAIN, limit=5)
    assert any("split into 2 parts" in one.experience.strategy for one in experiences)


async def test_after_a_failed_check_the_agent_asks_whom_it_consults_and_tries_again(
    team: _Team,
) -> None:
    def wrong_at_first(body: Mapping[str, Any]) -> str:
        if "asks you for advice" in _asked(body):
            return "Multiply carefully."
        return "3 * 4 = 12" if "advises: Multiply carefully" in _asked(body) else "3 * 4 = 13"

    with BackendServer(text=wrong_at_first) as server:
        result = await team("1. Calculate 3 * 4.\n2. Calculate 3 * 4 again.", server)
    part = result.parts[0]
    adviser = part["consulted"][0]
    assert adviser in team.declared.agent(part["agent"]).consults
    assert any(f"You are {adviser}" in _persona(body) for body in server.requests)
    assert part["verified"] is True
    assert f"advised by {adviser}" in result.answer


async def test_what_an_agent_cannot_do_is_handed_on_as_the_registry_says(team: _Team) -> None:
    first: list[str] = []

    def only_another(body: Mapping[str, Any]) -> str:
        if "asks you for advice" in _asked(body):
            return "No idea."
        persona = _persona(body).split(",")[0]
        first.append(persona)
        return "3 * 4 = 12" if persona != first[0] else "3 * 4 = 13"

    with BackendServer(text=only_another) as server:
        result = await team("Calculate 3 * 4.", server)
    part = result.parts[0]
    assert len(part["handed_on"]) == 1
    assert part["agent"] in team.declared.agent(part["handed_on"][0]).hands_on_to
    assert part["verified"] is True
    assert f"taken over from {part['handed_on'][0]}" in result.answer


async def test_a_part_that_fails_fails_alone_and_says_why(team: _Team) -> None:
    def silent_on_the_second(body: Mapping[str, Any]) -> str:
        return "" if "5 * 6" in _asked(body) else _sums(body)

    with BackendServer(text=silent_on_the_second) as server:
        result = await team(TWO, server)
    assert "3 * 4 = 12" in result.answer
    assert "2. This could not be done:" in result.answer
    assert result.verified is False
    assert any("part 2" in reason for reason in result.failures)


async def test_a_resumed_team_does_only_what_is_missing(team: _Team) -> None:
    with BackendServer(text=_sums) as server:
        await team(CHAIN, server, run_id="run-1")
        after_first = next(state for state in team.states if "0" in state["done"])
    with BackendServer(text=_sums) as server:
        result = await team(CHAIN, server, run_id="run-1", resume=after_first)
        asked = [_asked(body) for body in server.requests]
    assert "1. 3 * 4 = 12" in result.answer
    assert "120" in result.answer
    assert not any("Task: calculate 3 * 4" in text for text in asked)


async def test_a_team_ends_within_its_seconds(team: _Team) -> None:
    with BackendServer("hang") as server:
        with pytest.raises(TimedOut, match="took longer than its 1 seconds"):
            await team(TWO, server, limits=Limits(seconds=1))


async def test_what_was_done_before_time_ran_out_is_kept(team: _Team) -> None:
    with BackendServer(text=_sums) as server:
        await team(CHAIN, server, run_id="run-1")
    after_first = next(state for state in team.states if "0" in state["done"])
    with BackendServer("hang") as server:
        result = await team(
            CHAIN, server, run_id="run-1", resume=after_first, limits=Limits(seconds=1)
        )
    assert "1. 3 * 4 = 12" in result.answer
    assert "2. This could not be done: The team took longer than its 1 seconds." in result.answer
    assert result.verified is False


async def test_an_attempt_gets_only_the_tokens_that_are_left(team: _Team) -> None:
    with BackendServer(text="3 * 4 = 13") as server:
        result = await team("Calculate 3 * 4.", server, limits=Limits(tokens=150))
        first, *_, last = server.requests
    assert len(result.parts[0]["run_ids"]) == 3
    assert last["max_tokens"] < first["max_tokens"] <= 150
    with BackendServer(text="3 * 4 = 13") as server:
        result = await team("Calculate 3 * 4.", server, limits=Limits(tokens=16))
    assert len(result.parts[0]["run_ids"]) == 1, "nothing is left to try again with"


async def test_seconds_alone_leave_each_agent_its_tokens(team: _Team) -> None:
    with BackendServer(text=_sums) as server:
        await team(TWO, server)
        await team(TWO, server, limits=Limits(seconds=60))
    assert len({body["max_tokens"] for body in server.requests}) == 1


async def test_a_team_whose_state_cannot_be_kept_works_on(team: _Team) -> None:
    async def full(state: dict[str, Any]) -> None:
        raise StorageError("The disk is full.")

    with BackendServer(text=_sums) as server:
        result = await team(TWO, server, checkpoint=full)
    assert "5 * 6 = 30" in result.answer
    assert any("could not be kept: The disk is full." in reason for reason in result.failures)


async def test_states_are_kept_one_after_the_other(team: _Team) -> None:
    under_way = 0

    async def slowly(state: dict[str, Any]) -> None:
        nonlocal under_way
        under_way += 1
        assert under_way == 1
        await anyio.lowlevel.checkpoint()
        under_way -= 1
        team.states.append(json.loads(json.dumps(state)))

    with BackendServer(text=_sums) as server:
        await team(TWO, server, checkpoint=slowly)
    assert sorted(team.states[-1]["done"]) == ["0", "1"]


async def test_what_a_mate_found_is_text_from_outside(team: _Team) -> None:
    with BackendServer(text=_sums) as server:
        await team(CHAIN, server, run_id="run-1")
    states = [state["within"] for state in team.states]
    second = [state["run-1.2"] for state in states if "run-1.2" in state]
    assert second and all(state["tainted"] for state in second)


async def test_a_named_team_advises_the_member_that_fits(team: _Team) -> None:
    def advise(body: Mapping[str, Any]) -> str:
        return "Use Argon2id." if "asks you for advice" in _asked(body) else "Argon2id it is."

    with BackendServer(text=advise) as server:
        result = await team("Which hash for passwords?", server, team="security")
    assert result.agent in {"CIPHER", "FORTRESS"}
    other = ({"CIPHER", "FORTRESS"} - {result.agent}).pop()
    assert f"{other} advises: Use Argon2id." in _asked(server.requests[-1])
    assert f"advised by {other}" in result.answer


async def test_a_state_of_another_team_is_refused(team: _Team) -> None:
    with BackendServer(text=_sums) as server, pytest.raises(InvalidRequest, match="another team"):
        await team(TWO, server, resume={"version": 1, "team": "security", "done": {}})


CODE = "def last(items):\n    return items[len(items)]\n\nimport os\n"


def _findings(*found: tuple[int, str, str]) -> str:
    fields = ("line", "severity", "problem")
    items = [
        {**dict(zip(fields, one, strict=True)), "repair": "Use the index -1."} for one in found
    ]
    return json.dumps({"findings": items})


def _reviewer(worse: str) -> Callable[[Mapping[str, Any]], str]:
    def read(body: Mapping[str, Any]) -> str:
        if worse in _persona(body).split(",")[0]:
            return _findings((2, "critical", "The index is out of range for every list."))
        return _findings(
            (2, "major", "The index is one out of range."), (3, "minor", "Nothing is here.")
        )

    return read


async def test_a_panel_joins_what_its_members_see_and_says_who_saw_it(team: _Team) -> None:
    with BackendServer(text=_reviewer("CIPHER")) as server:
        task = f"Review this code:\n```python\n{CODE}```"
        result = await team(task, server, team="code review")
    members = team.declared.routing.teams["code review"]
    lines = [line for line in result.answer.splitlines() if line.startswith("- ")]
    assert not result.failures
    assert lines[0].startswith("- **critical**, line 2:")
    assert all(name in lines[0] for name in members)
    assert not any("line 3" in line for line in lines), "there is nothing on line 3"
    assert any("F401" in line and "(ruff)" in line for line in lines)


async def test_a_panel_without_code_says_what_it_needs(team: _Team) -> None:
    with BackendServer() as server, pytest.raises(InvalidRequest, match="no code to review"):
        await team("Review it please", server, team="code review")


@pytest.mark.parametrize(("lines", "width"), [(700, 8), (150, 90), (1, 20)])
async def test_a_panel_reads_the_whole_of_a_file_and_nothing_else(
    place: Path, services: Services, lines: int, width: int
) -> None:
    text = "".join(f"x{at} = '{'y' * width}'\n" for at in range(lines))
    (place / "long.py").write_text(text)
    async with services:
        assert await code_of("Review long.py", services) == (text, "long.py")


async def test_a_panel_refuses_an_empty_file_and_one_that_is_too_long(
    place: Path, services: Services
) -> None:
    (place / "empty.py").write_text("")
    (place / "endless.py").write_text("x = 1\n" * 2001)
    async with services:
        with pytest.raises(InvalidRequest, match="The file is empty"):
            await code_of("Review empty.py", services)
        with pytest.raises(InvalidRequest, match="has 2001 lines"):
            await code_of("Review endless.py", services)
