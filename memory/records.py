"""What the memory holds and what it answers with: frozen records, no database, no numpy.

Memory         a text worth keeping (a fact, a preference, an event), with who and where from
Draft          what is to be remembered: a memory before it has an id
Standing       why a memory is in its tier, and what would happen to it next
Link           a memory made from, or at odds with, another
JournalEntry   one thing that happened to a memory, and why
Experience     one finished run: task, agent, how it was done, how it ended, what it taught
Hit            a memory that was found, its score, and the reasons for it
ExperienceHit  an experience that was found, likewise
Run            the state of one run of the orchestrator, kept so that it survives a restart

    tier         holds                                           room
    working      what one task needs, until it ends              the task
    short_term   what was said lately                            100
    long_term    what proved worth keeping                       10,000
    episodic     events: who said or did what, when and where    without bound
    semantic     facts distilled from several episodes,          without bound
                 passages of documents

What no longer fits into a tier is archived, never deleted: it leaves the usual search and comes
back when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ryzanstein.errors import InvalidRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "CONTRADICTS",
    "DISTILLED_FROM",
    "MERGED_FROM",
    "OUTCOMES",
    "PASSAGE",
    "TIERS",
    "AgentPrototype",
    "AgentPrototypes",
    "Calibration",
    "ConsolidationReport",
    "ConversationReport",
    "DocumentReport",
    "Draft",
    "Experience",
    "ExperienceHit",
    "Hit",
    "ImportReport",
    "JournalEntry",
    "Lesson",
    "Link",
    "Memory",
    "Page",
    "Proposal",
    "Reason",
    "Run",
    "RunTaken",
    "Standing",
    "StoreStats",
    "experience_weight",
]

OUTCOMES = ("verified", "rated", "failed", "unknown")
# The kind of a document's passages; a conversation's turns may be of any other.
PASSAGE = "passage"
# Kinds of links.
MERGED_FROM = "merged_from"
DISTILLED_FROM = "distilled_from"
CONTRADICTS = "contradicts"
TIERS = ("working", "short_term", "long_term", "episodic", "semantic")
_UNKNOWN = 0.3
_FAILURE = -0.3


@dataclass(frozen=True, slots=True)
class Memory:
    """A text worth keeping; every time is UTC.

    Attributes:
        id: "mem_" and 16 hexadecimal digits.
        text: What was said, as it was said.
        tier: One of TIERS.
        kind: One word for what sort it is: fact, preference, event, turn, passage, ...
        agent: Codename of the agent it belongs to; None means everybody's.
        tags: Sorted words to filter by.
        source: Where it came from: a file, a URL, a run, a person.
        place: Where in the source: a page, lines, headings, the id of a turn.
        speaker: Who said or did it.
        context: Words about it that are not in it: speaker, date, headings; searched too.
        conversation: The conversation it is a turn of.
        session: The sitting of that conversation.
        turn: Its place in that conversation's order.
        task: The run that a working memory belongs to.
        importance: 0 to 1, from mark, novelty, use and outcome, before decay by age.
        mark: The importance that somebody gave it, 0 to 1; at 1 no policy moves it.
        novelty: 0 to 1, how far it was from everything known when it came.
        outcome: -1 to 1, whether using it helped.
        uses: How often it was found or used.
        reinforced: How often the same text was remembered again; 0 means it is stored once.
        created: When it was first stored.
        updated: When it was last changed or remembered again.
        last_used: When it was last found or used.
        happened: When the event took place.
        valid_from: From when on it holds; None means always.
        valid_until: Until when it holds; None means still.
        superseded_by: Id of the correction or merged memory that replaced it; None while current.
        archived: When it left its tier for want of room; None while it is there.
    """

    id: str
    text: str
    tier: str
    kind: str
    agent: str | None
    tags: tuple[str, ...]
    source: str | None
    created: datetime
    updated: datetime
    place: str | None = None
    speaker: str | None = None
    context: str | None = None
    conversation: str | None = None
    session: str | None = None
    turn: int | None = None
    task: str | None = None
    importance: float = 0.5
    mark: float | None = None
    novelty: float = 0.5
    outcome: float = 0.0
    uses: int = 0
    reinforced: int = 0
    last_used: datetime | None = None
    happened: datetime | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    superseded_by: str | None = None
    archived: datetime | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be remembered; the fields are those of Memory, `importance` is the mark."""

    text: str
    kind: str = "fact"
    tier: str | None = None
    agent: str | None = None
    tags: tuple[str, ...] = ()
    source: str | None = None
    place: str | None = None
    speaker: str | None = None
    context: str | None = None
    conversation: str | None = None
    session: str | None = None
    turn: int | None = None
    task: str | None = None
    importance: float | None = None
    happened: datetime | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """How a memory is related to another one.

    Attributes:
        kind: merged_from, distilled_from or contradicts.
        memory: The other one.
        score: Cosine of the two when the link was made.
        created: When it was made, UTC.
    """

    kind: str
    memory: Memory
    score: float
    created: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a list; `cursor` asks for what follows, None means that this was the end."""

    memories: tuple[Memory, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One thing that happened to a memory: a word for it, and why."""

    at: datetime
    action: str
    detail: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a memory is where it is.

    Attributes:
        memory: The record.
        strength: 0 to 1, its importance after decay; the weakest leave a full tier first.
        reasons: What the strength is made of.
        next: What would happen to it next, in a sentence.
    """

    memory: Memory
    strength: float
    reasons: tuple[Reason, ...]
    next: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a run taught: a title to recognise it by, when it applies, and what to do."""

    title: str
    description: str
    content: str


