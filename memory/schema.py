"""Tables of the store, typed; migrations/ brings a database to this form.

memories ──< memory_tags            text, tier, standing, where and when from, correction chain
   ├──────< memory_links >── memories       what was merged, distilled, contradicts
   ├──────< journal                         what happened to a record and why
   └──────< embeddings >── experiences      float32 blobs, one per item and model
removals      rows that left the search, so that other processes' indexes drop them
revision      one row, one number: every writing transaction starts by raising it
calibrations  thresholds of consolidation, by embedding model
cursors       where a job that can be resumed has got to
sketches      bounded summaries (filters, counters); SQL can always make them again
runs          state of orchestrator runs

Raising the revision first makes writers take turns on every database, so revisions appear in the
order of their commits and an index that has seen revision n needs only what is later than n.
Row numbers are never used twice. On SQLite the migrations add two FTS5 tables fed by triggers.
Lists and objects are kept as JSON text, which every database has.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ryzanstein.memory.postgres import PgVector

__all__ = [
    "Base",
    "CalibrationRow",
    "CursorRow",
    "EmbeddingRow",
    "ExperienceRow",
    "JournalRow",
    "MemoryLinkRow",
    "MemoryRow",
    "MemoryTagRow",
    "RemovalRow",
    "RevisionRow",
    "RunRow",
    "SketchRow",
    "UtcDateTime",
]

_NEVER_REUSED = {"sqlite_autoincrement": True}
_VECTOR = LargeBinary().with_variant(PgVector(), "postgresql")


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in, aware UTC datetimes out; stored without a zone, which SQLite lacks."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turns an aware datetime into a naive one in UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Gives the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Holds the metadata of every table."""


class MemoryRow(Base):
    """One version of a memory; `identity` is unique among current ones and NULL once superseded.

    `retention` orders the memories of a tier by strength at any time (policies.retention); it is
    NULL for those that no policy moves.
    """

    __tablename__ = "memories"
    __table_args__ = (
        Index("ix_memories_agent", "agent"),
        Index("ix_memories_kind", "kind"),
        Index("ix_memories_revision", "revision"),
        # Where nearly all rows hold NULL, SQLite takes IS NULL for a narrow condition: so a partial
        # index, which says nothing of them.
        Index("ix_memories_superseded_by", "superseded_by", **_where("superseded_by IS NOT NULL")),
        Index("ix_memories_tier", "tier", "row"),
        Index("ix_memories_retention", "tier", "retention"),
        Index("ix_memories_archived", "row", **_where("archived IS NOT NULL")),
        Index("ix_memories_conversation", "conversation", "turn"),
        Index("ix_memories_source", "source"),
        Index("ix_memories_task", "task"),
        _NEVER_REUSED,
    )

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    text: Mapped[str] = mapped_column(Text)
    identity: Mapped[str | None] = mapped_column(String(64), unique=True)
    tier: Mapped[str] = mapped_column(String(12))
    kind: Mapped[str] = mapped_column(String(40))
    agent: Mapped[str | None] = mapped_column(String(80))
    source: Mapped[str | None] = mapped_column(Text)
    place: Mapped[str | None] = mapped_column(Text)
    speaker: Mapped[str | None] = mapped_column(String(120))
    context: Mapped[str | None] = mapped_column(Text)
    conversation: Mapped[str | None] = mapped_column(String(80))
    session: Mapped[str | None] = mapped_column(String(80))
    turn: Mapped[int | None]
    task: Mapped[str | None] = mapped_column(String(80))
    importance: Mapped[float] = mapped_column(Float)
    mark: Mapped[float | None] = mapped_column(Float)
    novelty: Mapped[float] = mapped_column(Float)
    outcome: Mapped[float] = mapped_column(Float)
    uses: Mapped[int]
    reinforced: Mapped[int]
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used: Mapped[datetime | None] = mapped_column(UtcDateTime)
    happened: Mapped[datetime | None] = mapped_column(UtcDateTime)
    valid_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    valid_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    superseded_by: Mapped[str | None] = mapped_column(String(40))
    archived: Mapped[datetime | None] = mapped_column(UtcDateTime)
    retention: Mapped[float | None] = mapped_column(Float)
    revision: Mapped[int]


