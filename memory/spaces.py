"""The two searchable spaces, memories and experiences, and how each weighs its own records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, true
from sqlalchemy.orm import InstrumentedAttribute

from ryzanstein.memory.records import Reason, experience_weight
from ryzanstein.memory.schema import EmbeddingRow, ExperienceRow, MemoryRow

__all__ = ["EXPERIENCES", "MEMORIES", "Space"]

_IMPORTANCE = 0.4
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
        live: Condition of the rows that may be found.
        prior_columns: Columns that `prior` reads.
        prior: What a record's own standing adds to its score.
    """

    name: str
    table: type[MemoryRow] | type[ExperienceRow]
    owner: InstrumentedAttribute[int | None]
    embedded: InstrumentedAttribute[str]
    full_text: str
    texts: tuple[InstrumentedAttribute[str], ...]
    live: ColumnElement[bool]
    prior_columns: tuple[InstrumentedAttribute[Any], ...]
    prior: Callable[..., Reason]


def _memory_prior(importance: float) -> Reason:
    weight = _IMPORTANCE * (importance - 0.5)
    return Reason("importance", f"importance {importance:.2f}", weight)


def _experience_prior(outcome: str, fitness: float, rating: float | None) -> Reason:
    rated = "" if rating is None else f", rated {rating:.2f}"
    weight = _OUTCOME * experience_weight(outcome, fitness, rating)
    return Reason("outcome", f"{outcome}, fitness {fitness:.2f}{rated}", weight)


MEMORIES = Space(
    name="memory",
    table=MemoryRow,
    owner=EmbeddingRow.memory_row,
    embedded=MemoryRow.text,
    full_text="memories_fts",
    texts=(MemoryRow.text,),
    live=MemoryRow.superseded_by.is_(None),
    prior_columns=(MemoryRow.importance,),
    prior=_memory_prior,
)

EXPERIENCES = Space(
    name="experience",
    table=ExperienceRow,
    owner=EmbeddingRow.experience_row,
    embedded=ExperienceRow.task,
    full_text="experiences_fts",
    texts=(ExperienceRow.task, ExperienceRow.lesson),
    live=true(),
    prior_columns=(ExperienceRow.outcome, ExperienceRow.fitness, ExperienceRow.rating),
    prior=_experience_prior,
)