@dataclass(frozen=True, slots=True)
class Experience:
    """One finished run and what it taught.

    Attributes:
        id: "exp_" and 16 hexadecimal digits.
        task: What was asked, in the user's words.
        agent: Codename of the agent that did it.
        outcome: verified, rated by a person, failed, or unknown where nothing could be checked.
        fitness: 0 to 1, how well it went.
        strategy: How it was done, in a sentence.
        tools: Names of the tools used, in order.
        lesson: What to do again or to avoid, as one text.
        answer: The answer given.
        run_id: The run it comes from.
        tokens: Tokens the run cost.
        seconds: Seconds the run took.
        rating: 0 to 1, what a person said of it; None where nobody did.
        created: When it was stored, UTC.
        steps: What was done, a few words a step.
        reason: Why it failed.
        lessons: What it taught, one by one.
        trace_id: The trace of the run.
        tier: The agent's tier.
        strategy_key: Digest under which runs of the same strategy are counted.
        breakthrough: How far above its neighbourhood's history it was, in robust standard
            deviations; None where it was no breakthrough.
        refuted: Whether later runs took that back.
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
    steps: tuple[str, ...] = ()
    reason: str = ""
    lessons: tuple[Lesson, ...] = ()
    trace_id: str | None = None
    tier: int | None = None
    strategy_key: str | None = None
    breakthrough: float | None = None
    refuted: bool = False

    @property
    def weight(self) -> float:
        """How much this experience pulls its agent towards such tasks; negative pushes away."""
        return experience_weight(self.outcome, self.fitness, self.rating)


def experience_weight(outcome: str, fitness: float, rating: float | None = None) -> float:
    """Weighs an experience for routing, between -0.3 and 1.

    A verified run counts with its fitness. What nobody could check counts for less than a third of
    that. A failure pushes away, gently (at most 0.3 of a success): the next agent may fail on a
    hard task too. A person's rating takes the place of what the run thought of itself.
    """
    if rating is not None:
        return rating if rating >= 0.5 else _FAILURE * (1 - 2 * rating)
    if outcome == "failed":
        return _FAILURE * (1 - fitness)
    return _UNKNOWN * fitness if outcome == "unknown" else fitness


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
        status: running, interrupted, done, failed or cancelled.
        agent: Codename, once it is known.
        model: Model's name, once it is known.
        result: Whatever the run wants to keep, as JSON.
        created: When it was first saved, UTC.
        updated: When it was last saved, UTC.
        owner: The process that is at it.
        seen: When that process last said that it is at it, UTC.
        stopping: Whether it was asked to stop.
    """

    id: str
    task: str
    status: str
    agent: str | None
    model: str | None
    result: dict[str, Any]
    created: datetime
    updated: datetime
    owner: str | None = None
    seen: datetime | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds: counts, where it is, and how it searches now.

    `memories` are the current ones; each is either in its tier or among the archived.
    """

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
    by_tier: dict[str, int] = field(default_factory=dict)
    archived: int = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Thresholds of consolidation for one embedding model.

    Attributes:
        model_id: The embedding model.
        proposes: Cosine from which two texts are looked at.
        merges: Cosine from which they are merged where entities and numbers agree.
        pairs: Labelled pairs it was measured on; 0 means the defaults.
        detail: Precision and recall at both thresholds, and counts.
    """

    model_id: str
    proposes: float
    merges: float
    pairs: int = 0
    detail: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConsolidationReport:
    """What a slice of consolidation did; done says whether it got to the end."""

    looked_at: int
    proposed: int
    merged: int
    contradictions: int
    distilled: int
    done: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """Two memories that are near each other and were not joined.

    Attributes:
        memory: The later one.
        other: The earlier one.
        similarity: Cosine of the two.
        verdict: same, differs or contradicts.
        reasons: Why, in words.
    """

    memory: Memory
    other: Memory
    similarity: float
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did; skipped lines were already there."""

    memories: int
    experiences: int
    skipped: int
    links: int = 0


@dataclass(frozen=True, slots=True)
class ConversationReport:
    """What the import of a transcript did.

    Attributes:
        conversations: Ids, in the file's order.
        turns: Turns that it holds.
        added: Records stored; a long turn is several.
        known: Records that were there already.
        left_out: Messages that nobody said: of systems and tools, and empty ones.
    """

    conversations: tuple[str, ...]
    turns: int
    added: int
    known: int
    left_out: int


@dataclass(frozen=True, slots=True)
class DocumentReport:
    """What the import of a document did.

    Attributes:
        source: Its path or URL.
        title: Of the document; None where it has none.
        passages: Passages that it holds now.
        added: Passages stored that were not there.
        kept: Passages that were there, moved or not.
        replaced: Older passages that new ones took the place of; their history shows them.
        ended: Older passages that are gone from the document; they are no longer valid.
        pages_without_text: Pages of a PDF on which there was nothing to read.
    """

    source: str
    title: str | None
    passages: int
    added: int
    kept: int
    replaced: int
    ended: int
    pages_without_text: int = 0


class RunTaken(InvalidRequest):
    """Another process goes on with the run."""
