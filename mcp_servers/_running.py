"""Runs of this process: started, watched, cancelled, and kept in the table of runs.

Every run is a row of the runs table from its start to its end, so that `get_run` answers while it
works and a restart knows what was under way. The other servers are reached as any client would.

    run -> Live (cancel scope, events) -> agents.loop.run_task(services=MCP clients) -> row "done"
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import Context

from ryzanstein.errors import AgentInvocationError, InvalidRequest, RyzansteinError
from ryzanstein.events import Event, new_id
from ryzanstein.mcp_servers._shared import shared

if TYPE_CHECKING:
    from ryzanstein.agents.route import Router
    from ryzanstein.agents.services import Services
    from ryzanstein.memory.records import AgentPrototypes, Run

__all__ = ["cancel", "ranked", "rate", "run", "state"]

MAX_EVENTS = 200
SERVERS = ("inference", "memory", "tools", "model")
_SECONDS_BETWEEN = 0.1


@dataclass
class Live:
    """One run under way in this process.

    Progress is the number of reports so far: stages share no unit, and progress must grow.
    """

    run_id: str
    task: str
    context: Context[Any, Any]
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

    async def report(self, message: str, often: bool = False) -> None:
        """Sends a line of progress to the client."""
        now = monotonic()
        if often and now - self.last < _SECONDS_BETWEEN:
            return
        self.last = now
        self.reports += 1
        await self.context.report_progress(self.reports, None, message)


_LIVE: dict[str, Live] = {}


async def run(
    context: Context[Any, Any],
    task: str,
    agent: str | None,
    model: str | None,
    tools: bool,
    limits: Mapping[str, float | None],
) -> dict[str, Any]:
    """Runs a task to its end and returns the result.

    Raises:
        AgentInvocationError: cancel_run stopped it.
        RyzansteinError: What the run raised; the row of the run says so too.
    """
    if not task.strip():
        raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
    live = Live(new_id("run"), task, context)
    with anyio.CancelScope(shield=True):  # a row without an end would look like a run under way
        await _save(live, agent, model)
    _LIVE[live.run_id] = live
    kept: dict[str, Any] = {}
    status = "cancelled"
    try:
        with live.scope:
            kept = await _work(live, agent, model, tools, limits)
            status = "done"
    except RyzansteinError as error:
        status, kept = "failed", {"error": error.to_wire()}
        raise
    finally:
        del _LIVE[live.run_id]
        with anyio.CancelScope(shield=True):
            await _finish(live, status, kept)
    if status == "cancelled":
        raise AgentInvocationError(f"The run {live.run_id} was cancelled.")
    return kept


async def _work(
    live: Live,
    agent: str | None,
    model: str | None,
    tools: bool,
    limits: Mapping[str, float | None],
) -> dict[str, Any]:
    from ryzanstein.agents.loop import run_task
    from ryzanstein.agents.services import Services
    from ryzanstein.registry import Limits

    given = {name: value for name, value in limits.items() if value is not None}
    await live.report(f"start: {live.run_id}")
    async with Services(shared().registry, names=SERVERS) as services:
        await _bring_model(live, services, model)
        result = await run_task(
            live.task,
            services=services,
            registry=shared().registry,
            router=None if agent else await _router(services),
            agent=agent,
            model=model,
            tools=tools,
            limits=Limits.model_validate(given) if given else None,
            on_event=live.on_event,
            run_id=live.run_id,
        )
    return result.to_json()


async def _bring_model(live: Live, services: Services, name: str | None) -> None:
    """Pulls the model of a run where it is one of the catalogue and not here yet."""
    models = (await services.call("model", "list_models", {"limit": 100}))["models"]
    wanted = [one for one in models if (one["name"] == name if name else one["default"])]
    if not wanted or wanted[0]["present"]:
        return
    name = str(wanted[0]["name"])

    async def report(progress: float, total: float | None, message: str | None) -> None:
        share = f"{100 * progress / total:.0f} %" if total else f"{progress / 1e6:.0f} MB"
        await live.report(f"model: brings {name}, {share}", often=True)

    await services.call("model", "pull_model", {"name": name}, progress=report)


async def ranked(task: str, top_k: int) -> dict[str, Any]:
    """Ranks the agents for a task, with what past runs taught."""
    from ryzanstein.agents.services import Services

    async with Services(shared().registry, names=("memory",)) as services:
        router = await _router(services)
    found = await anyio.to_thread.run_sync(lambda: router.route(task, top_k=top_k))
    agents = [
        {"codename": one.codename, "score": one.score, "reasons": [str(r) for r in one.reasons]}
        for one in found.agents
    ]
    return {
        "agents": agents,
        "ms": round(found.ms, 3),
        "complexity": found.complexity.level,
        "fits": found.fits,
        "scope": round(found.scope, 4),
        "notes": list(found.notes),
    }


async def _router(services: Services) -> Router:
    prototypes = _prototypes(await services.read_json("memory", "memory://prototypes"))

    def current() -> Router:
        router = shared().router
        router.use(prototypes)
        return router

    return await anyio.to_thread.run_sync(current)


def _prototypes(wire: Mapping[str, Any]) -> AgentPrototypes:
    import numpy as np

    from ryzanstein.memory.records import AgentPrototype, AgentPrototypes

    def vector(text: str) -> Any:
        return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)

    agents = {
        name: AgentPrototype(one["count"], one["weight"], vector(one["total"]))
        for name, one in wire["agents"].items()
    }
    return AgentPrototypes(
        wire["model_id"], wire["dimension"], agents, vector(wire["mean"]), wire["count"]
    )


def cancel(run_id: str) -> bool:
    """Asks a run of this process to stop; says whether there was one."""
    found = _LIVE.get(run_id)
    if found is not None:
        found.scope.cancel()
    return found is not None


def state(run_id: str) -> dict[str, Any]:
    """Returns where a run is.

    Raises:
        InvalidRequest: There is no such run.
    """
    kept = _kept(run_id)
    live = _LIVE.get(run_id)
    if kept.status == "running" and live is None:
        kept = _noticed_end(kept)
    result = {key: value for key, value in kept.result.items() if key not in {"events", "process"}}
    return {
        "run_id": run_id,
        "status": kept.status,
        "task": kept.task,
        "agent": kept.agent,
        "events": live.events if live else kept.result.get("events", []),
        "result": result or None,
    }


async def rate(run_id: str, rating: float) -> str:
    """Rates the experience that a run left; returns that experience's id.

    Raises:
        InvalidRequest: There is no such run, or it left no experience.
    """
    from ryzanstein.agents.services import Services

    run = _kept(run_id)
    async with Services(shared().registry, names=("memory",)) as services:
        found = await services.find_experiences(run.task[:20_000], limit=50)
        mine = [one for one in found if one["run_id"] == run_id]
        if not mine and run.status == "done":
            # A later run of the same task that went the same way renewed its experience.
            mine = [one for one in found if _renewed(one, run)]
        ids = [str(one["id"]) for one in mine]
        if not ids:
            raise InvalidRequest(f"The run {run_id} left no experience to rate.")
        await services.rate_experience(ids[0], rating)
    return ids[0]


def _renewed(experience: Mapping[str, Any], run: Run) -> bool:
    """Whether an experience is of the task and the agent of a run."""
    same_agent = experience["agent"] == run.agent
    return same_agent and run.task.strip().startswith(experience["task"])


def _kept(run_id: str) -> Run:
    found = shared().runs.get(run_id)
    if found is None:
        raise InvalidRequest(
            f"There is no run {run_id}.", hint="list_runs of the analytics server shows them."
        )
    return found


def _noticed_end(kept: Run) -> Run:
    """Closes the row of a run whose process is gone; another process may still be at it."""
    import psutil

    if psutil.pid_exists(int(kept.result.get("process", 0))):
        return kept
    error = AgentInvocationError("The process that ran it ended before the run did.")
    return shared().runs.update(kept.id, status="failed", result={"error": error.to_wire()})


async def _save(live: Live, agent: str | None, model: str | None) -> None:
    runs = shared().runs
    result = {"process": os.getpid()}
    await anyio.to_thread.run_sync(
        lambda: runs.save(live.task, id=live.run_id, agent=agent, model=model, result=result)
    )


async def _finish(live: Live, status: str, kept: Mapping[str, Any]) -> None:
    runs = shared().runs
    result = {**kept, "events": live.events}
    agent, model = kept.get("agent"), kept.get("model")
    await anyio.to_thread.run_sync(
        lambda: runs.update(live.run_id, status=status, agent=agent, model=model, result=result)
    )
