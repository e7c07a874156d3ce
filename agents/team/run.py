"""Runs a task through a team: split, share out, work side by side, merge with attribution.

    task ─ split ─ parts ─┬─ part 1 ─ its agent ─┐
                          ├─ part 2 ─ its agent ─┤ one shared working memory
                          └─ part 3 waits for 1 ─┴─ merge ─ answer that says who found what

A part starts as soon as those it needs are done. A part that fails fails alone. A finished part is
kept in the checkpoint, so that a run which is resumed does only what is missing. A task of one part
goes to the member that fits it, after the others of a named team were asked for advice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents.loop import checked
from ryzanstein.agents.run import Approve, Checkpoint
from ryzanstein.agents.team import members as membership
from ryzanstein.agents.team import review as panel
from ryzanstein.agents.team.advice import Advice, ask_advice
from ryzanstein.agents.team.board import Board
from ryzanstein.agents.team.desk import Desk
from ryzanstein.agents.team.merge import LEAD
from ryzanstein.agents.team.parts import Part, split
from ryzanstein.agents.team.result import TeamResult, remember, result_of
from ryzanstein.agents.team.work import Done, Work
from ryzanstein.agents.trust import Caller
from ryzanstein.errors import RyzansteinError, TimedOut
from ryzanstein.events import EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.agents.route import Router
    from ryzanstein.agents.services import Sampler, Services
    from ryzanstein.registry import Limits, Registry

__all__ = ["run_team"]

# The engine decodes one text at a time; more runs at once only fill memory.
MOST_AT_ONCE = 4
MOST_ADVISERS = 3


async def run_team(
    task: str,
    *,
    services: Services,
    registry: Registry,
    router: Router,
    team: str = membership.AUTO,
    model: str | None = None,
    tools: bool = True,
    limits: Limits | None = None,
    on_event: EventSink | None = None,
    run_id: str | None = None,
    sampler: Sampler | None = None,
    approve: Approve | None = None,
    checkpoint: Checkpoint | None = None,
    resume: Mapping[str, Any] | None = None,
) -> TeamResult:
    """Runs a task through a team.

    Args:
        task: What the user asks.
        services: Connections to the servers.
        registry: Agents and teams.
        router: Finds the member that fits each part.
        team: A team of the registry, codenames joined by commas, or auto: whoever fits.
        model: Catalogue name or path; None leaves each agent its own.
        tools: False answers from the model and memory alone.
        limits: Of the whole: its seconds are the team's, its tokens are shared out by parts.
        on_event: Hears of every stage of every member.
        run_id: Id for the run; made where it is None.
        sampler: Asks the client's own model, where the client lets us.
        approve: Asked before a destructive call; None refuses it.
        checkpoint: Takes what is done, as JSON, after every step of a member.
        resume: Such a state: parts that are done are not done again.

    Raises:
        InvalidRequest: The task or the team is none.
        TimedOut: It took longer than its limit.
    """
    task = checked(task)
    run_id = run_id or new_id("run")
    members = membership.members_of(team, registry)
    parts = split(task)
    given = _shared_out(limits, len(parts))
    options = {"tools": tools, "limits": given, "sampler": sampler, "approve": approve}
    desk = Desk(run_id, team, model, on_event, checkpoint, resume or {})
    hear = desk.heard if on_event else None
    work = Work(
        services, registry, router, members, run_id, model, options, desk.say, desk.within, hear
    )
    await desk.tell("plan", f"{len(parts)} parts", team=team, parts=[part.text for part in parts])
    began = monotonic()
    with anyio.move_on_after(limits.seconds if limits else None) as scope:
        if len(parts) == 1 and members == membership.members_of(panel.TEAM, registry):
            done = [await _reviewed(work, task)]
        else:
            notes = await _advice(work, task, team) if len(parts) == 1 else []
            done = await _side_by_side(work, desk, parts, notes)
    if scope.cancelled_caught:
        assert limits is not None
        raise TimedOut(
            f"The team took longer than its {limits.seconds:g} seconds.",
            hint="Raise the limit of seconds, or ask for less at once.",
        )
    result = result_of(run_id, done, monotonic() - began, desk.failures)
    await remember(services, task, desk.trace_id, done, result)
    return result


async def _side_by_side(
    work: Work, desk: Desk, parts: Sequence[Part], notes: Sequence[str]
) -> list[Done]:
    """Does every part as soon as those it needs are done."""
    board = Board(work.services, work.run_id, desk.failed)
    ready = [anyio.Event() for _ in parts]
    found: dict[int, Done] = {}
    room = anyio.CapacityLimiter(MOST_AT_ONCE)

    async def do(part: Part) -> None:
        for other in part.after:
            await ready[other].wait()
        kept = desk.finished(part.index)
        if kept is None:
            async with room:
                needed = [_finding(found[other]) for other in part.after]
                other_notes = [] if len(parts) == 1 else await board.notes(part.text)
                told = [*notes, *needed, *(one for one in other_notes if one not in needed)]
                kept = await work.do(part, told)
            if len(parts) > 1 and kept.answer:
                await board.note(kept.agent, part.text, kept.answer)
            await desk.finish(kept)
        found[part.index] = kept
        ready[part.index].set()

    async with anyio.create_task_group() as group:
        for part in parts:
            group.start_soon(do, part)
    return [found[part.index] for part in parts]


def _finding(done: Done) -> str:
    found = done.answer or f"could not be done: {done.reason}"
    return f"Part {done.index + 1} was: {done.part}\n{done.agent} found: {found}"


async def _reviewed(work: Work, task: str) -> Done:
    """The panel's review of the code that a task names or holds."""
    caller = Caller(task=task, agent=work.members[0], run_id=work.run_id)
    services = work.services.for_run(caller)
    code, path = await panel.code_of(task, services)
    found = await panel.review(
        code,
        path=path,
        services=services,
        registry=work.registry,
        members=work.members,
        model=work.model,
        tell=work.tell,
    )
    reason = "; ".join(found.failures)
    answer = panel.shown(found, path) if found.members else ""
    run = {"failures": found.failures}
    return Done(0, task, LEAD, answer, reason=reason, tokens=found.tokens, result=run)


async def _advice(work: Work, task: str, team: str) -> list[str]:
    """What the other members of a named team advise, before the one that fits does the task."""
    if team == membership.AUTO:
        return []
    lead = membership.best_of(task, work.members, work.router)
    others = [name for name in work.members if name != lead][:MOST_ADVISERS]
    said: dict[str, Advice] = {}

    async def ask(adviser: str) -> None:
        await work.tell(lead, f"consults {adviser}")
        try:
            said[adviser] = await ask_advice(
                work.services,
                work.registry,
                asker=lead,
                adviser=adviser,
                part=task,
                model=work.model,
            )
        except RyzansteinError as error:
            await work.tell(adviser, f"could not be asked: {error}")

    async with anyio.create_task_group() as group:
        for adviser in others:
            group.start_soon(ask, adviser)
    return [said[name].note for name in others if name in said]


def _shared_out(limits: Limits | None, parts: int) -> Limits | None:
    """What each part may spend of the whole's tokens; they run side by side, so seconds are one."""
    if limits is None:
        return None
    return limits.model_copy(update={"tokens": max(16, limits.tokens // parts)})
