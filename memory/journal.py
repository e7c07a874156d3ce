"""What happened to a memory, and why: one line for every move, kept as long as the memory.

    stored       when it came, into which tier, how new it was
    promoted     to a tier where it stays longer         demoted      back to prove itself
    archived     out of a full tier                      restored     back, since it was used
    marked       somebody said how much it matters       corrected    it replaced another
    superseded   another replaced it                     merged       into one, or from others
    unmerged     taken apart again                       distilled    from episodes, or into a fact
    contradicted another says otherwise

An entry holds ids, tiers and numbers, never the text of a memory: what is forgotten is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, select

from ryzanstein.memory.records import JournalEntry
from ryzanstein.memory.schema import JournalRow

__all__ = ["read", "write", "write_each"]

_INSERT = insert(JournalRow)


def write(
    connection: Connection, rows: Sequence[int], action: str, detail: str, at: datetime
) -> None:
    """Notes the same of several memories."""
    write_each(connection, ((row, action, detail) for row in rows), at)


def write_each(
    connection: Connection, entries: Iterable[tuple[int, str, str]], at: datetime
) -> None:
    """Notes (row, action, detail) of each memory."""
    values = [
        {"memory_row": row, "at": at, "action": action, "detail": detail}
        for row, action, detail in entries
    ]
    if values:
        connection.execute(_INSERT, values)


def read(connection: Connection, row: int) -> list[JournalEntry]:
    """Returns what happened to a memory, oldest first."""
    query = (
        select(JournalRow.at, JournalRow.action, JournalRow.detail)
        .where(JournalRow.memory_row == row)
        .order_by(JournalRow.row)
    )
    return [JournalEntry(*entry) for entry in connection.execute(query)]
