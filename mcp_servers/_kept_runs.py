"""Runs as the table of runs knows them: where each is, who is at it, and how to go on with it.

A run belongs to the process that is at it, its owner: HOST:PID:START. On this machine the owner is
gone once no such process is there; on another, once it has not said for a minute that it is at it.
A run that says running and whose owner is gone is interrupted: any process may go on with it.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from ryzanstein.errors import AgentInvocationError, InvalidRequest
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.memory.records import RunTaken

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = [
    "SILENT_SECONDS",
    "Asked",
    "Resumption",
    "beat",
    "claimed",
    "described",
    "found",
    "owner",
    "rate",
    "settled",
    "stop",
    "updated",
    "with_checkpoint",
]

# An owner on another machine says every ten seconds that it is at it.
SILENT_SECONDS = 60.0
_INTERNAL = frozenset({"events", "process"})
_GO_ON = frozenset({"interrupted", "failed", "cancelled"})


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


@dataclass(frozen=True, slots=True)
class Resumption:
    """A wish to go on with a run behind its last finished step.

    Attributes:
        run_id: The run.
        task: What the caller takes to be its task; "" where it leaves that open.
        agent: What the caller takes to be its agent.
        limits: In place of those that it was asked for with: steps, tokens, seconds.
    """

    run_id: str
    task: str = ""
    agent: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def require(self, kept: Run) -> None:
        """Raises InvalidRequest where the run is of another task or agent than is thought."""
        other_agent = self.agent is not None and kept.agent not in {None, self.agent}
        if (self.task.strip() and self.task.strip() != kept.task.strip()) or other_agent:
            raise InvalidRequest(
                f"The run {self.run_id} is of another {'agent' if other_agent else 'task'}.",
                hint="Leave it out to go on with the run, or leave the run_id out to begin anew.",
            )


@functools.cache
def owner() -> str:
    """This process, by a name that no other one gets."""
    import psutil

    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def found(run_id: str) -> Run:
    """A run, as interrupted where its owner is gone.

    Raises:
        InvalidRequest: There is no such run.
    """
    kept = shared().runs.get(run_id)
    if kept is None:
        raise InvalidRequest(
            f"There is no run {run_id}.", hint="list_runs of the analytics server shows them."
        )
    return settled(kept)


def with_checkpoint(run_id: str) -> tuple[Run, bool]:
    """A run, and whether it left something to go on from.

    Raises:
        InvalidRequest: There is no such run.
    """
    kept = found(run_id)
    try:
        return kept, shared().runs.checkpoint(run_id) is not None
    except InvalidRequest:
        return kept, False


def settled(kept: Run) -> Run:
    """A run as it is, or as interrupted where it says running and its owner is gone."""
    if kept.status != "running" or not _is_gone(kept):
        return kept
    error = AgentInvocationError(
        "The process that ran it ended before the run did.", hint=_how_to_go_on(kept.id)
    )
    return shared().runs.interrupt(kept.id, kept.owner, result={"error": error.to_wire()})


def described(run_id: str, events: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Where a run is, as `get_run` says it.

    Args:
        run_id: The run.
        events: Those of a run of this process, which are newer than the kept ones.

    Raises:
        InvalidRequest: There is no such run.
    """
    kept = found(run_id)
    result = {key: value for key, value in kept.result.items() if key not in _INTERNAL}
    if result.get("error") is None:
        result.pop("error", None)
    return {
        "run_id": run_id,
        "status": kept.status,
        "task": kept.task,
        "agent": kept.agent,
        "events": kept.result.get("events", []) if events is None else events,
        "result": result or None,
        "hint": _how_to_go_on(run_id) if kept.status in _GO_ON else "",
    }


def claimed(run_id: str) -> tuple[Run, Asked, Mapping[str, Any] | None]:
    """Takes a run over to go on with it; returns it, what it was asked for and where it was.

    Raises:
        InvalidRequest: There is no such run, it is done, under way, or left nothing to go on from.
    """
    kept = found(run_id)
    left = shared().runs.checkpoint(run_id)
    if left is None and kept.status in _GO_ON:
        raise InvalidRequest(
            f"The run {run_id} left nothing to go on from.", hint="Give its task again."
        )
    # Read before it is claimed: what cannot be read is nobody's to go on with.
    asked, state = _read(run_id, left) if left is not None else (Asked(kept.task), None)
    return shared().runs.claim(run_id, owner()), asked, state


