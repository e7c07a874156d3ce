"""What came of a run of a team, and what is remembered of it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.running.loop import RunResult
from ryzanstein.agents.running.step import Step
from ryzanstein.agents.team.merge import LEAD, merged, verdict
from ryzanstein.agents.team.work import Done
from ryzanstein.agents.verification.checks import Check
from ryzanstein.errors import RyzansteinError

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services

__all__ = ["TeamResult", "remember", "result_of"]


@dataclass(frozen=True, slots=True)
class TeamResult(RunResult):
    """What came of a run of a team.

    Attributes:
        parts: A part each: its words, agent, answer, verdict, runs, whom it consulted, from whom
            it was taken over, why it failed, tokens.
    """

    parts: tuple[dict[str, Any], ...] = ()


def result_of(
    run_id: str, done: Sequence[Done], seconds: float, failures: Sequence[str]
) -> TeamResult:
    """The parts as one result; steps and checks say whose they are."""
    steps = [Step(**step) for one in done for step in one.result.get("steps", ())]
    checks = [Check(**check) for one in done for check in one.result.get("checks", ())]
    used = [used for one in done for used in one.result.get("experiences", ())]
    reasons = [f"{one.agent}, part {one.index + 1}: {one.reason}" for one in done if one.reason]
    passed = [why for one in done for why in one.result.get("failures", ())]
    models = {str(one.result["model"]) for one in done if one.result.get("model")}
    return TeamResult(
        run_id=run_id,
        agent=LEAD if len(done) > 1 else done[0].agent,
        answer=merged(done),
        verified=verdict(done),
        checks=tuple(checks),
        steps=tuple(steps),
        experiences=tuple({one.get("id"): one for one in used}.values()),
        tokens=sum(one.tokens for one in done),
        seconds=round(seconds, 3),
        model=", ".join(sorted(models)),
        failures=(*failures, *passed, *reasons),
        parts=tuple(_brief(one) for one in done),
    )


def _brief(done: Done) -> dict[str, Any]:
    """A part without its run's details, which the result has as a whole."""
    return {name: value for name, value in done.to_json().items() if name != "result"}


async def remember(
    services: Services, task: str, trace_id: str, done: Sequence[Done], result: TeamResult
) -> None:
    """Keeps how the team did, which also ends its working memories; a result is not lost over it.

    The run of one member alone was kept by that member, and nothing was shared.
    """
    if len(done) < 2:
        return
    outcome = {True: "verified", False: "failed", None: "unknown"}[result.verified]
    who = ", ".join(f"{one.agent} part {one.index + 1}" for one in done)
    with contextlib.suppress(RyzansteinError):
        await services.record_experience(
            task=task[:2000],
            agent=LEAD,
            outcome=outcome,
            strategy=f"split into {len(done)} parts: {who}"[:300],
            tools=list(dict.fromkeys(step.tool for step in result.steps if step.kind == "tool")),
            reason="; ".join(result.failures)[:300] if outcome == "failed" else "",
            answer=result.answer[:2000],
            run_id=result.run_id,
            trace_id=trace_id,
            tokens=result.tokens,
            seconds=result.seconds,
        )
