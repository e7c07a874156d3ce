"""Events and checkpoints of one run of a team, which its members write to side by side.

The checkpoint is `{version, team, agent, model, done, within}`: `done` has a `Done` a part, and
`within` the state of a member's run by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from ryzanstein.agents.running.run import Checkpoint
from ryzanstein.agents.team.merge import LEAD
from ryzanstein.agents.team.work import Done
from ryzanstein.errors import InvalidRequest, RyzansteinError
from ryzanstein.events import Event, EventSink, new_id

__all__ = ["Desk"]

VERSION = 1


class Desk:
    """Takes what members say and finish.

    Args:
        run_id: The team's run.
        team: As it was asked for; a state of another team is refused.
        model: As it was asked for.
        on_event: Hears of every stage of every member.
        checkpoint: Takes what is done after every step of a member.
        resume: Such a state; empty for a new run.

    Raises:
        InvalidRequest: The state is of another team or version.
    """

    def __init__(
        self,
        run_id: str,
        team: str,
        model: str | None,
        on_event: EventSink | None,
        checkpoint: Checkpoint | None,
        resume: Mapping[str, Any],
    ) -> None:
        if resume and (resume.get("version") != VERSION or resume.get("team") != team):
            raise InvalidRequest(
                "The state of the run is of another team or version.",
                hint="Give the task again.",
            )
        self.run_id = run_id
        self.trace_id = new_id("trace")
        self.failures: list[str] = []
        self._on_event = on_event
        self._checkpoint = checkpoint
        self._kept = {"version": VERSION, "team": team, "agent": LEAD, "model": model}
        self._done: dict[str, dict[str, Any]] = dict(resume.get("done", {}))
        self._within: dict[str, dict[str, Any]] = dict(resume.get("within", {}))
        self._saving = anyio.Lock()

    def finished(self, index: int) -> Done | None:
        """A part that was done before the run was resumed."""
        kept = self._done.get(str(index))
        if kept is None:
            return None
        tuples = ("run_ids", "consulted", "handed_on")
        return Done(**{**kept, **{name: tuple(kept[name]) for name in tuples}})

    async def finish(self, done: Done) -> None:
        """Keeps a part as done."""
        self._done[str(done.index)] = done.to_json()
        self._within = {
            run: state for run, state in self._within.items() if run not in done.run_ids
        }
        try:
            await self._save()
        except RyzansteinError as error:
            await self.failed(f"The state of the team could not be kept: {error}")

    def within(self, run_id: str) -> tuple[Mapping[str, Any] | None, Checkpoint | None]:
        """The state a member's run was left in, and where it puts later ones."""
        if self._checkpoint is None:
            return self._within.get(run_id), None

        async def keep(state: dict[str, Any]) -> None:
            self._within[run_id] = state
            await self._save()

        return self._within.get(run_id), keep

    async def _save(self) -> None:
        if self._checkpoint is None:
            return
        async with self._saving:  # an older state must not be written over a newer one
            state = {"done": dict(self._done), "within": dict(self._within)}
            await self._checkpoint({**self._kept, **state})

    async def failed(self, reason: str) -> None:
        """Notes why something failed that the team can do without."""
        self.failures.append(reason)
        await self.tell("failure", reason)

    async def say(self, agent: str, message: str) -> None:
        """Emits what a member does."""
        await self.tell("team", f"{agent} {message}", agent=agent)

    async def tell(self, stage: str, message: str, **data: Any) -> None:
        """Emits an event of the team."""
        if self._on_event is not None:
            await self._on_event(Event(self.run_id, self.trace_id, stage, message, data=data))

    async def heard(self, event: Event) -> None:
        """Passes on an event of a member's run as one of the team's."""
        if self._on_event is not None:
            part = event.run_id.removeprefix(f"{self.run_id}.")
            message = f"part {part}: {event.message}"
            passed = Event(self.run_id, self.trace_id, event.stage, message, data=event.data)
            await self._on_event(passed)
