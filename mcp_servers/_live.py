"""One run under way in this process: what it was asked for, what happened, and who hears of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any

import anyio

from ryzanstein.errors import AgentInvocationError
from ryzanstein.events import Event
from ryzanstein.mcp_servers import _kept_runs, _notices
from ryzanstein.mcp_servers._asking import Client
from ryzanstein.mcp_servers._kept_runs import Asked
from ryzanstein.mcp_servers._rounds import Rounds

__all__ = ["Live"]

MAX_EVENTS = 200
_SECONDS_BETWEEN = 0.1


@dataclass
class Live:
    """One run under way in this process.

    Progress is the number of reports so far: stages share no unit, and progress must grow.

    Attributes:
        background: Whether it goes on when the request that began it has ended.
        why: What ends it: "cancelled" by a wish, "interrupted" where the server stops, "taken" by
            another process; "" while nothing does.
        over: Set once its end is written.
    """

    run_id: str
    asked: Asked
    context: Client
    background: bool = False
    state: Mapping[str, Any] | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    over: anyio.Event = field(default_factory=anyio.Event)
    why: str = ""
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
        if not same:
            _notices.updated("orchestrator", f"run://{self.run_id}")
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
        """Keeps the state behind a finished step.

        Raises:
            RyzansteinError: It could not be kept.
        """
        await _kept_runs.updated(
            self.run_id,
            checkpoint={"asked": asdict(self.asked), "state": state},
            agent=state["agent"],
            model=state["model"],
            result={"events": self.events},
        )

    def end(self, why: str) -> None:
        """Stops it for a reason; the first one counts."""
        self.why = self.why or why
        self.scope.cancel()

    @property
    def stopped(self) -> str:
        """The status of a run that was stopped before its end.

        Work that no request waits for is stopped by a wish, or by the end of its process, behind
        which it can be gone on with.
        """
        wished = isinstance(self.context, Rounds) and self.context.cancelled
        if self.why:
            return self.why
        return "interrupted" if self.background and not wished else "cancelled"

    def ended(self) -> AgentInvocationError:
        """What whoever waits for it is told."""
        said = {
            "interrupted": "was interrupted, as its server stops",
            "taken": "goes on in another process",
        }
        return AgentInvocationError(
            f"The run {self.run_id} {said.get(self.stopped, 'was cancelled')}.",
            hint=f"`ryzanstein runs resume {self.run_id}` goes on behind its last finished step.",
        )
