"""The state of one run, which every stage of the loop reads and adds to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.complexity import Complexity, estimate
from ryzanstein.agents.running import prompting, state
from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.agents.running.ground import Surroundings
from ryzanstein.agents.running.step import Step
from ryzanstein.agents.verification.checks import Check
from ryzanstein.errors import RyzansteinError
from ryzanstein.events import Event, EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile

__all__ = ["Acting", "Approve", "Checkpoint", "Mark", "Run"]

# Asked before a call that would destroy something, with what it would do, as a sentence.
Approve = Callable[[str], Awaitable[bool | None]]
# Takes the state of a run after every finished step; run_task(resume=...) takes it back.
Checkpoint = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in a run: seconds on the clock and tokens spent."""

    at: float
    spent: int


@dataclass
class Acting:
    """Where the use of tools for one part of a task is, so that it can be gone on with.

    Attributes:
        question: To ask next.
        shown: Names of the tools to choose from.
        left: Steps that may still be taken.
        must_act: A value is to be found, and none was found yet.
        seen: Keys of the calls made.
        notes: By tool, why it failed last.
        stale: How often something was done or found again.
        pending: A call under way that changes something, as tool and arguments.
    """

    question: str
    shown: list[str]
    left: int
    must_act: bool = False
    seen: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    stale: int = 0
    pending: dict[str, Any] | None = None


@dataclass
class Run:
    """One run.

    Attributes:
        task: What the user asked.
        profile: The agent that does it.
        services: The servers.
        budget: What may still be spent.
        window: Tokens the conversation may take.
        model: Name or path.
        run_id: Its id.
        on_event: Hears of every stage.
        trace_id: Joins the events of the run.
        around: What the task names.
        facts: Recalled facts that are in the prompt.
        told: The user told before what the task asks for.
        reminders: Recalled experiences that are in the prompt, as texts.
        used: Facts and experiences, as the result lists them.
        steps: What was done.
        checks: What was checked.
        answer: For the user.
        approve: Asked before a destructive call; None refuses it.
        checkpoint: Takes the state after every finished step.
        complexity: How much work the task is.
        failures: Why something failed on the way, a sentence each, in order.
        stage: The last stage that is done: "", recalled, looked, coded, remembered.
        parts: What the task was split into; the task alone where it is one thing.
        part: Which of them is at work.
        found: Of each part that is done, whether it found what it needs.
        brief: What is at work, as later questions name it.
        acting: Where the use of tools for it is.
        taken: Steps taken so far.
        notes: What others found out for it.
        changed: A call was made that may have changed something.
    """

    task: str
    profile: AgentProfile
    services: Services
    budget: Budget
    window: int
    model: str | None
    run_id: str
    on_event: EventSink | None = None
    trace_id: str = field(default_factory=lambda: new_id("trace"))
    around: Surroundings = field(default_factory=Surroundings)
    facts: list[str] = field(default_factory=list)
    told: bool = False
    reminders: list[str] = field(default_factory=list)
    used: list[dict[str, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    answer: str = ""
    approve: Approve | None = None
    checkpoint: Checkpoint | None = None
    failures: list[str] = field(default_factory=list)
    stage: str = ""
    parts: tuple[str, ...] = ()
    part: int = 0
    found: list[bool] = field(default_factory=list)
    brief: str = ""
    acting: Acting | None = None
    taken: int = 0
    notes: tuple[str, ...] = ()
    changed: bool = False

    def __post_init__(self) -> None:
        self.complexity: Complexity = estimate(self.task)
        self.talk = Conversation(
            self.services,
            self.budget,
            window=self.window,
            model=self.model,
            progress=self._generated,
        )

    @property
    def aim(self) -> str:
        """The part of the task that is at work."""
        return self.parts[self.part] if self.part < len(self.parts) else self.task

    @property
    def computes(self) -> bool:
        """Whether its answer is to be counted or calculated, by a tool and not by the model."""
        return prompting.asks_to_compute(self.aim)

    @property
    def results(self) -> list[Step]:
        """The tool calls that gave something."""
        return [made for made in self.steps if made.kind == "tool" and made.ok]

    async def tell(self, stage: str, message: str, **data: Any) -> None:
        """Emits an event."""
        if self.on_event is not None:
            await self.on_event(Event(self.run_id, self.trace_id, stage, message, data=data))

    async def failed(self, reason: str) -> None:
        """Puts the reason of a failure that the run survived into its record."""
        if not self.failures or self.failures[-1] != reason:
            self.failures.append(reason)
            await self.tell("failure", reason)

    async def _generated(self, progress: float, total: float | None, message: str | None) -> None:
        if self.on_event is not None:
            text = message or f"{progress:g} tokens"
            event = Event(self.run_id, self.trace_id, "generate", text, progress, total)
            await self.on_event(event)

    def mark(self) -> Mark:
        """This moment, for the step that begins now."""
        return Mark(monotonic(), self.budget.spent)

    def note(self, made: Step, since: Mark) -> Step:
        """Adds a step, with the tokens and seconds since its mark."""
        spent = self.budget.spent - since.spent
        timed = replace(made, tokens=spent, seconds=round(monotonic() - since.at, 3))
        self.steps.append(timed)
        return timed

    async def save(self) -> None:
        """Hands out the state behind a finished step; a run does not end because that failed."""
        if self.checkpoint is None:
            return
        try:
            await self.checkpoint(state.to_json(self))
        except RyzansteinError as error:
            await self.failed(f"The state of the run could not be kept: {error}")