def _read(run_id: str, left: Mapping[str, Any]) -> tuple[Asked, Mapping[str, Any] | None]:
    from pydantic import TypeAdapter, ValidationError

    try:
        asked, state = TypeAdapter(Asked).validate_python(left["asked"]), left["state"]
    except (KeyError, ValidationError) as error:
        raise _damaged(run_id) from error
    if not (state is None or isinstance(state, dict)):
        raise _damaged(run_id)
    return asked, state


def _damaged(run_id: str) -> InvalidRequest:
    return InvalidRequest(
        f"What the run {run_id} left to go on from is damaged.", hint="Give its task again."
    )


async def updated(run_id: str, **changes: Any) -> None:
    """Changes the row of a run of this process.

    Raises:
        RunTaken: Another process goes on with it.
    """
    await anyio.to_thread.run_sync(lambda: shared().runs.update(run_id, owner=owner(), **changes))


async def beat(run_id: str, result: dict[str, Any]) -> None:
    """Says that this process is at a run, and keeps what happened.

    Raises:
        RunTaken: Another process goes on with it.
    """
    await anyio.to_thread.run_sync(lambda: shared().runs.beat(run_id, owner(), result=result))


def stop(run_id: str) -> bool:
    """Asks the process that is at a run to stop it; says whether one is.

    Raises:
        InvalidRequest: There is no such run.
    """
    kept = found(run_id)
    if kept.status == "interrupted":
        try:
            shared().runs.update(run_id, status="cancelled", owner=kept.owner)
        except RunTaken:  # another process goes on with it since it was looked at
            return stop(run_id)
    return kept.status == "running" and shared().runs.ask_to_stop(run_id)


async def rate(run_id: str, rating: float) -> str:
    """Rates the experience that a run left; returns that experience's id.

    Raises:
        InvalidRequest: There is no such run, or it left no experience.
    """
    from ryzanstein.agents.clients.services import Services

    run = found(run_id)
    async with Services(shared().registry, names=("memory",)) as services:
        near = await services.find_experiences(run.task[:20_000], limit=50)
        mine = [one for one in near if one["run_id"] == run_id]
        if not mine and run.status == "done":
            # A later run of the same task that went the same way renewed its experience.
            mine = [one for one in near if _renewed(one, run)]
        ids = [str(one["id"]) for one in mine]
        if not ids:
            raise InvalidRequest(f"The run {run_id} left no experience to rate.")
        await services.rate_experience(ids[0], rating)
    return ids[0]


def _renewed(experience: Mapping[str, Any], run: Run) -> bool:
    """Whether an experience is of the task and the agent of a run."""
    same_agent = experience["agent"] == run.agent
    return same_agent and run.task.strip().startswith(experience["task"])


def _is_gone(kept: Run) -> bool:
    """Whether nobody is at a run that says it is under way."""
    if kept.owner is None or kept.seen is None:
        return True
    if kept.owner == owner():
        return False
    silent = (datetime.now(UTC) - kept.seen).total_seconds() > SILENT_SECONDS
    host, _, process = kept.owner.partition(":")
    if host != socket.gethostname():
        return silent
    here = _runs(process)
    return silent if here is None else not here


def _runs(process: str) -> bool | None:
    """Whether the process of that number and start is still there; None where nobody can tell."""
    import psutil

    pid, _, start = process.partition(":")
    try:
        found = psutil.Process(int(pid))
        same = abs(found.create_time() - float(start)) < 1.0
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, OSError, ValueError):
        # Another user's process may not be looked at; what it says of itself counts then.
        return None


def _how_to_go_on(run_id: str) -> str:
    return (
        f"Go on behind its last finished step: `ryzanstein runs resume {run_id}`, "
        "or run_task with this run_id."
    )
