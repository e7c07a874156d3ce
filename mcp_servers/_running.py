"""Runs of this process: started or gone on with, watched, cancelled, and kept in the table of runs.

Every run is a row from its start to its end, so that `get_run` answers while it works. Behind each
finished step the row gets the state to go on from; every second the process looks whether another
one asked it to stop, and says what happened since. The other servers are reached as any client
would.

    Asked -> Live (cancel scope, events) -> agents.loop.run_task(services=MCP clients) -> row "done"
                                              └─ checkpoint -> row
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context

from ryzanstein.errors import (
    AgentInvocationError,
    InvalidRequest,
    RyzansteinError,
    TimedOut,
)
from ryzanstein.events import Event, new_id
from ryzanstein.mcp_servers import _kept_runs
from ryzanstein.mcp_servers._asking import approver, sampler
from ryzanstein.mcp_servers._ranking import current_router
from ryzanstein.mcp_servers._rounds import Rounds
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.resilience import retried

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services

__all__ = ["Asked", "cancel", "resume", "run", "state"]

log = logging.getLogger("ryzanstein.mcp_servers")

MAX_EVENTS = 200
SERVERS = ("inference", "memory", "tools", "model")
# A run goes on without what it could recall, and with the models that are here.
OPTIONAL = ("memory", "model")
_SECONDS_BETWEEN = 0.1
# How often a process looks for a wish to stop, and says at least that it is at a run.
POLL_SECONDS = 1.0
BEAT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run was asked for; kept with its state, since to go on needs it again.

    `limits` are steps, tokens and seconds where they were given. With a `team` there is no `agent`.
    """

    task: str
    agent: str | None = None
    team: str | None = None
    model: str | None = None
    tools: bool = True
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Live:
    """One run under way in this process.

    Progress is the number of reports so far: stages share no unit, and progress must grow.
    """

    run_id: str
    asked: Asked
    context: Context[Any, Any] | Rounds
    state: Mapping[str, Any] | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    events: list[dict[str, Any]] = field(default_factory=list)
    reports: int = 0
    last: float = float("-inf")

    async def on_event(self, event: Event) -> None:
        """Keeps an event, one entry a stage, and reports it; repeated stages not too often."""
        entry = {"stage": event.stage, "message": event.message, "at": round(event.at, 3)}
        same = bool(self.events) and self.events[-1]["stage"] == event.stage == "generate"
        if same:
            self.events[-1] = entry
        elif len(self.events) < MAX_EVENTS:
            self.events.append(entry)
        await self.report(f"{event.stage}: {event.message}", often=same)

    async def failed(self, reason: str) -> None:
        """Keeps the reason of a failure that the run survived, before its agent is at work."""
        await self.on_event(Event(self.run_id, self.run_id, "failure", reason))

    async def report(self, message: str, often: bool = False) -> None:
        """Sends a line of progress to the client."""
        now = monotonic()
        if often and now - self.last < _SECONDS_BETWEEN:
            return
        self.last = now
        self.reports += 1
        await self.context.report_progress(self.reports, None, message)

    async def checkpoint(self, state: dict[str, Any]) -> None:
        """Keeps the state behind a finished step."""
        kept = {"asked": asdict(self.asked), "state": state}
        await _update(
            self.run_id,
            checkpoint=kept,
            agent=state["agent"],
            model=state["model"],
            result={"events": self.events},
        )


_LIVE: dict[str, Live] = {}


async def run(context: Context[Any, Any] | Rounds, asked: Asked) -> dict[str, Any]:
    """Runs a task to its end and returns the result.

    Raises:
        AgentInvocationError: cancel_run stopped it.
        RyzansteinError: What the run raised; the row of the run says so too.
    """
    if not asked.task.strip():
        raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
    live = Live(new_id("run"), asked, context)
    with anyio.CancelScope(shield=True):  # a row without an end would look like a run under way
        await anyio.to_thread.run_sync(_save, live)
    return await _to_its_end(live)


async def resume(
    context: Context[Any, Any] | Rounds, run_id: str, task: str = "", agent: str | None = None
) -> dict[str, Any]:
    """Goes on with a run behind its last finished step, to its end, and returns the result.

    Args:
        context: Of the request.
        run_id: The run.
        task: What the caller takes to be its task; "" where it leaves that open.
        agent: What the caller takes to be its agent.

    Raises:
        InvalidRequest: The run is done, under way, of another task or agent, or left nothing.
    """
    kept = await anyio.to_thread.run_sync(_kept_runs.found, run_id)
    other_agent = agent is not None and kept.agent not in {None, agent}
    if (task.strip() and task.strip() != kept.task.strip()) or other_agent:
        raise InvalidRequest(
            f"The run {run_id} is of another {'agent' if other_agent else 'task'}.",
            hint="Leave it out to go on with the run, or leave the run_id out to begin anew.",
        )
    with anyio.CancelScope(shield=True):
        taken, left = await anyio.to_thread.run_sync(_kept_runs.claimed, run_id)
    live = Live(run_id, Asked(**left["asked"]), context, left["state"])
    live.events = list(taken.result.get("events", []))
    return await _to_its_end(live)


