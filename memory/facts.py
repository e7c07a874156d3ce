"""Memories in SQL: remember, correct, forget, recall.

The same text of the same kind and agent is one row: remembering it again reinforces that row.
A correction is a new row; the old one stays readable through its chain and leaves the search.
Forgetting deletes a row and the older versions it replaced from the table, the full text index,
the vectors and the database's freed pages.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import (
    checked_limit,
    checked_name,
    checked_share,
    checked_tags,
    checked_text,
)
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Hit, Memory
from ryzanstein.memory.schema import EmbeddingRow, MemoryRow, MemoryTagRow, RemovalRow
from ryzanstein.memory.search import Searcher
from ryzanstein.memory.spaces import MEMORIES
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder

__all__ = ["Facts", "load_memories"]

_FIELDS = tuple(name for name in Memory.__slots__ if name != "tags")
_COLUMNS = (MemoryRow.row, *(getattr(MemoryRow, name) for name in _FIELDS))
# Remembering again moves the importance this share of the way to 1.
_REINFORCEMENT = 0.1


class Facts:
    """The memories of one store.

    Args:
        database: The store's database.
        embedder: Embeds texts and queries.
        graph_from: Rows from which the vector index builds a graph.
    """

    def __init__(self, database: Database, embedder: Embedder, *, graph_from: int) -> None:
        self.searcher = Searcher(database, MEMORIES, embedder, graph_from=graph_from)
        self._database = database
        self._embedder = embedder

    def remember(
        self,
        text: str,
        *,
        kind: str = "fact",
        agent: str | None = None,
        tags: Iterable[str] = (),
        source: str | None = None,
        importance: float = 0.5,
    ) -> Memory:
        """Stores a text, or reinforces the row that holds it already; durable on return."""
        now = datetime.now(UTC)
        memory = Memory(
            id=f"mem_{secrets.token_hex(8)}",
            text=checked_text(text, "text"),
            tier="short_term",
            kind=checked_name(kind, "kind"),
            agent=None if agent is None else checked_name(agent, "codename"),
            tags=checked_tags(tags),
            source=None if source is None else checked_text(source, "source"),
            importance=checked_share(importance, "The importance"),
            reinforced=0,
            created=now,
            updated=now,
        )
        vectors = self._embedder.embed([memory.text])
        with self._database.write() as (connection, revision):
            known = _with_identity(connection, memory)
            if known is not None:
                return _reinforce(connection, known, memory)
            rows = insert_memories(connection, [memory], revision)
            store_vectors(connection, MEMORIES, self._embedder, rows, vectors, revision)
        return memory

    def correct(self, id: str, text: str) -> Memory:
        """Replaces a current memory by a new text and keeps the old version in its history."""
        text = checked_text(text, "text")
        vectors = self._embedder.embed([text])
        now = datetime.now(UTC)
        with self._database.write() as (connection, revision):
            row, old = _current(connection, id)
            new = replace(
                old,
                id=f"mem_{secrets.token_hex(8)}",
                text=text,
                created=now,
                updated=now,
                reinforced=0,
            )
            known = _with_identity(connection, new)
            if known is not None and known[1].id == old.id:
                return old
            if known is not None:
                new = _reinforce(connection, known, new)
            _supersede(connection, row, new.id, revision)
            if known is None:
                added = insert_memories(connection, [new], revision)
                store_vectors(connection, MEMORIES, self._embedder, added, vectors, revision)
        return new

    def forget(self, id: str) -> bool:
        """Deletes a memory and the older versions it replaced; False where there is none."""
        with self._database.write() as (connection, revision):
            rows = _versions(connection, id)
            if not rows:
                return False
            connection.execute(delete(MemoryRow).where(MemoryRow.row.in_(rows)))
            _record_removal(connection, rows, revision)
        self._database.scrub()
        return True

    def get(self, id: str) -> Memory | None:
        """Returns one version of a memory by its id."""
        with self._database.read() as connection:
            found = load_memories(connection, [MemoryRow.id == id])
        return next(iter(found.values()), None)

    def history(self, id: str) -> list[Memory]:
        """Returns a memory and the older versions it replaced, oldest first."""
        with self._database.read() as connection:
            rows = _versions(connection, id)
            found = load_memories(connection, [MemoryRow.row.in_(rows)])
        return [found[row] for row in sorted(found)]

    def recall(
        self,
        query: str,
        *,
        limit: int = 5,
        agent: str | None = None,
        tags: Iterable[str] = (),
        kind: str | None = None,
    ) -> list[Hit]:
        """Finds current memories by meaning and words; an agent sees its own and everybody's."""
        if not query.strip():
            raise InvalidRequest("The query is empty.", hint="Say what to look for.")
        where = _conditions(agent, checked_tags(tags), kind)
        found = self.searcher.search(query, checked_limit(limit), where)
        with self._database.read() as connection:
            rows = [one.row for one in found]
            records = load_memories(connection, [MemoryRow.row.in_(rows)])
        return [
            Hit(records[one.row], one.score, one.similarity, one.reasons)
            for one in found
            if one.row in records
        ]


