"""Memories as rows: insert, load, change, replace, delete; used by whatever writes memories.

The same text of the same kind and agent (and, in a conversation or a document, at the same place
in its order) has one identity, which is unique among current rows. Every function works inside the
caller's transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, insert, select, update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import possible_id
from ryzanstein.memory.policies import retention
from ryzanstein.memory.records import Memory
from ryzanstein.memory.schema import EmbeddingRow, MemoryRow, MemoryTagRow, RemovalRow
from ryzanstein.memory.spaces import MEMORIES

__all__ = [
    "add_tags",
    "batches",
    "embeddings_of",
    "identity",
    "identity_of",
    "insert_memories",
    "load_known",
    "load_memories",
    "load_one",
    "load_rows",
    "remove_rows",
    "save_standing",
    "supersede",
    "versions",
]

_FIELDS = tuple(name for name in Memory.__slots__ if name != "tags")
_COLUMNS = (MemoryRow.row, *(getattr(MemoryRow, name) for name in _FIELDS))
# What use, time and policies change; everything else changes by a correction only.
_STANDING = (
    "tier",
    "source",
    "importance",
    "mark",
    "outcome",
    "uses",
    "reinforced",
    "updated",
    "last_used",
    "valid_from",
    "valid_until",
    "archived",
)
_BATCH = 500
# Statements of every write are built once: building one costs as much as running it.
_INSERT = insert(MemoryRow).returning(MemoryRow.row, sort_by_parameter_order=True)
_LOAD = (
    select(*_COLUMNS)
    .where(MemoryRow.row.in_(bindparam("rows", expanding=True)))
    .order_by(MemoryRow.row)
)
_TAGS = (
    select(MemoryTagRow.memory_row, MemoryTagRow.tag)
    .where(MemoryTagRow.memory_row.in_(bindparam("rows", expanding=True)))
    .order_by(MemoryTagRow.tag)
)
_SAME = select(MemoryRow.row).where(MemoryRow.identity.in_(bindparam("identities", expanding=True)))
_CHANGE = (
    update(MemoryRow)
    .where(MemoryRow.row == bindparam("at_row"))
    .values({name: bindparam(name) for name in (*_STANDING, "retention")})
)


def identity(
    text: str,
    kind: str,
    agent: str | None,
    conversation: str | None = None,
    turn: int | None = None,
) -> str:
    """Returns the digest under which a text is stored once: letter case and spacing ignored."""
    words = " ".join(text.split()).casefold()
    parts = [kind, agent or "", words]
    if conversation is not None:
        parts += [conversation, "" if turn is None else str(turn)]
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def identity_of(memory: Memory) -> str:
    """Returns the identity of a memory."""
    return identity(memory.text, memory.kind, memory.agent, memory.conversation, memory.turn)


def batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cuts a sequence into parts that fit into one statement."""
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def insert_memories(connection: Connection, memories: Sequence[Memory], revision: int) -> list[int]:
    """Inserts rows with their tags and returns their numbers, in order."""
    if not memories:
        return []
    values = []
    for memory in memories:
        fields = {name: getattr(memory, name) for name in _FIELDS}
        digest = identity_of(memory) if memory.superseded_by is None else None
        extra = {"identity": digest, "retention": retention(memory), "revision": revision}
        values.append({**fields, **extra})
    rows = list(connection.execute(_INSERT, values).scalars())
    tags = [
        {"memory_row": row, "tag": tag}
        for row, memory in zip(rows, memories, strict=True)
        for tag in memory.tags
    ]
    if tags:
        connection.execute(insert(MemoryTagRow), tags)
    return rows


def load_memories(
    connection: Connection, where: Sequence[ColumnElement[bool]]
) -> dict[int, Memory]:
    """Returns the memories that meet all conditions, by row number."""
    query = select(*_COLUMNS).where(*where).order_by(MemoryRow.row)
    return _with_tags(connection, connection.execute(query).all())


def load_rows(connection: Connection, rows: Sequence[int]) -> dict[int, Memory]:
    """Returns the memories in these rows that there are, by row number."""
    found: dict[int, Memory] = {}
    for part in batches(rows):
        loaded = connection.execute(_LOAD, {"rows": part}).all()
        found.update(_with_tags(connection, loaded))
    return found


