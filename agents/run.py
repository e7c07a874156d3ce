"""The state of one run, which every stage of the loop reads and adds to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from ryzanstein.agents import prompting
from ryzanstein.agents.complexity import Complexity, estimate
from ryzanstein.agents.conversation import RESERVE, Budget, Conversation
from ryzanstein.agents.ground import Surroundings
from ryzanstein.agents.services import Services
from ryzanstein.agents.step import Step
from ryzanstein.agents.verify import Check
from ryzanstein.events import Event, EventSink, new_id

if TYPE_CHECKING:
    from ryzanstein.registry import AgentProfile

__all__ = ["Approve", "Checkpoint", "Mark", "Run"]

# Asked before a destructive call, with the tool's name, its arguments and what it would do.
Approve = Callable[[str, Mapping[str, Any], str], Awaitable[bool]]
# Takes the state of a run after every finished step; run_task(resume=...) takes it back.
Checkpoint = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in a run: seconds on the clock and tokens spent."""

    at: float
    spent: int


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
    def computes(self) -> bool:
        """Whether the answer is to be counted or calculated, by a tool and not by the model."""
        return prompting.asks_to_compute(self.task)

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

    async def say(self, question: str) -> None:
        """Asks for the answer."""
        await self.tell("answer", "writes the answer")
        found = await self.talk.ask(question, max_tokens=RESERVE, final=True)
        self.answer = found.text.strip()
