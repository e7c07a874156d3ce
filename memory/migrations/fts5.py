"""Full text tables of SQLite and the triggers that keep them in step, for migrations to call."""

from __future__ import annotations

from collections.abc import Sequence

from alembic import op

__all__ = ["available", "drop_full_text", "make_full_text"]

_EVENTS = ("insert", "delete", "update")


def available() -> bool:
    """Says whether this database is an SQLite that was built with FTS5."""
    bind = op.get_bind()
    if bind.dialect.name != "sqlite":
        return False
    return "ENABLE_FTS5" in bind.exec_driver_sql("PRAGMA compile_options").scalars().all()


def make_full_text(table: str, columns: Sequence[str]) -> None:
    """Indexes the words of a table's columns, those of rows that are there already too.

    An external-content table keeps no second copy of the text; the triggers keep it in step inside
    the writer's own transaction, whoever the writer is.
    """
    names = ", ".join(columns)
    new = ", ".join(f"new.{column}" for column in columns)
    old = ", ".join(f"old.{column}" for column in columns)
    add = f"INSERT INTO {table}_fts(rowid, {names}) VALUES (new.row, {new});"
    drop = f"INSERT INTO {table}_fts({table}_fts, rowid, {names}) VALUES('delete', old.row, {old});"
    op.execute(
        f"CREATE VIRTUAL TABLE {table}_fts USING fts5({names}, content='{table}', "
        "content_rowid='row', tokenize='porter unicode61 remove_diacritics 2')"
    )
    op.execute(f"CREATE TRIGGER {table}_fts_insert AFTER INSERT ON {table} BEGIN {add} END")
    op.execute(f"CREATE TRIGGER {table}_fts_delete AFTER DELETE ON {table} BEGIN {drop} END")
    op.execute(
        f"CREATE TRIGGER {table}_fts_update AFTER UPDATE OF {names} ON {table} "
        f"BEGIN {drop} {add} END"
    )
    op.execute(f"INSERT INTO {table}_fts({table}_fts) VALUES('rebuild')")


def drop_full_text(table: str) -> None:
    """Removes a full text table and its triggers, where they are."""
    for event in _EVENTS:
        op.execute(f"DROP TRIGGER IF EXISTS {table}_fts_{event}")
    op.execute(f"DROP TABLE IF EXISTS {table}_fts")
