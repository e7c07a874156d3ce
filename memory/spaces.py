"""The two searchable spaces, memories and experiences, and how each weighs its own records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, true
from sqlalchemy.orm import InstrumentedAttribute

from ryzanstein.memory.records import Reason, experience_weight
from ryzanstein.memory.schema import EmbeddingRow, ExperienceRow, MemoryRow

__all__ = ["EXPERIENCES", "MEMORIES", "Space"]

_IMPORTANCE = 0.4
_USED = 0.2
_ARCHIVED = -0.3
_RECENCY = 0.2
_RECENT_DAYS = 90.0
_OUTCOME = 0.5


@dataclass(frozen=True)
class Space:
    """What a search must know of a table.

    Attributes:
        name: Value of removals.space.
        table: The mapped table.
        owner: Column of embeddings that points to it.
        embedded: Column whose text is embedded.
        full_text: Its FTS5 table.
        texts: Columns searched by words.
        word_weights: What a match in each of them counts for.
        live: Condition of the rows that may be found.
        has_turns: Whether its records may be turns of a conversation, in time.
        standing_columns: Columns that `standing` reads.
        standing: What a record's own standing adds to its score, from the time and those columns.
        kinds: What each of these numbers is called.
        says: Each of them in words, from the same.
    """

    name: str
    table: type[MemoryRow] | type[ExperienceRow]
    owner: InstrumentedAttribute[int | None]
    embedded: InstrumentedAttribute[str]
    full_text: str
    texts: tuple[InstrumentedAttribute[Any], ...]
    word_weights: tuple[float, ...]
    live: ColumnElement[bool]
    has_turns: bool
    standing_columns: tuple[Any, ...]
    standing: Callable[..., tuple[float, ...]]
    kinds: tuple[str, ...]
    says: Callable[..., tuple[str, ...]]

    def reasons(self, now: datetime, *values: Any) -> tuple[Reason, ...]:
        """Returns what a record's standing adds to its score, in words."""
        said = zip(self.kinds, self.says(now, *values), self.standing(now, *values), strict=True)
        return tuple(Reason(kind, says, weight) for kind, says, weight in said if weight)


def _memory_standing(
    now: datetime,
    importance: float,
    outcome: float,
    archived: bool,
    updated: datetime,
    conversation: str | None,
) -> tuple[float, ...]:
    # A turn's place in time is its conversation's; of facts the newer one is likelier to hold.
    recency = 0.0 if conversation is not None else 2 ** (-_days(now, updated) / _RECENT_DAYS)
    return (
        _IMPORTANCE * (importance - 0.5),
        _USED * outcome,
        _ARCHIVED if archived else 0.0,
        _RECENCY * recency,
    )


def _memory_says(
    now: datetime,
    importance: float,
    outcome: float,
    archived: bool,
    updated: datetime,
    conversation: str | None,
) -> tuple[str, ...]:
    days = int(_days(now, updated))
    return (
        f"importance {importance:.2f}",
        "helped when used" if outcome > 0 else "misled when used",
        "archived",
        f"stored {days} days ago" if days else "stored today",
    )


def _days(now: datetime, then: datetime) -> float:
    return max((now - then).total_seconds() / 86_400, 0.0)


def _experience_standing(
    now: datetime, outcome: str, fitness: float, rating: float | None
) -> tuple[float, ...]:
    return (_OUTCOME * experience_weight(outcome, fitness, rating),)


def _experience_says(
    now: datetime, outcome: str, fitness: float, rating: float | None
) -> tuple[str, ...]:
    rated = "" if rating is None else f", rated {rating:.2f}"
    return (f"{outcome}, fitness {fitness:.2f}{rated}",)


MEMORIES = Space(
    name="memory",
    table=MemoryRow,
    owner=EmbeddingRow.memory_row,
    embedded=MemoryRow.text,
    full_text="memories_fts",
    texts=(MemoryRow.text, MemoryRow.context),
    word_weights=(1.0, 0.8),
    live=MemoryRow.superseded_by.is_(None),
    has_turns=True,
    standing_columns=(
        MemoryRow.importance,
        MemoryRow.outcome,
        MemoryRow.archived.is_not(None).label("is_archived"),
        MemoryRow.updated,
        MemoryRow.conversation,
    ),
    standing=_memory_standing,
    kinds=("importance", "outcome", "archived", "recency"),
    says=_memory_says,
)

EXPERIENCES = Space(
    name="experience",
    table=ExperienceRow,
    owner=EmbeddingRow.experience_row,
    embedded=ExperienceRow.task,
    full_text="experiences_fts",
    texts=(ExperienceRow.task, ExperienceRow.lesson),
    word_weights=(1.0, 0.5),
    live=true(),
    has_turns=False,
    standing_columns=(ExperienceRow.outcome, ExperienceRow.fitness, ExperienceRow.rating),
    standing=_experience_standing,
    kinds=("outcome",),
    says=_experience_says,
)
