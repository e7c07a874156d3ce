"""Tables of the store, typed; migrations/ brings a database to this form.

memories ──< memory_tags            text, kind, agent, importance, correction chain
   └──────< embeddings >── experiences      float32 blobs, one per item and model
removals    rows that left the search, so that other processes' indexes drop them
revision    one row, one number: every writing transaction starts by raising it
runs        state of orchestrator runs

Raising the revision first makes writers take turns on every database, so revisions appear in the
order of their commits and an index that has seen revision n needs only what is later than n.
Row numbers are never used twice. On SQLite the migrations add two FTS5 tables fed by triggers.
"""

from __future__ import annotations

from datetime import UTC, datetime

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
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "Base",
    "EmbeddingRow",
    "ExperienceRow",
    "MemoryRow",
    "MemoryTagRow",
    "RemovalRow",
    "RevisionRow",
    "RunRow",
    "UtcDateTime",
]

_NEVER_REUSED = {"sqlite_autoincrement": True}


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
    """One version of a memory; `identity` is unique among current ones and NULL once superseded."""

    __tablename__ = "memories"
    __table_args__ = (
        Index("ix_memories_agent", "agent"),
        Index("ix_memories_kind", "kind"),
        Index("ix_memories_revision", "revision"),
        Index("ix_memories_superseded_by", "superseded_by"),
        _NEVER_REUSED,
    )

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40), unique=True)
    text: Mapped[str] = mapped_column(Text)
    identity: Mapped[str | None] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(40))
    agent: Mapped[str | None] = mapped_column(String(80))
    source: Mapped[str | None] = mapped_column(Text)
    importance: Mapped[float] = mapped_column(Float)
    reinforced: Mapped[int] = mapped_column(default=0)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    updated: Mapped[datetime] = mapped_column(UtcDateTime)
    superseded_by: Mapped[str | None] = mapped_column(String(40))
    revision: Mapped[int]


class MemoryTagRow(Base):
    """One tag of one memory."""

    __tablename__ = "memory_tags"
    __table_args__ = (Index("ix_memory_tags_tag", "tag"),)

    memory_row: Mapped[int] = mapped_column(
        ForeignKey("memories.row", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    tag: Mapped[str] = mapped_column(String(80), primary_key=True)


class ExperienceRow(Base):
    """One finished run and what it taught; `tools` is a JSON list."""

    __tablename__ = "experiences"
    __table_args__ = (
        Index("ix_experiences_agent", "agent"),
        Index("ix_experiences_revision", "revision"),
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
    lesson: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
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
    vector: Mapped[bytes] = mapped_column(LargeBinary)
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


class RunRow(Base):
    """State of one run; `result` is a JSON object."""

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
