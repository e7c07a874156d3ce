"""What a store holds, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import InstrumentedAttribute

from ryzanstein.memory.records import StoreStats
from ryzanstein.memory.schema import ExperienceRow, MemoryRow, RunRow
from ryzanstein.memory.vectors.index import GRAPH_FROM

if TYPE_CHECKING:
    from ryzanstein.memory.database import Database
    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.search import Searcher

__all__ = ["count_store"]

_SUPERSEDED = MemoryRow.superseded_by.is_not(None)


def count_store(
    database: Database, embedder: Embedder, searchers: dict[str, Searcher]
) -> StoreStats:
    """Counts what is stored, and says where it is and how it is searched.

    Args:
        database: The store's database.
        embedder: The model of its vectors.
        searchers: By the name under which their index is told.
    """
    with database.read() as connection:
        gone = _both(connection, _SUPERSEDED)
        archived = _both(connection, MemoryRow.archived.is_not(None), ~_SUPERSEDED)
        by_tier = Counter(_grouped(connection, MemoryRow.tier)) - gone[0] - archived[0]
        by_kind = Counter(_grouped(connection, MemoryRow.kind)) - gone[1]
        counted = StoreStats(
            memories=by_kind.total(),
            superseded=gone[0].total(),
            experiences=_count(connection, ExperienceRow),
            runs=_count(connection, RunRow),
            by_kind=dict(by_kind),
            by_agent=_grouped(connection, ExperienceRow.agent),
            by_outcome=_grouped(connection, ExperienceRow.outcome),
            database=database.name,
            bytes=database.bytes,
            model_id=embedder.model_id,
            dimension=embedder.dimension,
            full_text=searchers["memories"].full_text.name,
            by_tier=dict(by_tier),
            archived=archived[0].total(),
        )
    # Outside of the transaction: what an index catches up with has transactions of its own.
    index = {name: _searched(one, counted.memories) for name, one in searchers.items()}
    return replace(counted, index=index)


def _searched(searcher: Searcher, rows: int) -> str:
    """How vectors are searched now, what is being done, and why they are kept in that form."""
    synced = searcher.synced
    if synced.seen < 0 and rows > GRAPH_FROM and not synced.stats()["file_bytes"]:
        return "not read yet"  # of many rows without an index file that takes a while
    synced.catch_up()
    told = synced.stats()
    return "; ".join(str(told[part]) for part in ("form", "doing", "codes") if told.get(part))


def _both(connection: Connection, *where: ColumnElement[bool]) -> tuple[Counter[str], Counter[str]]:
    """Counts by tier and by kind what few memories are; the rest is counted in an index."""
    query = select(MemoryRow.tier, MemoryRow.kind, func.count()).where(*where)
    tiers, kinds = Counter[str](), Counter[str]()
    for tier, kind, count in connection.execute(query.group_by(MemoryRow.tier, MemoryRow.kind)):
        tiers[tier] += count
        kinds[kind] += count
    return tiers, kinds


def _count(connection: Connection, table: type) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _grouped(connection: Connection, column: InstrumentedAttribute[str]) -> dict[str, int]:
    query = select(column, func.count()).group_by(column).order_by(column)
    return dict(connection.execute(query).all())
