"""What links say of memories that were found: that they contradict another, or replaced one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, exists, or_, select, union_all
from sqlalchemy.orm import aliased

from ryzanstein.memory.database import Database
from ryzanstein.memory.records import CONTRADICTS, MERGED_FROM, Link, Reason
from ryzanstein.memory.rows import load_one, load_rows
from ryzanstein.memory.schema import MemoryLinkRow, MemoryRow

__all__ = ["HAS_LINKS", "link_reasons", "links_of", "merged_into"]

# Made once: putting a statement together takes as long as running it.
_ROWS: BindParameter[Any] = bindparam("rows", expanding=True)
_OTHER = aliased(MemoryRow)
_REPLACED = (
    select(MemoryRow.row, _OTHER.id)
    .join(_OTHER, _OTHER.superseded_by == MemoryRow.id)
    .where(MemoryRow.row.in_(_ROWS))
    .order_by(_OTHER.row)
)
_LINK = MemoryLinkRow
_CONTRADICTING = union_all(
    *(
        select(mine.label("row"), _OTHER.id)
        .join(_OTHER, _OTHER.row == theirs)
        .where(mine.in_(_ROWS), _LINK.kind == CONTRADICTS, _OTHER.superseded_by.is_(None))
        for mine, theirs in ((_LINK.from_row, _LINK.to_row), (_LINK.to_row, _LINK.from_row))
    )
)


# Whether there is anything to be said of a memory, beside its other columns.
HAS_LINKS = or_(
    exists().where(
        or_(_LINK.from_row == MemoryRow.row, _LINK.to_row == MemoryRow.row),
        _LINK.kind == CONTRADICTS,
    ),
    exists().where(_OTHER.superseded_by == MemoryRow.id),
).label("linked")


def links_of(database: Database, id: str) -> list[Link]:
    """Returns what a memory was made from, what was made of it, and what says otherwise.

    Raises:
        InvalidRequest: No memory has that id.
    """
    with database.read() as connection:
        row, _ = load_one(connection, id)
        ends = ((_LINK.from_row, _LINK.to_row), (_LINK.to_row, _LINK.from_row))
        found = [
            (one.kind, one.row, one.score, one.created)
            for mine, theirs in ends
            for one in connection.execute(
                select(theirs.label("row"), _LINK.kind, _LINK.score, _LINK.created)
                .where(mine == row)
                .order_by(_LINK.created, theirs)
            )
        ]
        memories = load_rows(connection, [one[1] for one in found])
    return [Link(kind, memories[other], score, created) for kind, other, score, created in found]


def merged_into(connection: Connection, row: int) -> str | None:
    """Returns the id of the memory that a source was merged into and that stands for it."""
    query = (
        select(_OTHER.id)
        .join(_LINK, _LINK.from_row == _OTHER.row)
        .join(MemoryRow, MemoryRow.row == _LINK.to_row)
        .where(
            MemoryRow.row == row, _LINK.kind == MERGED_FROM, MemoryRow.superseded_by == _OTHER.id
        )
    )
    return connection.execute(query).scalar_one_or_none()


def link_reasons(connection: Connection, rows: Sequence[int]) -> dict[int, list[Reason]]:
    """Returns what is to be said beside each memory; it weighs nothing."""
    said: dict[int, list[Reason]] = {}
    for statement, kind, says in (
        (_CONTRADICTING, "contradiction", "contradicts"),
        (_REPLACED, "correction", "took the place of"),
    ):
        for row, other in connection.execute(statement, {"rows": list(rows)}):
            said.setdefault(row, []).append(Reason(kind, f"{says} {other}", 0.0))
    return said
