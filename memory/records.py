"""What the memory holds and what it answers with: frozen records, no database, no numpy.

Memory         a text worth keeping (a fact, a preference, an event), with who and where from
Experience     one finished run: task, agent, how it was done, how it ended, what it taught
Hit            a memory that was found, its score, and the reasons for it
ExperienceHit  an experience that was found, likewise
Run            the state of one run of the orchestrator, kept so that it survives a restart
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "OUTCOMES",
    "AgentPrototype",
    "AgentPrototypes",
    "Experience",
    "ExperienceHit",
    "Hit",
    "ImportReport",
    "Memory",
    "Reason",
    "Run",
    "StoreStats",
    "experience_weight",
]

OUTCOMES = ("success", "failure", "unverified")
_UNVERIFIED = 0.3
_FAILURE = -0.3


@dataclass(frozen=True, slots=True)
class Memory:
    """A text worth keeping.

    Attributes:
        id: "mem_" and 16 hexadecimal digits.
        text: What was said, as it was said.
        kind: One word for what sort it is: fact, preference, event, ...
        agent: Codename of the agent it belongs to; None means everybody's.
        tags: Sorted words to filter by.
        source: Where it came from: a file, a URL, a run, a person.
        importance: 0 to 1.
        reinforced: How often the same text was remembered again; 0 means it is stored once.
        created: When it was first stored, UTC.
        updated: When it was last changed or remembered again, UTC.
        superseded_by: Id of the correction that replaced it; None while it is current.
    """

    id: str
    text: str
    kind: str
    agent: str | None
    tags: tuple[str, ...]
    source: str | None
    importance: float
    reinforced: int
    created: datetime
    updated: datetime
    superseded_by: str | None = None


@dataclass(frozen=True, slots=True)
class Experience:
    """One finished run and what it taught.

    Attributes:
        id: "exp_" and 16 hexadecimal digits.
        task: What was asked, in the user's words.
        agent: Codename of the agent that did it.
        outcome: success, failure, or unverified where nothing could be checked.
        fitness: 0 to 1, how well it went.
        strategy: How it was done, in a sentence.
        tools: Names of the tools used, in order.
        lesson: What to do again or to avoid.
        answer: The answer given.
        run_id: The run it comes from.
        tokens: Tokens the run cost.
        seconds: Seconds the run took.
        rating: 0 to 1, what a person said of it; None where nobody did.
        created: When it was stored, UTC.
    """

    id: str
    task: str
    agent: str
    outcome: str
    fitness: float
    strategy: str
    tools: tuple[str, ...]
    lesson: str
    answer: str
    run_id: str | None
    tokens: int
    seconds: float
    rating: float | None
    created: datetime

    @property
    def weight(self) -> float:
        """How much this experience pulls its agent towards such tasks; negative pushes away."""
        return experience_weight(self.outcome, self.fitness, self.rating)


def experience_weight(outcome: str, fitness: float, rating: float | None = None) -> float:
    """Weighs an experience for routing, between -0.3 and 1.

    A success counts with its fitness. What nobody could check counts for less than a third of
    that. A failure pushes away, gently (at most 0.3 of a success): the next agent may fail on a
    hard task too. A person's rating takes the place of what the run thought of itself.
    """
    if rating is not None:
        return rating if rating >= 0.5 else _FAILURE * (1 - 2 * rating)
    if outcome == "success":
        return fitness
    return _UNVERIFIED * fitness if outcome == "unverified" else _FAILURE * (1 - fitness)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason for a score: what it is, in words and as the number that went into the score."""

    kind: str
    detail: str
    weight: float

    def __str__(self) -> str:
        return f"{self.detail} ({self.weight:+.2f})"


@dataclass(frozen=True, slots=True)
class Hit:
    """A memory that was found.

    Attributes:
        memory: The record.
        score: Fused score; orders the hits of one query, means nothing across queries.
        similarity: Cosine of the query and the text, comparable across queries.
        reasons: What the score is made of.
    """

    memory: Memory
    score: float
    similarity: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class ExperienceHit:
    """An experience that was found; the fields are those of Hit."""

    experience: Experience
    score: float
    similarity: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class AgentPrototype:
    """What one agent's experiences add up to.

    Attributes:
        count: Experiences.
        weight: Sum of their weights.
        total: Sum of weight times vector, float32 [dimension].
    """

    count: int
    weight: float
    total: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AgentPrototypes:
    """Experiences of every agent, added up for routing.

    Attributes:
        model_id: Embedding model of the vectors.
        dimension: Length of the vectors.
        agents: One prototype per codename.
        mean: Plain mean of all experiences' vectors, float32 [dimension].
        count: All experiences.
    """

    model_id: str
    dimension: int
    agents: dict[str, AgentPrototype]
    mean: NDArray[np.float32]
    count: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the orchestrator.

    Attributes:
        id: Chosen by the caller, or "run_" and 16 hexadecimal digits.
        task: What was asked.
        status: running, done, failed or cancelled.
        agent: Codename, once it is known.
        model: Model's name, once it is known.
        result: Whatever the run wants to keep, as JSON.
        created: When it was first saved, UTC.
        updated: When it was last saved, UTC.
    """

    id: str
    task: str
    status: str
    agent: str | None
    model: str | None
    result: dict[str, Any]
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds: counts, where it is, and how it searches now."""

    memories: int
    superseded: int
    experiences: int
    runs: int
    by_kind: dict[str, int]
    by_agent: dict[str, int]
    by_outcome: dict[str, int]
    database: str
    bytes: int | None
    model_id: str
    dimension: int
    full_text: str
    index: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did; skipped lines were already there."""

    memories: int
    experiences: int
    skipped: int