async def _to_its_end(live: Live) -> dict[str, Any]:
    _LIVE[live.run_id] = live
    kept: dict[str, Any] = {}
    status = "cancelled"
    fault: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_tend, live)
            try:
                with live.scope:
                    kept = await _work(live)
                    status = "done"
            except Exception as error:  # a fault of ours must not look like a cancellation
                fault = _known(error) or error
                told = _known(error) or RyzansteinError(
                    f"The run failed unexpectedly ({type(error).__name__})."
                )
                status, kept = "failed", {"error": told.to_wire()}
            finally:
                group.cancel_scope.cancel()
    finally:
        del _LIVE[live.run_id]
        with anyio.CancelScope(shield=True):
            await _finish(live, status, kept)
    if fault is not None:
        raise fault
    if status == "cancelled":
        raise AgentInvocationError(
            f"The run {live.run_id} was cancelled.",
            hint=f"`ryzanstein runs resume {live.run_id}` goes on behind its last finished step.",
        )
    return kept


def _known(error: BaseException) -> RyzansteinError | None:
    """The error of ours in what task groups make of it; None where there is none."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for found in map(_known, error.exceptions) if found), None)
    return error if isinstance(error, RyzansteinError) else None


async def _tend(live: Live) -> None:
    """Looks whether the run is to stop, and keeps what happened and that somebody is at it."""
    said, beat = len(live.events), monotonic()
    while True:
        await anyio.sleep(POLL_SECONDS)
        try:
            if await anyio.to_thread.run_sync(shared().runs.stopping, live.run_id):
                live.scope.cancel()
                return
            if len(live.events) != said or monotonic() - beat >= BEAT_SECONDS:
                said, beat = len(live.events), monotonic()
                result = {"events": list(live.events)}
                await anyio.to_thread.run_sync(
                    lambda kept: shared().runs.beat(live.run_id, result=kept), result
                )
        except RyzansteinError:
            # The database may be locked for a while; the run does not depend on it.
            continue


async def _work(live: Live) -> dict[str, Any]:
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.agents.running.loop import run_task
    from ryzanstein.agents.team.run import run_team
    from ryzanstein.registry import Limits

    asked = live.asked
    await live.report(f"start: {live.run_id}")
    services = Services(shared().registry, names=SERVERS, optional=OPTIONAL)
    services.sampler, services.on_failure = sampler(live.context), live.failed
    async with services:
        await _bring_model(live, services, asked.model)
        common: dict[str, Any] = {
            "services": services,
            "registry": shared().registry,
            "model": asked.model,
            "tools": asked.tools,
            "limits": Limits.model_validate(asked.limits) if asked.limits else None,
            "on_event": live.on_event,
            "run_id": live.run_id,
            "sampler": services.sampler,
            "approve": approver(live.context),
            "checkpoint": live.checkpoint,
            "resume": live.state,
        }
        if asked.team is not None:
            router = await current_router(services)
            return (await run_team(asked.task, team=asked.team, router=router, **common)).to_json()
        routes = asked.agent is None and live.state is None
        given = await current_router(services) if routes else None
        return (await run_task(asked.task, agent=asked.agent, router=given, **common)).to_json()


async def _bring_model(live: Live, services: Services, name: str | None) -> None:
    """Pulls the model of a run where it is one of the catalogue and not here yet.

    Not where another backend than this machine's engine comes first.
    """
    if not services.backends.on_this_engine(first=name is None):
        return
    try:
        models = (await services.call("model", "list_models", {"limit": 100}))["models"]
    except RyzansteinError as error:
        await live.failed(f"Whether the model is here is not known: {error}")
        return
    wanted = [one for one in models if (one["name"] == name if name else one["default"])]
    if not wanted or wanted[0]["present"]:
        return
    name = str(wanted[0]["name"])

    async def report(progress: float, total: float | None, message: str | None) -> None:
        share = f"{100 * progress / total:.0f} %" if total else f"{progress / 1e6:.0f} MB"
        await live.report(f"model: brings {name}, {share}", often=True)

    await services.call("model", "pull_model", {"name": name}, progress=report)


def cancel(run_id: str) -> bool:
    """Asks a run to stop, in whatever process it is; says whether it is under way.

    Raises:
        InvalidRequest: There is no such run.
    """
    live = _LIVE.get(run_id)
    if live is None:
        return _kept_runs.stop(run_id)
    live.scope.cancel()
    return True


def state(run_id: str) -> dict[str, Any]:
    """Returns where a run is.

    Raises:
        InvalidRequest: There is no such run.
    """
    live = _LIVE.get(run_id)
    return _kept_runs.described(run_id, live.events if live else None)


def _save(live: Live) -> None:
    shared().runs.save(
        live.asked.task,
        id=live.run_id,
        agent=live.asked.agent,
        model=live.asked.model,
        owner=_kept_runs.owner(),
        checkpoint={"asked": asdict(live.asked), "state": None},
    )


async def _finish(live: Live, status: str, kept: Mapping[str, Any]) -> None:
    """Writes how a run ended; a locked database is waited for, and costs no one his answer."""
    result = {"error": None, **kept, "events": live.events}
    agent, model = kept.get("agent"), kept.get("model")

    async def write() -> None:
        await _update(live.run_id, status=status, agent=agent, model=model, result=result)

    async def told(error: Exception) -> None:
        log.info("The end of %s is written again: %s", live.run_id, error)

    policy = shared().registry.resilience
    try:
        await retried(write, policy, safe=lambda error: isinstance(error, TimedOut), on_retry=told)
    except RyzansteinError as error:
        log.error("The end of %s could not be written: %s", live.run_id, error)


async def _update(run_id: str, **changes: Any) -> None:
    await anyio.to_thread.run_sync(lambda: shared().runs.update(run_id, **changes))
