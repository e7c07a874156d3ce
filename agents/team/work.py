"""One part of a team's task, to its end: done, else advised and done again, else handed on.

    the member that fits ── done, and no check failed ──────────────────────────── kept
          │ a check failed, or no answer came
          ├─ asks one it consults, and tries again with the advice ── done ─────── kept
          │ failed again
          └─ hands on to one it hands on to, with what was tried ───────────────── kept, as it is

Each happens once at most, within the part's tokens. A part that nobody could do is kept with the
reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.running.loop import RunResult, run_task
from ryzanstein.agents.running.run import Checkpoint
from ryzanstein.agents.team import members
from ryzanstein.agents.team.advice import ask_advice
from ryzanstein.errors import RyzansteinError
from ryzanstein.events import EventSink

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.agents.routing.route import Router
    from ryzanstein.agents.team.parts import Part
    from ryzanstein.registry import Limits, Registry

__all__ = ["LEAST_TOKENS", "Done", "Work"]

# With less, no attempt says anything.
LEAST_TOKENS = 16
_Tell = Callable[[str, str], Awaitable[None]]
# The state a run was left in, where it was, and where it puts later ones.
_Within = Callable[[str], tuple[Mapping[str, Any] | None, Checkpoint | None]]


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a part.

    Attributes:
        index: The part's place.
        part: Its words.
        agent: Who gave the answer.
        answer: Markdown; "" where none came.
        verified: As the checks of its run say.
        run_ids: Its runs, the last one's answer being the answer.
        consulted: Who was asked for advice.
        handed_on: Who had it before and handed it on.
        reason: Why it failed, where it did.
        tokens: Tokens generated for it.
        result: The last run, as JSON.
    """

    index: int
    part: str
    agent: str
    answer: str = ""
    verified: bool | None = None
    run_ids: tuple[str, ...] = ()
    consulted: tuple[str, ...] = ()
    handed_on: tuple[str, ...] = ()
    reason: str = ""
    tokens: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether there is an answer that no check speaks against."""
        return bool(self.answer) and self.verified is not False

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Work:
    """What every part of a team's task needs.

    Attributes:
        services: The servers.
        registry: Agents and teams.
        router: Says who fits.
        members: The team.
        run_id: The team's run; the runs of parts are named after it.
        model: For all of them; None leaves each its own.
        limits: Of one part, with all its attempts; None leaves each agent its own.
        options: Further arguments of `run_task`.
        tell: Hears (agent, message) of each step.
        within: Gives, by run id, the state to resume a member's run from and its checkpoint.
        on_event: Hears of every stage of a member's run.
        refused: Parts that no agent fits.
    """

    services: Services
    registry: Registry
    router: Router
    members: tuple[str, ...]
    run_id: str
    model: str | None
    limits: Limits | None
    options: Mapping[str, Any]
    tell: _Tell
    within: _Within
    on_event: EventSink | None = None
    refused: frozenset[int] = frozenset()

    async def do(self, part: Part, notes: list[str]) -> Done:
        """Does a part, with what team mates found as notes."""
        agent = members.best_of(part.text, self.members, self.router)
        if part.index in self.refused:
            return Done(
                part.index, part.text, agent, reason="No agent fits this part; name a team for it."
            )
        first = await self._run(part, agent, notes, "")
        if first.good or not self._may_go_on(first):
            return first
        second = await self._advised(part, first, notes)
        if second.good or not self._may_go_on(second):
            return second
        return await self._handed_on(part, second, notes)

    async def _advised(self, part: Part, failed: Done, notes: list[str]) -> Done:
        adviser = members.consulted(failed.agent, part.text, self.registry, self.router)
        if adviser is None:
            return failed
        await self.tell(failed.agent, f"consults {adviser}: {failed.reason}")
        try:
            advice = await ask_advice(
                self.services,
                self.registry,
                asker=failed.agent,
                adviser=adviser,
                part=part.text,
                tried=failed.reason,
                model=self.model,
            )
        except RyzansteinError as error:
            return replace(failed, reason=f"{failed.reason} {adviser} could not be asked: {error}")
        spent = failed.tokens + advice.tokens
        again = await self._run(part, failed.agent, [*notes, advice.note], ".again", spent)
        best = _better(failed, again)
        return replace(
            best,
            run_ids=(*failed.run_ids, *again.run_ids),
            consulted=(adviser,),
            tokens=spent + again.tokens,
        )

    async def _handed_on(self, part: Part, failed: Done, notes: list[str]) -> Done:
        agent = members.successor(
            failed.agent, part.text, (failed.agent,), self.registry, self.router
        )
        if agent is None:
            return failed
        await self.tell(failed.agent, f"hands on to {agent}: {failed.reason}")
        tried = f"{failed.agent} tried and failed: {failed.reason}"
        taken = await self._run(part, agent, [*notes, tried], ".on", failed.tokens)
        best = _better(failed, taken)
        return replace(
            best,
            run_ids=(*failed.run_ids, *taken.run_ids),
            consulted=failed.consulted,
            handed_on=(failed.agent,) if best.agent == agent else (),
            tokens=failed.tokens + taken.tokens,
        )

    def _may_go_on(self, failed: Done) -> bool:
        """Whether tokens are left for another attempt."""
        most = self._tokens
        return most is None or most - failed.tokens >= LEAST_TOKENS

    @property
    def _tokens(self) -> int | None:
        """Tokens of all attempts, where they were given."""
        given = self.limits is not None and "tokens" in self.limits.model_fields_set
        return self.limits.tokens if self.limits and given else None

    def _left(self, spent: int) -> Limits | None:
        """The limits of an attempt, after others spent so many tokens."""
        if self.limits is None or self._tokens is None:
            return self.limits
        return self.limits.model_copy(update={"tokens": max(LEAST_TOKENS, self._tokens - spent)})

    async def _run(
        self, part: Part, agent: str, notes: list[str], suffix: str, spent: int = 0
    ) -> Done:
        """One run of one agent; a run that fails becomes a reason, since the others go on."""
        run_id = f"{self.run_id}.{part.index + 1}{suffix}"
        await self.tell(agent, f"takes part {part.index + 1}: {part.text[:200]}")
        state, checkpoint = self.within(run_id)
        try:
            result = await run_task(
                part.text,
                services=self.services,
                registry=self.registry,
                agent=agent,
                model=self.model,
                run_id=run_id,
                notes=notes,
                limits=self._left(spent),
                on_event=self.on_event,
                checkpoint=checkpoint,
                resume=state,
                **self.options,
            )
        except RyzansteinError as error:
            return Done(part.index, part.text, agent, run_ids=(run_id,), reason=str(error))
        return _done(part, result)


def _done(part: Part, result: RunResult) -> Done:
    return Done(
        index=part.index,
        part=part.text,
        agent=result.agent,
        answer=result.answer.strip(),
        verified=result.verified,
        run_ids=(result.run_id,),
        reason=_reason(result),
        tokens=result.tokens,
        result=result.to_json(),
    )


def _reason(result: RunResult) -> str:
    failed = [check for check in result.checks if check.passed is False]
    if failed:
        return f"{failed[0].name}: {failed[0].detail}"[:500]
    return "" if result.answer.strip() else "No answer came of it."


def _better(one: Done, other: Done) -> Done:
    """The one to keep of two attempts: a good one, then one with an answer, then the first."""
    return max((one, other), key=lambda done: (done.good, bool(done.answer), done is one))
