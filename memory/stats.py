"""What a store holds, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import InstrumentedAttribute

from ryzanstein.memory.records import StoreStats
from ryzanstein.memory.schema import ExperienceRow, MemoryRow, RunRow

if TYPE_CHECKING:
    from ryzanstein.memory.database import Database
    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.search import Searcher

__all__ = ["count_store"]


def count_store(
    database: Database, embedder: Embedder, searchers: dict[str, Searcher]
) -> StoreStats:
    """Counts what is stored, and says where it is and how it is searched.

    Args:
        database: The store's database.
        embedder: The model of its vectors.
        searchers: By the name under which their index is told.
    """
    current = MemoryRow.superseded_by.is_(None)
    placed = (current, MemoryRow.archived.is_(None))
    with database.read() as connection:
        return StoreStats(
            memories=_count(connection, MemoryRow, current),
            superseded=_count(connection, MemoryRow, ~current),
            experiences=_count(connection, ExperienceRow),
            runs=_count(connection, RunRow),
            by_kind=_grouped(connection, MemoryRow.kind, current),
            by_agent=_grouped(connection, ExperienceRow.agent),
            by_outcome=_grouped(connection, ExperienceRow.outcome),
            database=database.name,
            bytes=database.bytes,
            model_id=embedder.model_id,
            dimension=embedder.dimension,
            full_text=searchers["memories"].full_text.name,
            index={name: one.synced.index.form for name, one in searchers.items()},
            by_tier=_grouped(connection, MemoryRow.tier, *placed),
            archived=_count(connection, MemoryRow, current, MemoryRow.archived.is_not(None)),
        )


def _count(connection: Connection, table: type, *where: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(table).where(*where)
    return connection.execute(query).scalar_one()


def _grouped(
    connection: Connection, column: InstrumentedAttribute[Any], *where: ColumnElement[bool]
) -> dict[str, int]:
    query = select(column, func.count()).where(*where).group_by(column).order_by(column)
    return {name or "": number for name, number in connection.execute(query)}
