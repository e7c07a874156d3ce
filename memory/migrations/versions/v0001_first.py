"""First form: memories, experiences, embeddings, runs; full text by FTS5 where SQLite has it."""

import sqlalchemy as sa
from alembic import op

from ryzanstein.memory.migrations.fts5 import available, drop_full_text, make_full_text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NEVER_REUSED = {"sqlite_autoincrement": True}
_FULL_TEXT = {"memories": ("text",), "experiences": ("task", "lesson")}


def upgrade() -> None:
    """Makes every table, then the full text tables and their triggers on SQLite."""
    _memories()
    _experiences()
    _embeddings()
    _bookkeeping()
    if available():
        for table, columns in _FULL_TEXT.items():
            make_full_text(table, columns)


def downgrade() -> None:
    """Drops everything again."""
    if available():
        for table in _FULL_TEXT:
            drop_full_text(table)
    for table in (
        "embeddings",
        "memory_tags",
        "memories",
        "experiences",
        "removals",
        "revision",
        "runs",
    ):
        op.drop_table(table)


def _memories() -> None:
    op.create_table(
        "memories",
        sa.Column("row", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("identity", sa.String(64), unique=True),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("agent", sa.String(80)),
        sa.Column("source", sa.Text()),
        sa.Column("importance", sa.Float(), nullable=False),
        sa.Column("reinforced", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
        sa.Column("superseded_by", sa.String(40)),
        sa.Column("revision", sa.Integer(), nullable=False),
        **_NEVER_REUSED,
    )
    for column in ("agent", "kind", "revision", "superseded_by"):
        op.create_index(f"ix_memories_{column}", "memories", [column])
    op.create_table(
        "memory_tags",
        sa.Column(
            "memory_row",
            sa.Integer(),
            sa.ForeignKey("memories.row", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("tag", sa.String(80), primary_key=True),
    )
    op.create_index("ix_memory_tags_tag", "memory_tags", ["tag"])


def _experiences() -> None:
    op.create_table(
        "experiences",
        sa.Column("row", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(40), nullable=False, unique=True),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("agent", sa.String(80), nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("fitness", sa.Float(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=False),
        sa.Column("tools", sa.Text(), nullable=False),
        sa.Column("lesson", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("run_id", sa.String(80)),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("rating", sa.Float()),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        **_NEVER_REUSED,
    )
    for column in ("agent", "revision"):
        op.create_index(f"ix_experiences_{column}", "experiences", [column])


def _embeddings() -> None:
    memory = sa.ForeignKey("memories.row", ondelete="CASCADE")
    experience = sa.ForeignKey("experiences.row", ondelete="CASCADE")
    op.create_table(
        "embeddings",
        sa.Column("row", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("memory_row", sa.Integer(), memory),
        sa.Column("experience_row", sa.Integer(), experience),
        sa.Column("model_id", sa.String(120), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(memory_row IS NULL) <> (experience_row IS NULL)", name="ck_embeddings_one_owner"
        ),
        **_NEVER_REUSED,
    )
    for owner in ("memory", "experience"):
        columns = [f"{owner}_row", "model_id"]
        op.create_index(f"ix_embeddings_{owner}", "embeddings", columns, unique=True)
    op.create_index("ix_embeddings_revision", "embeddings", ["revision"])


def _bookkeeping() -> None:
    op.create_table(
        "removals",
        sa.Column("row", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("space", sa.String(20), nullable=False),
        sa.Column("item_row", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        **_NEVER_REUSED,
    )
    op.create_index("ix_removals_revision", "removals", ["revision"])
    table = op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("value", sa.Integer(), nullable=False),
    )
    op.bulk_insert(table, [{"id": 1, "value": 0}])
    op.create_table(
        "runs",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("agent", sa.String(80)),
        sa.Column("model", sa.String(200)),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("updated", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_runs_created", "runs", ["created"])
