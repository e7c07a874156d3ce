from __future__ import annotations

from typing import Any

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.running.conversation import Budget
from ryzanstein.agents.running.loop import _remember
from ryzanstein.agents.running.run import Run
from ryzanstein.agents.verification.checks import Check
from ryzanstein.events import Event
from ryzanstein.registry import Registry


class Memory(Services):
    """Services whose memory finds every run what it is told to."""

    def __init__(self, **finding: Any) -> None:
        super().__init__()
        self.finding = finding
        self.kept: dict[str, Any] = {}

    async def record_experience(self, **experience: Any) -> dict[str, Any]:
        self.kept = experience
        return {"id": "exp_1", **self.finding}


async def remembered(memory: Memory, registry: Registry) -> list[Event]:
    events: list[Event] = []

    async def hear(event: Event) -> None:
        events.append(event)

    profile = registry.agent("APEX")
    run = Run("t", profile, memory, Budget(100, 10.0), 1000, "m", "run-1", hear, "trace-1")
    run.answer, run.checks = "It is 1.", [Check("c", True)]
    await _remember(run)
    return events


async def test_a_run_is_kept_with_its_trace_and_without_a_fitness_of_its_own(
    declared: Registry,
) -> None:
    memory = Memory(breakthrough=None)
    events = await remembered(memory, declared)
    assert [event.stage for event in events] == ["remember"]
    kept = memory.kept
    assert (kept["outcome"], kept["run_id"], kept["trace_id"]) == ("verified", "run-1", "trace-1")
    assert "fitness" not in kept


@pytest.mark.parametrize(("refuted", "stages"), [(False, 1), (True, 0)])
async def test_a_breakthrough_is_an_event_while_it_stands(
    declared: Registry, refuted: bool, stages: int
) -> None:
    memory = Memory(breakthrough=5.2, refuted=refuted)
    heard = [one for one in await remembered(memory, declared) if one.stage == "breakthrough"]
    assert len(heard) == stages
    assert all(one.data == {"id": "exp_1", "score": 5.2} for one in heard)
    assert all(one.trace_id == "trace-1" for one in heard)
