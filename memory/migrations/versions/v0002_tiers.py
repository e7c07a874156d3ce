"""Second form: tiers and standing of memories, conversations, links, a journal; richer experiences.

What the first form held becomes long-term memory. Its outcomes get the new words: success is
verified, failure is failed, unverified is unknown, or rated where a person had rated it.
"""

import math
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic import op

from ryzanstein.memory.migrations import fts5, pgvector
from ryzanstein.memory.postgres import PgVector

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_HALF_LIFE = 90 * 86_400.0  # of long-term memory, in seconds
_NEVER_REUSED = {"sqlite_autoincrement": True}
_INDEXES = {
    "memories": {
        "tier": ["tier", "row"],
        "retention": ["tier", "retention"],
        "archived": ["row"],
        "conversation": ["conversation", "turn"],
        "source": ["source"],
        "task": ["task"],
    },
    "experiences": {"strategy_key": ["strategy_key"], "breakthrough": ["breakthrough"]},
}
_PARTIAL = {"archived": "archived IS NOT NULL"}
_WORDS = {"memories": {"text": "A", "context": "B"}, "experiences": {"task": "A", "lesson": "B"}}
_OUTCOMES = {"success": "verified", "failure": "failed", "unverified": "unknown"}


def upgrade() -> None:
    """Adds columns and tables, then indexes the words of both text and context."""
    for table, columns in _new_columns().items():
        for column in columns:
            op.add_column(table, column)
        for name, indexed in _INDEXES[table].items():
            _index(table, name, indexed, _PARTIAL.get(name))
    op.drop_index("ix_memories_superseded_by", "memories")
    _index("memories", "superseded_by", ["superseded_by"], "superseded_by IS NOT NULL")
    _retentions()
    _outcomes(_OUTCOMES)
    op.execute(
        "UPDATE experiences SET outcome = 'rated' WHERE outcome = 'unknown' AND rating IS NOT NULL"
    )
    _relations()
    _bookkeeping()
    if fts5.available():
        fts5.drop_full_text("memories")
        fts5.make_full_text("memories", ("text", "context"))
    if pgvector.available():
        pgvector.make_words()
        for table, texts in _WORDS.items():
            pgvector.make_full_text(table, texts)
        pgvector.vectors_to(PgVector)


def downgrade() -> None:
    """Goes back to the first form; tiers, links, journal and lessons are lost."""
    if fts5.available():
        fts5.drop_full_text("memories")
    if pgvector.available():
        pgvector.vectors_to(sa.LargeBinary)
        for table in _WORDS:
            pgvector.drop_full_text(table)
        pgvector.drop_words()
    for table in ("sketches", "cursors", "calibrations", "journal", "memory_links"):
        op.drop_table(table)
    _outcomes({new: old for old, new in _OUTCOMES.items()} | {"rated": "unverified"})
    op.drop_index("ix_memories_superseded_by", "memories")
    _index("memories", "superseded_by", ["superseded_by"])
    for table, columns in _new_columns().items():
        for name in _INDEXES[table]:
            op.drop_index(f"ix_{table}_{name}", table)
        for column in columns:
            op.drop_column(table, column.name)
    if fts5.available():
        fts5.make_full_text("memories", ("text",))


def _index(table: str, name: str, columns: list[str], where: str | None = None) -> None:
    partial = None if where is None else sa.text(where)
    op.create_index(
        f"ix_{table}_{name}", table, columns, sqlite_where=partial, postgresql_where=partial
    )


def _new_columns() -> dict[str, list[sa.Column[Any]]]:
    def text(name: str, length: int | None = None) -> sa.Column[Any]:
        return sa.Column(name, sa.String(length) if length else sa.Text())

    def filled(name: str, kind: sa.types.TypeEngine[Any], value: str) -> sa.Column[Any]:
        return sa.Column(name, kind, nullable=False, server_default=value)

    moments = ("last_used", "happened", "valid_from", "valid_until", "archived")
    return {
        "memories": [
            filled("tier", sa.String(12), "long_term"),
            text("place"),
            text("speaker", 120),
            text("context"),
            text("conversation", 80),
            text("session", 80),
            sa.Column("turn", sa.Integer()),
            text("task", 80),
            sa.Column("mark", sa.Float()),
            filled("novelty", sa.Float(), "0.5"),
            filled("outcome", sa.Float(), "0"),
            filled("uses", sa.Integer(), "0"),
            *(sa.Column(name, sa.DateTime()) for name in moments),
            sa.Column("retention", sa.Float()),
        ],
        "experiences": [
            filled("steps", sa.Text(), "[]"),
            filled("reason", sa.Text(), ""),
            filled("lessons", sa.Text(), "[]"),
            text("trace_id", 80),
            sa.Column("tier", sa.Integer()),
            text("strategy_key", 64),
            sa.Column("breakthrough", sa.Float()),
            sa.Column("refuted", sa.Boolean(), nullable=False, server_default=sa.false()),
        ],
    }


def _retentions() -> None:
    """Takes an importance that is not the default for a mark; orders all by strength."""
    op.execute("UPDATE memories SET mark = importance WHERE importance <> 0.5")
    table = sa.table(
        "memories",
        *(sa.column(name) for name in ("row", "importance", "superseded_by", "retention")),
        sa.column("updated", sa.DateTime()),
    )
    query = sa.select(table.c.row, table.c.importance, table.c.updated).where(
        table.c.superseded_by.is_(None), table.c.importance < 1
    )
    bind = op.get_bind()
    change = (
        sa.update(table)
        .where(table.c.row == sa.bindparam("at"))
        .values(retention=sa.bindparam("value"))
    )
    values = [
        {
            "at": row,
            "value": math.log2(max(importance, 2.0**-20))
            + updated.replace(tzinfo=UTC).timestamp() / _HALF_LIFE,
        }
        for row, importance, updated in bind.execute(query)
    ]
    if values:
        bind.execute(change, values)


def _outcomes(words: dict[str, str]) -> None:
    table = sa.table("experiences", sa.column("outcome"))
    for old, new in words.items():
        op.execute(sa.update(table).where(table.c.outcome == old).values(outcome=new))


def _memory_row(name: str, **options: Any) -> sa.Column[Any]:
    owner = sa.ForeignKey("memories.row", ondelete="CASCADE")
    return sa.Column(name, sa.Integer(), owner, nullable=False, **options)


def _relations() -> None:
    op.create_table(
        "memory_links",
        _memory_row("from_row", primary_key=True, autoincrement=False),
        _memory_row("to_row", primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_memory_links_to", "memory_links", ["to_row"])
    op.create_table(
        "journal",
        sa.Column("row", sa.Integer(), primary_key=True, autoincrement=True),
        _memory_row("memory_row"),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        **_NEVER_REUSED,
    )
    op.create_index("ix_journal_memory", "journal", ["memory_row"])


def _bookkeeping() -> None:
    op.create_table(
        "calibrations",
        sa.Column("model_id", sa.String(120), primary_key=True),
        sa.Column("proposes", sa.Float(), nullable=False),
        sa.Column("merges", sa.Float(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(120), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "sketches",
        sa.Column("name", sa.String(120), primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