def _with_tags(connection: Connection, loaded: Sequence[Row[Any]]) -> dict[int, Memory]:
    tags: dict[int, list[str]] = {}
    for part in batches([one.row for one in loaded]):
        for row, tag in connection.execute(_TAGS, {"rows": part}):
            tags.setdefault(row, []).append(tag)
    found: dict[int, Memory] = {}
    for one in loaded:
        row = one[0]
        fields: dict[str, Any] = dict(zip(_FIELDS, one[1:], strict=True))
        found[row] = Memory(**fields, tags=tuple(tags.get(row, ())))
    return found


def load_one(connection: Connection, id: str, *, current: bool = False) -> tuple[int, Memory]:
    """Returns the row and the memory of an id.

    Args:
        connection: The caller's transaction.
        id: Of any version.
        current: Whether it must not have been replaced.

    Raises:
        InvalidRequest: No memory has that id, or it was replaced already.
    """
    found = load_memories(connection, [MemoryRow.id == id]) if possible_id(id) else {}
    if not found:
        raise InvalidRequest(f"No memory has the id {id!r:.80}.", hint="Search for it first.")
    row, memory = next(iter(found.items()))
    if current and memory.superseded_by is not None:
        raise InvalidRequest(f"{id} was replaced already.", hint=f"Use {memory.superseded_by}.")
    return row, memory


def load_known(connection: Connection, memories: Sequence[Memory]) -> dict[str, tuple[int, Memory]]:
    """Returns those that are stored already, current ones, by identity."""
    known: dict[str, tuple[int, Memory]] = {}
    for part in batches(sorted({identity_of(memory) for memory in memories})):
        rows = connection.execute(_SAME, {"identities": part}).scalars().all()
        if rows:
            for row, memory in load_rows(connection, rows).items():
                known[identity_of(memory)] = (row, memory)
    return known


def save_standing(connection: Connection, changed: Mapping[int, Memory]) -> None:
    """Writes what use, time and policies change: tier, importance, uses, archived, retention."""
    if not changed:
        return
    values = [
        {
            "at_row": row,
            "retention": retention(memory),
            **{name: getattr(memory, name) for name in _STANDING},
        }
        for row, memory in changed.items()
    ]
    connection.execute(_CHANGE, values)


def add_tags(connection: Connection, row: int, tags: Iterable[str]) -> None:
    """Adds tags that a memory has not yet."""
    values = [{"memory_row": row, "tag": tag} for tag in tags]
    if values:
        connection.execute(insert(MemoryTagRow), values)


def supersede(
    connection: Connection, rows: Sequence[int], by: str, revision: int, at: datetime
) -> None:
    """Takes rows out of the search in favour of another memory; they stay in its history.

    Their validity ends at `at` where it had not ended before.
    """
    for part in batches(rows):
        chosen = MemoryRow.row.in_(part)
        ends = MemoryRow.valid_until.is_(None) | (MemoryRow.valid_until > at)
        connection.execute(update(MemoryRow).where(chosen, ends).values(valid_until=at))
        connection.execute(
            update(MemoryRow)
            .where(chosen)
            .values(superseded_by=by, identity=None, retention=None, revision=revision)
        )
        connection.execute(delete(EmbeddingRow).where(MEMORIES.owner.in_(part)))
        _record_removal(connection, part, revision)


def remove_rows(connection: Connection, rows: Sequence[int], revision: int) -> None:
    """Deletes rows with their tags, vectors, links, journal and words in the full text index."""
    for part in batches(rows):
        connection.execute(delete(MemoryRow).where(MemoryRow.row.in_(part)))
        _record_removal(connection, part, revision)


def versions(connection: Connection, id: str) -> list[int]:
    """Returns the rows of a memory and of everything it replaced, directly or not."""
    rows: list[int] = []
    ids = [id] if possible_id(id) else []
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


def embeddings_of(connection: Connection, id: str) -> dict[str, int]:
    """Returns the dimension of each vector that a memory has, by embedding model."""
    query = (
        select(EmbeddingRow.model_id, EmbeddingRow.dimension)
        .join(MemoryRow, MemoryRow.row == EmbeddingRow.memory_row)
        .where(MemoryRow.id == id)
        .order_by(EmbeddingRow.model_id)
    )
    return dict(connection.execute(query).all())
