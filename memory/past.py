"""What held at a moment of the past: versions that were replaced since.

A version that was replaced has no vector any more. Its words find it, and so does its successor,
which is mostly about the same and has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Row, select, true
from sqlalchemy.orm import aliased

from ryzanstein.memory.records import Reason
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.spaces import MEMORIES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder

__all__ = ["VERSIONS", "VERSION_COLUMNS", "older_versions", "replaced_reasons", "set_cosines"]

# Memories with all their versions.
VERSIONS = replace(MEMORIES, live=true())
VERSION_COLUMNS: tuple[Any, ...] = (MemoryRow.superseded_by, MemoryRow.text)


def older_versions(
    connection: Connection,
    rows: Sequence[int],
    conditions: ColumnElement[bool],
    most: int,
) -> list[int]:
    """Returns what these rows replaced, directly or not, and meets the conditions.

    The versions of the first row come first.
    """
    first = select(MemoryRow.row, MemoryRow.id, MemoryRow.row.label("first"))
    chain = first.where(MemoryRow.row.in_(rows)).cte("chain", recursive=True)
    older = aliased(MemoryRow)
    replaced = select(older.row, older.id, chain.c.first)
    chain = chain.union(replaced.join_from(chain, older, older.superseded_by == chain.c.id))
    query = (
        select(MemoryRow.row, chain.c.first)
        .join_from(chain, MemoryRow, MemoryRow.row == chain.c.row)
        .where(MemoryRow.superseded_by.is_not(None), conditions)
    )
    rank = {row: at for at, row in enumerate(rows)}
    found = sorted(connection.execute(query), key=lambda one: (rank[one.first], -one.row))
    return list(dict.fromkeys(one.row for one in found))[:most]


def set_cosines(
    embedder: Embedder,
    vector: NDArray[np.float32],
    known: Sequence[Row[Any]],
    cosines: NDArray[np.float64],
) -> None:
    """Fills in the cosines [n] of replaced versions among n rows, which the index has not."""
    places = [at for at, one in enumerate(known) if one.superseded_by is not None]
    if places:
        cosines[places] = embedder.embed([known[at].text for at in places]) @ vector


def replaced_reasons(one: Row[Any]) -> tuple[Reason, ...]:
    """Says what a version was replaced by, if it was; it weighs nothing."""
    by = one.superseded_by
    return () if by is None else (Reason("replaced", f"was replaced by {by} since", 0.0),)