class MemoryTagRow(Base):
    """One tag of one memory."""

    __tablename__ = "memory_tags"
    __table_args__ = (Index("ix_memory_tags_tag", "tag"),)

    memory_row: Mapped[int] = mapped_column(
        ForeignKey("memories.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    tag: Mapped[str] = mapped_column(String(80), primary_key=True)


class MemoryLinkRow(Base):
    """One memory made from, or at odds with, another: from the newer or merged one to the other."""

    __tablename__ = "memory_links"
    __table_args__ = (Index("ix_memory_links_to", "to_row"),)

    from_row: Mapped[int] = mapped_column(
        ForeignKey("memories.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    to_row: Mapped[int] = mapped_column(
        ForeignKey("memories.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    score: Mapped[float] = mapped_column(Float)
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class JournalRow(Base):
    """One thing that happened to a memory, and why."""

    __tablename__ = "journal"
    __table_args__ = (Index("ix_journal_memory", "memory_row"), _NEVER_REUSED)

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    memory_row: Mapped[int] = mapped_column(ForeignKey("memories.row", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    action: Mapped[str] = mapped_column(String(20))
    detail: Mapped[str] = mapped_column(Text)


class ExperienceRow(Base):
    """One finished run and what it taught; `tools`, `steps` and `lessons` are JSON lists."""

    __tablename__ = "experiences"
    __table_args__ = (
        Index("ix_experiences_agent", "agent"),
        Index("ix_experiences_revision", "revision"),
        Index("ix_experiences_strategy_key", "strategy_key"),
        Index("ix_experiences_run_id", "run_id"),
        Index("ix_experiences_breakthrough", "breakthrough"),
        _NEVER_REUSED,
    )

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    task: Mapped[str] = mapped_column(Text)
    agent: Mapped[str] = mapped_column(String(80))
    outcome: Mapped[str] = mapped_column(String(20))
    fitness: Mapped[float] = mapped_column(Float)
    strategy: Mapped[str] = mapped_column(Text)
    tools: Mapped[str] = mapped_column(Text)
    steps: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    lesson: Mapped[str] = mapped_column(Text)
    lessons: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
    trace_id: Mapped[str | None] = mapped_column(String(80))
    tier: Mapped[int | None]
    strategy_key: Mapped[str | None] = mapped_column(String(64))
    breakthrough: Mapped[float | None] = mapped_column(Float)
    refuted: Mapped[bool] = mapped_column(default=False)
    run_id: Mapped[str | None] = mapped_column(String(80))
    tokens: Mapped[int]
    seconds: Mapped[float] = mapped_column(Float)
    rating: Mapped[float | None] = mapped_column(Float)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    revision: Mapped[int]


class EmbeddingRow(Base):
    """A vector of a memory or of an experience: `dimension` float32, little-endian, unit length."""

    __tablename__ = "embeddings"
    __table_args__ = (
        CheckConstraint(
            "(memory_row IS NULL) <> (experience_row IS NULL)", name="ck_embeddings_one_owner"
        ),
        Index("ix_embeddings_memory", "memory_row", "model_id", unique=True),
        Index("ix_embeddings_experience", "experience_row", "model_id", unique=True),
        Index("ix_embeddings_revision", "revision"),
        _NEVER_REUSED,
    )

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    memory_row: Mapped[int | None] = mapped_column(ForeignKey("memories.row", ondelete="CASCADE"))
    experience_row: Mapped[int | None] = mapped_column(
        ForeignKey("experiences.row", ondelete="CASCADE")
    )
    model_id: Mapped[str] = mapped_column(String(120))
    dimension: Mapped[int]
    vector: Mapped[bytes] = mapped_column(_VECTOR)
    revision: Mapped[int]


class RemovalRow(Base):
    """An item that left the search at a revision; `space` is memory or experience."""

    __tablename__ = "removals"
    __table_args__ = (Index("ix_removals_revision", "revision"), _NEVER_REUSED)

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    space: Mapped[str] = mapped_column(String(20))
    item_row: Mapped[int]
    revision: Mapped[int]


class RevisionRow(Base):
    """The one number every writing transaction raises first."""

    __tablename__ = "revision"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int]


class CalibrationRow(Base):
    """Thresholds of an embedding model; `detail` is a JSON object of how they were measured."""

    __tablename__ = "calibrations"

    model_id: Mapped[str] = mapped_column(String(120), primary_key=True)
    proposes: Mapped[float] = mapped_column(Float)
    merges: Mapped[float] = mapped_column(Float)
    pairs: Mapped[int]
    detail: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class CursorRow(Base):
    """Where a job has got to; `value` is JSON."""

    __tablename__ = "cursors"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)


class SketchRow(Base):
    """One sketch, as of a revision."""

    __tablename__ = "sketches"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    revision: Mapped[int]


class RunRow(Base):
    """State of one run; `result` and `checkpoint` are JSON objects.

    `owner` is the process that is at it and `seen` when that last said so; `stopping` asks it to
    stop, from whatever process.
    """

    __tablename__ = "runs"
    __table_args__ = (Index("ix_runs_created", "created"),)

    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    task: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(20))
    agent: Mapped[str | None] = mapped_column(String(80))
    model: Mapped[str | None] = mapped_column(String(200))
    result: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)
    checkpoint: Mapped[str | None] = mapped_column(Text)
    owner: Mapped[str | None] = mapped_column(String(200))
    seen: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stopping: Mapped[bool] = mapped_column(default=False)
