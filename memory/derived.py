"""Deleting memories together with what the store made of them alone.

A fact that was distilled repeats a sentence of its episodes, and a merged memory the text of one of
its sources. Once the last of them is forgotten, it goes too, with its older versions:

    episode ─┐                              all forgotten
    episode ─┴─> distilled ─┬─> merged      distilled goes; merged goes unless the other stays
                 another ───┘

What somebody remembered by itself stays: its journal says when it was stored. So does what somebody
put in the place of such a record.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, exists, select

from ryzanstein.memory.records import DISTILLED_FROM, MERGED_FROM
from ryzanstein.memory.rows import batches, remove_rows, versions
from ryzanstein.memory.schema import JournalRow, MemoryLinkRow, MemoryRow

__all__ = ["is_derived", "remove_derived_too"]

_LINK = MemoryLinkRow
_SOURCES = {DISTILLED_FROM: "distilled", MERGED_FROM: "merged"}


def is_derived(connection: Connection, row: int) -> bool:
    """Says whether a memory is there only because the store made it of others."""
    made = exists().where(_LINK.from_row == row, _LINK.kind.in_(_SOURCES))
    return bool(connection.execute(select(and_(made, _made(row)))).scalar())


def remove_derived_too(connection: Connection, rows: Sequence[int], revision: int) -> list[int]:
    """Deletes rows, and what was made of nothing else.

    Returns:
        All rows that were deleted.
    """
    removed: list[int] = []
    going = list(dict.fromkeys(rows))
    while going:
        made = _made_of(connection, going)
        remove_rows(connection, going, revision)
        removed += going
        left = [id for row, id in made.items() if row not in removed and _alone(connection, row)]
        going = list(dict.fromkeys(row for id in left for row in versions(connection, id)))
    return removed


def _made_of(connection: Connection, rows: Sequence[int]) -> dict[int, str]:
    """Returns the ids of what was made of these rows, by row."""
    found: dict[int, str] = {}
    for part in batches(rows):
        query = (
            select(MemoryRow.row, MemoryRow.id)
            .join(_LINK, _LINK.from_row == MemoryRow.row)
            .where(_LINK.to_row.in_(part), _LINK.kind.in_(_SOURCES))
        )
        found.update((row, id) for row, id in connection.execute(query))
    return found


def _alone(connection: Connection, row: int) -> bool:
    """Says whether nothing is left that a memory was made of, and nobody has said it since."""
    left = exists().where(_LINK.from_row == row, _LINK.kind.in_(_SOURCES))
    return bool(connection.execute(select(and_(~left, _made(row)))).scalar())


def _made(row: int) -> ColumnElement[bool]:
    entries = JournalRow.memory_row == row
    made = exists().where(entries, JournalRow.action.in_(_SOURCES.values()))
    return and_(made, ~exists().where(entries, JournalRow.action == "stored"))