def identity(text: str, kind: str, agent: str | None) -> str:
    """Returns the digest under which a text is stored once: letter case and spacing ignored."""
    words = " ".join(text.split()).casefold()
    return hashlib.sha256("\x00".join((kind, agent or "", words)).encode()).hexdigest()


def insert_memories(connection: Connection, memories: Sequence[Memory], revision: int) -> list[int]:
    """Inserts rows with their tags and returns their numbers, in order."""
    if not memories:
        return []
    values = []
    for memory in memories:
        fields = {name: getattr(memory, name) for name in _FIELDS}
        current = memory.superseded_by is None
        digest = identity(memory.text, memory.kind, memory.agent) if current else None
        values.append({**fields, "identity": digest, "revision": revision})
    connection.execute(insert(MemoryRow), values)
    ids = [memory.id for memory in memories]
    inserted = select(MemoryRow.id, MemoryRow.row).where(MemoryRow.id.in_(ids))
    rows = {found.id: found.row for found in connection.execute(inserted)}
    for memory in memories:
        _add_tags(connection, rows[memory.id], memory.tags)
    return [rows[id] for id in ids]


def load_memories(
    connection: Connection, where: Sequence[ColumnElement[bool]]
) -> dict[int, Memory]:
    """Returns the memories that meet all conditions, by row number."""
    rows = connection.execute(select(*_COLUMNS).where(*where).order_by(MemoryRow.row)).all()
    wanted = select(MemoryRow.row).where(*where)
    tags: dict[int, list[str]] = {}
    tagged = (
        select(MemoryTagRow.memory_row, MemoryTagRow.tag)
        .where(MemoryTagRow.memory_row.in_(wanted))
        .order_by(MemoryTagRow.tag)
    )
    for row, tag in connection.execute(tagged):
        tags.setdefault(row, []).append(tag)
    found: dict[int, Memory] = {}
    for one in rows:
        fields: dict[str, Any] = dict(one._mapping)
        row = fields.pop("row")
        found[row] = Memory(**fields, tags=tuple(tags.get(row, ())))
    return found


def _with_identity(connection: Connection, memory: Memory) -> tuple[int, Memory] | None:
    wanted = identity(memory.text, memory.kind, memory.agent)
    found = load_memories(connection, [MemoryRow.identity == wanted])
    return next(iter(found.items()), None)


def _reinforce(connection: Connection, known: tuple[int, Memory], again: Memory) -> Memory:
    row, old = known
    importance = max(old.importance, again.importance)
    connection.execute(
        update(MemoryRow)
        .where(MemoryRow.row == row)
        .values(
            reinforced=old.reinforced + 1,
            importance=importance + _REINFORCEMENT * (1 - importance),
            source=old.source or again.source,
            updated=again.updated,
        )
    )
    _add_tags(connection, row, [tag for tag in again.tags if tag not in old.tags])
    return load_memories(connection, [MemoryRow.row == row])[row]


def _current(connection: Connection, id: str) -> tuple[int, Memory]:
    found = load_memories(connection, [MemoryRow.id == id])
    if not found:
        raise InvalidRequest(f"No memory has the id {id!r}.", hint="Search for it first.")
    row, memory = next(iter(found.items()))
    if memory.superseded_by is not None:
        raise InvalidRequest(
            f"{id} was replaced already.", hint=f"Correct {memory.superseded_by} instead."
        )
    return row, memory


def _supersede(connection: Connection, row: int, by: str, revision: int) -> None:
    connection.execute(
        update(MemoryRow)
        .where(MemoryRow.row == row)
        .values(superseded_by=by, identity=None, revision=revision)
    )
    connection.execute(delete(EmbeddingRow).where(MEMORIES.owner == row))
    _record_removal(connection, [row], revision)


def _versions(connection: Connection, id: str) -> list[int]:
    """Rows of a memory and of everything it replaced, directly or not."""
    rows: list[int] = []
    ids = [id]
    while ids:
        query = select(MemoryRow.row, MemoryRow.id)
        first = MemoryRow.id.in_(ids) if not rows else MemoryRow.superseded_by.in_(ids)
        found = [one for one in connection.execute(query.where(first)) if one.row not in rows]
        rows += [one.row for one in found]
        ids = [one.id for one in found]
    return rows


def _record_removal(connection: Connection, rows: Sequence[int], revision: int) -> None:
    values = [{"space": MEMORIES.name, "item_row": row, "revision": revision} for row in rows]
    connection.execute(insert(RemovalRow), values)


def _add_tags(connection: Connection, row: int, tags: Iterable[str]) -> None:
    values = [{"memory_row": row, "tag": tag} for tag in tags]
    if values:
        connection.execute(insert(MemoryTagRow), values)


def _conditions(
    agent: str | None, tags: Sequence[str], kind: str | None
) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if agent is not None:
        where.append(or_(MemoryRow.agent == agent, MemoryRow.agent.is_(None)))
    if kind is not None:
        where.append(MemoryRow.kind == kind)
    if tags:
        holding = (
            select(MemoryTagRow.memory_row)
            .where(MemoryTagRow.tag.in_(tags))
            .group_by(MemoryTagRow.memory_row)
            .having(func.count() == len(tags))
        )
        where.append(MemoryRow.row.in_(holding))
    return where
