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
from dataclasses import asdict, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from ryzanstein.errors import InvalidRequest, RyzansteinError, TimedOut
from ryzanstein.events import new_id
from ryzanstein.mcp_servers import _background, _kept_runs, _notices
from ryzanstein.mcp_servers._asking import Client, Nobody, approver, sampler
from ryzanstein.mcp_servers._kept_runs import Asked, Resumption
from ryzanstein.mcp_servers._live import Live
from ryzanstein.mcp_servers._ranking import current_router
from ryzanstein.mcp_servers._rounds import Rounds
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import Own, without_places
from ryzanstein.mcp_servers._task import task_id
from ryzanstein.memory.records import RunTaken
from ryzanstein.resilience import retried

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services

__all__ = ["Asked", "Resumption", "cancel", "hand_back", "resume", "run", "start", "state"]

log = logging.getLogger("ryzanstein.mcp_servers")

SERVERS = ("inference", "memory", "tools", "model")
# A run goes on without what it could recall, and with the models that are here.
OPTIONAL = ("memory", "model")
# How often a process looks for a wish to stop, and says at least that it is at a run.
POLL_SECONDS = 1.0
BEAT_SECONDS = 10.0
# Of one subject, in this process.
MOST_RUNS = 100
# A run in the middle of a step that listens to nobody is left to the end of the process.
_SECONDS_TO_STOP = 10.0

_LIVE: Own[Live] = Own()


async def run(context: Client, asked: Asked) -> dict[str, Any]:
    """Runs a task to its end and returns the result.

    Raises:
        AgentInvocationError: cancel_run stopped it.
        RyzansteinError: What the run raised; the row of the run says so too.
    """
    return await _to_its_end(await _begun(context, asked))


async def resume(context: Client, wish: Resumption) -> dict[str, Any]:
    """Goes on with a run behind its last finished step, to its end, and returns the result.

    Raises:
        InvalidRequest: The run is done, under way, of another task or agent, or left nothing.
    """
    return await _to_its_end(await _taken_up(context, wish))


async def start(wish: Asked | Resumption) -> str:
    """Begins a run, or goes on with one, that nobody waits for; returns its id.

    Nobody can be asked either: what needs a yes is refused, and the client's model is not used.

    Raises:
        InvalidRequest: As `run` and `resume`.
    """
    client = Nobody()
    begun = _begun(client, wish) if isinstance(wish, Asked) else _taken_up(client, wish)
    live = await begun
    live.background = True
    _LIVE[live.run_id] = live
    _background.begin(_to_its_end(live))
    return live.run_id


def _require_room() -> None:
    """Refuses a run more than a subject may have under way, so that nobody's fill the memory."""
    if len(_LIVE) >= MOST_RUNS:
        raise InvalidRequest(
            f"{MOST_RUNS} runs are under way already.",
            hint="Wait for one of them (get_run with wait), or stop one (cancel_run).",
        )


async def _begun(context: Client, asked: Asked) -> Live:
    """A new run, whose row is there."""
    _require_room()
    if not asked.task.strip():
        raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
    live = Live(task_id() or new_id("run"), asked, context, _goes_on(context))
    with anyio.CancelScope(shield=True):  # a row without an end would look like a run under way
        await anyio.to_thread.run_sync(_save, live)
    return live


async def _taken_up(context: Client, wish: Resumption) -> Live:
    """A run that another process or an earlier request left, and that is this process's now."""
    _require_room()
    kept = await anyio.to_thread.run_sync(_kept_runs.found, wish.run_id)
    wish.require(kept)
    with anyio.CancelScope(shield=True):
        taken, asked, state = await anyio.to_thread.run_sync(_kept_runs.claimed, wish.run_id)
    asked = replace(asked, limits={**asked.limits, **wish.limits})
    live = Live(wish.run_id, asked, context, _goes_on(context), state)
    live.events = list(taken.result.get("events", []))
    return live


def _goes_on(context: Client) -> bool:
    """Whether the work outlives the request it came with."""
    return isinstance(context, Rounds) or task_id() is not None


async def _to_its_end(live: Live) -> dict[str, Any]:
    _LIVE[live.run_id] = live
    kept: dict[str, Any] = {}
    status = ""
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
                status, kept = "failed", {"error": without_places(told).to_wire()}
            finally:
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await _finish(live, status or live.stopped, kept)
        del _LIVE[live.run_id]
        live.over.set()
    if fault is not None:
        raise fault
    if not status:
        raise live.ended()
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
                live.end("cancelled")
                return
            if len(live.events) != said or monotonic() - beat >= BEAT_SECONDS:
                said, beat = len(live.events), monotonic()
                await _kept_runs.beat(live.run_id, {"events": list(live.events)})
        except RunTaken:
            live.end("taken")
            return
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


async def cancel(run_id: str) -> bool:
    """Asks a run to stop, in whatever process it is; says whether it is under way.

    Raises:
        InvalidRequest: There is no such run.
    """
    live = _LIVE.get(run_id)
    if live is None:
        return await anyio.to_thread.run_sync(_kept_runs.stop, run_id)
    live.end("cancelled")
    return True


async def state(run_id: str, wait: float = 0.0) -> dict[str, Any]:
    """Returns where a run is, once it has ended or so many seconds have passed.

    Raises:
        InvalidRequest: There is no such run.
    """
    until = monotonic() + wait
    while True:
        live = _LIVE.get(run_id)
        events = live.events if live else None
        found = await anyio.to_thread.run_sync(_kept_runs.described, run_id, events)
        left = until - monotonic()
        if found["status"] != "running" or left <= 0:
            return found
        with anyio.move_on_after(min(left, POLL_SECONDS)):
            await (live.over.wait() if live else anyio.sleep_forever())


async def hand_back() -> None:
    """Stops every run of this process behind its last finished step, for another one to go on with.

    Whatever else goes on behind a request is cancelled too.
    """
    runs = _LIVE.of_all()
    for live in runs:
        live.end("interrupted")
    with anyio.move_on_after(_SECONDS_TO_STOP):
        for live in runs:
            await live.over.wait()
    await _background.end_all()


def _save(live: Live) -> None:
    shared().runs.save(
        live.asked.task,
        id=live.run_id,
        agent=live.asked.agent,
        model=live.asked.model,
        owner=_kept_runs.owner(),
        checkpoint={"asked": asdict(live.asked), "state": None},
    )
    _tell(live)


async def _finish(live: Live, status: str, kept: Mapping[str, Any]) -> None:
    """Writes how a run ended; a locked database is waited for, and costs no one his answer."""
    if status == "taken":
        return
    result = {"error": None, **kept, "events": live.events}
    agent, model = kept.get("agent"), kept.get("model")

    async def write() -> None:
        await _kept_runs.updated(
            live.run_id, status=status, agent=agent, model=model, result=result
        )

    async def told(error: Exception) -> None:
        log.info("The end of %s is written again: %s", live.run_id, error)

    policy = shared().registry.resilience
    try:
        await retried(write, policy, safe=lambda error: isinstance(error, TimedOut), on_retry=told)
    except RyzansteinError as error:
        log.error("The end of %s could not be written: %s", live.run_id, error)
    _tell(live)


def _tell(live: Live) -> None:
    """Says that a run began or ended."""
    _notices.updated("orchestrator", f"run://{live.run_id}")
    _notices.listed("orchestrator")
    _notices.updated("analytics", "analytics://dashboard")
