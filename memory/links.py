"""What links say of memories that were found: that they contradict another, or replaced one."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, or_, select
from sqlalchemy.orm import aliased

from ryzanstein.memory.records import Reason
from ryzanstein.memory.schema import MemoryLinkRow, MemoryRow

__all__ = ["link_reasons"]


def link_reasons(connection: Connection, rows: Sequence[int]) -> dict[int, list[Reason]]:
    """Returns what is to be said beside each memory; it weighs nothing."""
    said: dict[int, list[Reason]] = {}
    for row, other in _contradicted(connection, rows):
        said.setdefault(row, []).append(Reason("contradiction", f"contradicts {other}", 0.0))
    old = aliased(MemoryRow)
    replaced = (
        select(MemoryRow.row, old.id)
        .join(old, old.superseded_by == MemoryRow.id)
        .where(MemoryRow.row.in_(rows))
        .order_by(old.row)
    )
    for row, other in connection.execute(replaced):
        said.setdefault(row, []).append(Reason("correction", f"took the place of {other}", 0.0))
    return said


def _contradicted(connection: Connection, rows: Sequence[int]) -> list[tuple[int, str]]:
    """Pairs of a row and the id of a current memory that says otherwise."""
    link = MemoryLinkRow
    found = connection.execute(
        select(link.from_row, link.to_row).where(
            link.kind == "contradicts", or_(link.from_row.in_(rows), link.to_row.in_(rows))
        )
    ).all()
    if not found:
        return []
    asked = set(rows)
    pairs = {
        (mine, other)
        for one in found
        for mine, other in ((one.from_row, one.to_row), (one.to_row, one.from_row))
        if mine in asked
    }
    current = select(MemoryRow.row, MemoryRow.id).where(
        MemoryRow.row.in_({other for _, other in pairs}), MemoryRow.superseded_by.is_(None)
    )
    ids = {one.row: one.id for one in connection.execute(current)}
    return sorted((mine, ids[other]) for mine, other in pairs if other in ids)
