"""What links say of memories that were found: that they contradict another, or replaced one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select, union_all
from sqlalchemy.orm import aliased

from ryzanstein.memory.records import Reason
from ryzanstein.memory.schema import MemoryLinkRow, MemoryRow

__all__ = ["link_reasons"]

# Made once: putting a statement together takes as long as running it.
_ROWS = bindparam("rows", expanding=True)
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
        .where(mine.in_(_ROWS), _LINK.kind == "contradicts", _OTHER.superseded_by.is_(None))
        for mine, theirs in ((_LINK.from_row, _LINK.to_row), (_LINK.to_row, _LINK.from_row))
    )
)


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
