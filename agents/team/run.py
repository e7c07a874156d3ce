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
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio

from ryzanstein.agents.running.loop import checked, none_fits
from ryzanstein.agents.running.run import Approve, Checkpoint
from ryzanstein.agents.team import members as membership
from ryzanstein.agents.team import review as panel
from ryzanstein.agents.team.advice import Advice, ask_advice
from ryzanstein.agents.team.board import Board
from ryzanstein.agents.team.desk import Desk
from ryzanstein.agents.team.merge import LEAD
from ryzanstein.agents.team.parts import Part, split
from ryzanstein.agents.team.result import TeamResult, remember, result_of
from ryzanstein.agents.team.work import LEAST_TOKENS, Done, Work
from ryzanstein.agents.trust import Caller
from ryzanstein.errors import RyzansteinError, TimedOut
from ryzanstein.events import EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Sampler, Services
    from ryzanstein.agents.routing.route import Router
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
        AgentNotFound: The team is whoever fits, and nobody fits any part.
        TimedOut: It took longer than its limit, and no part was done.
    """
    task = checked(task)
    run_id = run_id or new_id("run")
    members = membership.members_of(team, registry)
    parts = split(task)
    refused = _refused(parts, team, router)
    given = _shared_out(limits, len(parts))
    options = {"tools": tools, "sampler": sampler, "approve": approve}
    desk = Desk(run_id, team, model, on_event, checkpoint, resume or {})
    hear = desk.heard if on_event else None
    work = Work(
        services=services,
        registry=registry,
        router=router,
        members=members,
        run_id=run_id,
        model=model,
        limits=given,
        options=options,
        tell=desk.say,
        within=desk.within,
        on_event=hear,
        refused=refused,
    )
    await desk.tell("plan", f"{len(parts)} parts", team=team, parts=[part.text for part in parts])
    began = monotonic()
    found: dict[int, Done] = {}
    seconds = _set(limits, "seconds")
    with anyio.move_on_after(seconds):
        if len(parts) == 1 and members == registry.routing.teams.get(panel.TEAM):
            found[0] = await _reviewed(work, task)
        else:
            await _side_by_side(work, desk, parts, team, found)
    if not found:
        raise _timed_out(seconds)
    done = [found.get(part.index) or _unfinished(part, seconds) for part in parts]
    result = result_of(run_id, done, monotonic() - began, desk.failures)
    await remember(services, task, desk.trace_id, done, result)
    return result


def _refused(parts: Sequence[Part], team: str, router: Router) -> frozenset[int]:
    """The parts that no agent fits, where whoever fits is the team; what needs others may be short.

    Raises:
        AgentNotFound: That is all of them.
    """
    if team != membership.AUTO:
        return frozenset()
    found = {part.index: router.route(part.text, 3) for part in parts if not part.after}
    refused = frozenset(index for index, route in found.items() if not route.fits)
    if len(refused) == len(parts):
        raise none_fits([one.codename for one in found[0].agents])
    return refused


async def _side_by_side(
    work: Work, desk: Desk, parts: Sequence[Part], team: str, found: dict[int, Done]
) -> None:
    """Does every part as soon as those it needs are done, and puts it into `found`."""
    board = Board(work.services, work.run_id, desk.failed)
    ready = [anyio.Event() for _ in parts]
    room = anyio.CapacityLimiter(MOST_AT_ONCE)

    async def told(part: Part) -> list[str]:
        needed = [_finding(found[other]) for other in part.after]
        return needed if len(parts) == 1 else [*needed, *await board.notes(part)]

    async def do(part: Part) -> None:
        for other in part.after:
            await ready[other].wait()
        kept = desk.finished(part.index)
        if kept is None:
            async with room:
                advised = await _advice(work, desk, part, team) if len(parts) == 1 else []
                notes = [*(one.note for one in advised), *await told(part)]
                kept = _with_advice(await work.do(part, notes), advised)
            if len(parts) > 1 and kept.answer:
                await board.note(kept.agent, part, kept.answer)
            await desk.finish(kept)
        found[part.index] = kept
        ready[part.index].set()

    async with anyio.create_task_group() as group:
        for part in parts:
            group.start_soon(do, part)


def _finding(done: Done) -> str:
    found = done.answer or f"could not be done: {done.reason}"
    return f"Part {done.index + 1} was: {done.part}\n{done.agent} found: {found}"


def _with_advice(done: Done, advised: Sequence[Advice]) -> Done:
    return replace(
        done,
        consulted=(*(one.agent for one in advised), *done.consulted),
        tokens=done.tokens + sum(one.tokens for one in advised),
    )


def _unfinished(part: Part, seconds: float | None) -> Done:
    """A part that time ran out for, beside others that were done."""
    return Done(part.index, part.text, LEAD, reason=str(_timed_out(seconds)))


def _timed_out(seconds: float | None) -> TimedOut:
    return TimedOut(
        f"The team took longer than its {seconds or 0:g} seconds.",
        hint="Raise the limit of seconds, or ask for less at once.",
    )


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


async def _advice(work: Work, desk: Desk, part: Part, team: str) -> list[Advice]:
    """What the other members of a named team advise, before the one that fits does the task."""
    if team == membership.AUTO:
        return []
    lead = membership.best_of(part.text, work.members, work.router)
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
                part=part.text,
                model=work.model,
            )
        except RyzansteinError as error:
            await desk.failed(f"{adviser} could not be asked: {error}")

    async with anyio.create_task_group() as group:
        for adviser in others:
            group.start_soon(ask, adviser)
    return [said[name] for name in others if name in said and said[name].text]


def _set(limits: Limits | None, name: str) -> Any:
    """A limit that was given, and not just the default of its field."""
    return getattr(limits, name) if limits and name in limits.model_fields_set else None


def _shared_out(limits: Limits | None, parts: int) -> Limits | None:
    """What each part may spend of the whole's tokens; they run side by side, so seconds are one."""
    tokens = _set(limits, "tokens")
    if limits is None or tokens is None:
        return limits
    return limits.model_copy(update={"tokens": max(LEAST_TOKENS, tokens // parts)})
