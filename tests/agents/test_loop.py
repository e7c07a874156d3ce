from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.route import Router
from ryzanstein.agents.running.loop import MOST_CHARACTERS, RunResult, run_task
from ryzanstein.errors import AgentNotFound, InvalidRequest, TimedOut
from ryzanstein.events import Event
from ryzanstein.registry import Limits, Registry

MODEL = "smollm2-135m"
LIMITS = Limits(steps=2, tokens=400, seconds=100)


async def _run(
    task: str,
    services: Services,
    registry: Registry,
    router: Router | None = None,
    *,
    agent: str | None = None,
    tools: bool = True,
    limits: Limits = LIMITS,
    events: list[Event] | None = None,
) -> RunResult:
    async def hear(event: Event) -> None:
        if events is not None:
            events.append(event)

    return await run_task(
        task,
        services=services,
        registry=registry,
        router=router,
        agent=agent,
        model=MODEL,
        tools=tools,
        limits=limits,
        on_event=hear,
    )


async def test_a_task_is_routed_answered_and_remembered_and_found_by_the_next_one(
    services: Services, declared: Registry, router: Router, place: Path
) -> None:
    events: list[Event] = []
    (place / "notes.txt").write_text("The boat is called Ondine.\n")
    task = "What is the name of the boat in notes.txt?"
    async with services:
        first = await _run(task, services, declared, router, events=events)
        second = await _run(f"{task} Please.", services, declared, router)
    assert first.answer
    assert first.agent in {agent.codename for agent in declared.agents}
    assert first.tokens > 0
    assert first.steps[0].kind == "look"
    assert "Ondine" in first.steps[0].observation
    assert first.experiences == ()
    assert [one["task"] for one in second.experiences] == [task]
    assert len({(event.run_id, event.trace_id) for event in events}) == 1
    stages = list(dict.fromkeys(event.stage for event in events))
    assert [one for one in stages if one not in {"generate", "reflect", "act", "think"}] == [
        "route",
        "recall",
        "observe",
        "answer",
        "verify",
        "remember",
    ]


async def test_every_call_of_the_smallest_model_fits_its_tool(
    services: Services, declared: Registry, place: Path
) -> None:
    (place / "a.txt").write_text("one\ntwo\n")
    async with services:
        for task in ("List the files in this folder", "Find the word two", "Compute 12 * 12"):
            result = await _run(task, services, declared, agent="OMNISCIENT")
            for made in (one for one in result.steps if one.kind == "tool"):
                spec = await services.describe_tool(made.tool)
                required = spec.schema.get("required", [])
                assert set(required) <= set(made.arguments) <= set(spec.properties)


async def test_code_is_written_run_and_checked_with_the_examples_of_the_task(
    services: Services, declared: Registry
) -> None:
    task = "Write a Python function double(n) that returns two times n, so double(4) = 8."
    limits = Limits(steps=2, tokens=900, seconds=100)
    async with services:
        result = await _run(task, services, declared, agent="APEX", limits=limits)
    assert "```python" in result.answer
    names = {check.name for check in result.checks}
    assert "the code runs" in names
    assert result.verified is all(check.passed for check in result.checks)
    assert result.steps[-1].kind == "check"


async def test_without_tools_nothing_is_called(
    services: Services, declared: Registry, place: Path
) -> None:
    (place / "notes.txt").write_text("x")
    async with services:
        result = await _run("Say hello to notes.txt", services, declared, agent="APEX", tools=False)
    assert result.steps == ()
    assert result.answer


@pytest.mark.parametrize("task", ["", "  \n ", "x" * (MOST_CHARACTERS + 1), "bad \udcff text"])
async def test_a_task_that_is_no_task_is_refused(
    services: Services, declared: Registry, task: str
) -> None:
    async with services:
        with pytest.raises(InvalidRequest):
            await _run(task, services, declared, agent="APEX")


async def test_a_task_longer_than_the_window_is_refused_with_advice(
    services: Services, declared: Registry
) -> None:
    async with services:
        with pytest.raises(InvalidRequest, match=r"tokens.*file"):
            await _run("word " * 6000, services, declared, agent="APEX")


async def test_an_unknown_agent_is_refused_with_the_nearest_name(
    services: Services, declared: Registry
) -> None:
    async with services:
        with pytest.raises(AgentNotFound, match="APEX"):
            await _run("Say hello", services, declared, agent="APEKS")


async def test_a_run_that_takes_too_long_is_stopped_and_kept_as_a_failure(
    services: Services, declared: Registry
) -> None:
    task = "Tell me everything about ships"
    limits = Limits(steps=3, tokens=2000, seconds=0.2)
    async with services:
        with pytest.raises(TimedOut):
            await _run(task, services, declared, agent="APEX", limits=limits)
        kept = await services.find_experiences(task)
    assert [one["outcome"] for one in kept] == ["failed"]


async def test_cancellation_takes_effect_at_once_and_leaves_no_experience(
    services: Services, declared: Registry
) -> None:
    task = "Tell me everything about ships"

    async with services:
        with anyio.CancelScope() as scope:

            async def stop(event: Event) -> None:
                if event.stage == "generate":
                    scope.cancel()

            began = time.monotonic()
            await run_task(
                task,
                services=services,
                registry=declared,
                agent="APEX",
                model=MODEL,
                tools=False,
                on_event=stop,
            )
        assert scope.cancelled_caught
        assert time.monotonic() - began < 30
        assert await services.find_experiences(task) == []


async def test_a_run_that_spends_its_tokens_says_so(services: Services, declared: Registry) -> None:
    from ryzanstein.agents.running.conversation import OutOfBudget

    task = "Write a Python function triple(n) that returns three times n."
    limits = Limits(steps=3, tokens=16, seconds=100)
    async with services:
        with pytest.raises(OutOfBudget, match="16 tokens"):
            await _run(task, services, declared, agent="APEX", limits=limits)


async def test_what_was_told_before_is_answered_from_memory_and_says_so(
    services: Services, declared: Registry
) -> None:
    async with services:
        kept = await services.remember("The password of the guest Wi-Fi is blue-otter-52.")
        task = "What is the password of the guest Wi-Fi?"
        result = await _run(task, services, declared, agent="OMNISCIENT")
    assert result.steps == ()
    assert [(one["id"], one["outcome"]) for one in result.experiences] == [(kept["id"], "fact")]
