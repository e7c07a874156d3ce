"""Memories in SQL: remember, correct, forget, look up, recall.

The same text of the same kind and agent is one row: remembering it again reinforces that row.
A correction is a new row; the old one stays readable through its chain and leaves the search.
Forgetting deletes a row and the older versions it replaced from the table, the full text index,
the vectors, the links, the journal and the database's freed pages.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, select

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory import journal, policies
from ryzanstein.memory.checks import (
    checked_draft,
    checked_limit,
    checked_moment,
    checked_text,
    possible_id,
)
from ryzanstein.memory.database import Database
from ryzanstein.memory.derived import is_derived, remove_derived_too
from ryzanstein.memory.filters import Filter
from ryzanstein.memory.links import merged_into
from ryzanstein.memory.novelty import Novelty
from ryzanstein.memory.records import TIERS, Draft, Hit, JournalEntry, Memory, Page
from ryzanstein.memory.rows import (
    add_tags,
    identity_of,
    insert_memories,
    load_known,
    load_memories,
    load_one,
    load_rows,
    save_standing,
    supersede,
    versions,
)
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.search import Searcher
from ryzanstein.memory.spaces import MEMORIES
from ryzanstein.memory.tiers import Change, Tiers, arranged
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder

__all__ = ["Facts"]

_DRAFTED = tuple(one.name for one in fields(Draft) if one.name != "importance")
_FORGETTING = 500
_LAST_ROW = 2**31 - 1  # of PostgreSQL's integers
_LONGEST_CURSOR = len(str(_LAST_ROW))


class Facts:
    """The memories of one store.

    Args:
        database: The store's database.
        embedder: Embeds texts and queries.
        graph_from: Rows from which the vector index builds a graph.
    """

    def __init__(self, database: Database, embedder: Embedder, *, graph_from: int) -> None:
        self.searcher = Searcher(database, MEMORIES, embedder, graph_from=graph_from)
        self.tiers = Tiers(database)
        self._database = database
        self._embedder = embedder
        self._novelty = Novelty(database, self.searcher.synced, embedder.dimension)

    def remember(self, drafts: Sequence[Draft]) -> builtins.list[Memory]:
        """Stores texts in one transaction, or reinforces what holds them; durable on return."""
        if not drafts:
            return []
        memories, vectors = self.prepare(drafts)
        with self.tiers.changing(len(memories)) as change:
            return self.add(change, memories, vectors)

    def prepare(self, drafts: Sequence[Draft]) -> tuple[builtins.list[Memory], NDArray[np.float32]]:
        """Checks drafts and gives them ids, novelty and vectors; writes nothing.

        Raises:
            InvalidRequest: A field of one does not fit; with several drafts its number is told.
        """
        checked = [_checked(draft, at, len(drafts)) for at, draft in enumerate(drafts)]
        vectors = self._embedder.embed([draft.text for draft in checked])
        novelties = self._novelty.of(vectors).tolist()
        now = datetime.now(UTC)
        memories = [
            policies.weighed(
                Memory(
                    id=new_id(),
                    created=now,
                    updated=now,
                    mark=draft.importance,
                    novelty=round(novelty, 4),
                    **{name: getattr(draft, name) for name in _DRAFTED},
                )
            )
            for draft, novelty in zip(checked, novelties, strict=True)
        ]
        return memories, vectors

    def add(
        self, change: Change, memories: Sequence[Memory], vectors: NDArray[np.float32]
    ) -> builtins.list[Memory]:
        """Stores prepared memories inside a transaction; those known already are reinforced.

        Returns:
            What is stored now, one for each given.
        """
        connection = change.connection
        digests = [identity_of(memory) for memory in memories]
        known = load_known(connection, memories)
        again: dict[int, Memory] = {}
        fresh: dict[str, Memory] = {}
        places: builtins.list[int] = []
        for place, (digest, memory) in enumerate(zip(digests, memories, strict=True)):
            if digest in known:
                row, old = known[digest]
                again[row] = _reinforced(change, row, old, memory)
                known[digest] = row, again[row]
            elif digest in fresh:
                fresh[digest] = _repeated(fresh[digest], memory)
            else:
                fresh[digest] = memory
                places.append(place)
        save_standing(connection, again)
        self._insert(change, list(fresh.values()), vectors[places])
        return [known[one][1] if one in known else fresh[one] for one in digests]

    def correct(self, id: str, text: str, since: datetime | None = None) -> Memory:
        """Replaces a current memory by a new text and keeps the old version in its history."""
        now = datetime.now(UTC)
        at = now if since is None else checked_moment(since, "`since`")
        if at > now:
            raise InvalidRequest(
                f"The correction holds only from {at.isoformat()} on, and the memory until then.",
                hint="Remember the new text with `valid_from`, and correct the old one then.",
            )
        text = checked_text(text, "text")
        vectors = self._embedder.embed([text])
        novelty = round(float(self._novelty.of(vectors)[0]), 4)
        with self.tiers.changing(1) as change:
            row, old = load_one(change.connection, id, current=True)
            new = _corrected(old, text, novelty, at, now)
            known = load_known(change.connection, [new]).get(identity_of(new))
            if known is not None and known[0] == row:
                return old
            new = self.add(change, [new], vectors)[0]
            supersede(change.connection, [row], new.id, change.revision, at)
            added, _ = load_one(change.connection, new.id)
            change.note(row, "superseded", f"by {new.id}")
            change.note(added, "corrected", f"replaces {old.id}")
        return new

    def forget(self, id: str) -> bool:
        """Deletes a memory, the older versions it replaced and what was made of them alone.

        Returns:
            False where there is none.
        """
        with self._database.write() as (connection, revision):
            rows = versions(connection, id)
            if not rows:
                return False
            merged = merged_into(connection, rows[0])
            if merged is not None:
                raise InvalidRequest(
                    f"{id} was merged into {merged}, which says the same.",
                    hint=f"Forget {merged}, or take it apart first (unmerge).",
                )
            rows = remove_derived_too(connection, rows, revision)
        self._novelty.forget()
        try:
            self.searcher.synced.forget(rows)
        finally:
            self._database.scrub()
        return True

    def forget_archived(self, before: datetime | None = None) -> int:
        """Deletes what was archived (before a time), with its older versions; returns how many."""
        where: builtins.list[ColumnElement[bool]] = [
            MemoryRow.archived.is_not(None),
            MemoryRow.superseded_by.is_(None),
        ]
        if before is not None:
            where.append(MemoryRow.archived < checked_moment(before, "`before`"))
        count = 0
        try:
            while True:
                with self._database.write() as (connection, revision):
                    query = select(MemoryRow.id).where(*where).limit(_FORGETTING)
                    ids = connection.execute(query).scalars().all()
                    rows = [row for id in ids for row in versions(connection, id)]
                    rows = remove_derived_too(connection, rows, revision)
                count += len(ids)
                self._novelty.forget()
                self.searcher.synced.forget(rows)
                if len(ids) < _FORGETTING:
                    return count
        finally:
            if count:
                self._database.scrub()

    def get(self, id: str) -> Memory | None:
        """Returns one version of a memory by its id."""
        if not possible_id(id):
            return None
        with self._database.read() as connection:
            found = load_memories(connection, [MemoryRow.id == id])
        return next(iter(found.values()), None)

    def history(self, id: str) -> builtins.list[Memory]:
        """Returns a memory and the older versions it replaced, oldest first."""
        with self._database.read() as connection:
            rows = versions(connection, id)
            found = load_rows(connection, rows)
        return [found[row] for row in sorted(found)]

    def journal(self, id: str) -> builtins.list[JournalEntry]:
        """Returns what happened to a memory, oldest first."""
        with self._database.read() as connection:
            row, _ = load_one(connection, id)
            return journal.read(connection, row)

    def list(self, chosen: Filter, limit: int, cursor: str | None) -> Page:
        """Returns memories, the newest first, from where the cursor of the last page points."""
        where = chosen.narrowing() + chosen.standing(working=True)
        if chosen.at is None:
            where.append(MemoryRow.superseded_by.is_(None))
        where += chosen.past()
        if cursor is not None:
            where.append(MemoryRow.row < _place(cursor))
        query = select(MemoryRow.row).where(*where).order_by(MemoryRow.row.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(checked_limit(limit) + 1)).scalars().all()
            found = load_rows(connection, rows[:limit])
        more = str(rows[limit - 1]) if len(rows) > limit else None
        return Page(tuple(found[row] for row in rows[:limit]), more)

    def recall(self, query: str, chosen: Filter, limit: int) -> builtins.list[Hit]:
        """Finds memories by meaning and words, and counts a use of each."""
        now = datetime.now(UTC)
        if not isinstance(query, str) or not query.strip():
            raise InvalidRequest("The query is empty.", hint="Say what to look for.")
        past = chosen.past()
        chosen = replace(chosen, at=chosen.at or now)
        found = self.searcher.search(
            query,
            checked_limit(limit),
            chosen.narrowing(),
            chosen.standing() + past,
            now=chosen.at,
            past=bool(past),
        )
        with self._database.read() as connection:
            rows = [one.row for one in found]
            records = load_rows(connection, rows)
        self.tiers.uses.count(records, now)
        return [
            Hit(records[one.row], one.score, one.similarity, one.reasons)
            for one in found
            if one.row in records
        ]

    def _insert(
        self, change: Change, memories: Sequence[Memory], vectors: NDArray[np.float32]
    ) -> None:
        rows = insert_memories(change.connection, memories, change.revision)
        store_vectors(
            change.connection,
            MEMORIES,
            self._embedder,
            rows,
            vectors,
            change.revision,
            fresh=True,
        )
        for row, memory in zip(rows, memories, strict=True):
            change.note(row, "stored", f"into {memory.tier}: {_because(memory)}")
        change.filled.update(memory.tier for memory in memories)


def new_id() -> str:
    """Returns an id that no memory has."""
    return f"mem_{secrets.token_hex(8)}"


def _checked(draft: Draft, at: int, count: int) -> Draft:
    try:
        return checked_draft(draft)
    except InvalidRequest as error:
        if count == 1:
            raise
        raise InvalidRequest(f"Draft {at}: {error.message}", hint=error.hint) from error


def _because(memory: Memory) -> str:
    if memory.mark is not None:
        return f"marked {memory.mark:.2f}"
    return f"importance {memory.importance:.2f}, novelty {memory.novelty:.2f}"


def _corrected(old: Memory, text: str, novelty: float, at: datetime, now: datetime) -> Memory:
    if old.valid_from is not None and at < old.valid_from:
        raise InvalidRequest(
            f"{old.id} holds only from {old.valid_from.isoformat()} on.",
            hint="Correct it from then on or later.",
        )
    ends = old.valid_until if old.valid_until is not None and old.valid_until > at else None
    return policies.weighed(
        replace(
            old,
            id=new_id(),
            text=text,
            created=now,
            updated=now,
            novelty=max(old.novelty, novelty),
            outcome=0.0,
            reinforced=0,
            archived=None,
            valid_from=at,
            valid_until=ends,
        )
    )


def _repeated(old: Memory, again: Memory) -> Memory:
    """Returns a memory after its text was said again."""
    marks = [mark for mark in (old.mark, again.mark) if mark is not None]
    begins, ends = _held(old, again)
    return policies.weighed(
        replace(
            old,
            mark=max(marks, default=None),
            reinforced=old.reinforced + 1,
            updated=again.updated,
            source=old.source or again.source,
            tags=tuple(sorted({*old.tags, *again.tags})),
            valid_from=begins,
            valid_until=ends,
        )
    )


def _held(old: Memory, again: Memory) -> tuple[datetime | None, datetime | None]:
    """Returns when a memory holds after it was said again; said without times, it holds now."""
    now = again.updated
    begins, ends = again.valid_from, again.valid_until
    if begins is None and old.valid_from is not None:
        begins = min(old.valid_from, now)
        if ends is not None and ends <= begins:
            begins = None
    if ends is None and old.valid_until is not None and old.valid_until > max(begins or now, now):
        ends = old.valid_until
    return begins, ends


def _reinforced(change: Change, row: int, old: Memory, again: Memory) -> Memory:
    memory = _repeated(old, again)
    add_tags(change.connection, row, [tag for tag in memory.tags if tag not in old.tags])
    tier = again.tier
    if old.tier == "semantic" and is_derived(change.connection, row):
        # From now on it stands without what it was made of.
        change.note(row, "stored", "remembered by itself too")
    if tier == old.tier == "working" and again.task != old.task:
        tier = "short_term"  # where both tasks see it
    if TIERS.index(tier) > TIERS.index(old.tier):
        change.note(row, "promoted", f"{old.tier} to {tier}: remembered again")
        change.filled.add(tier)
        memory = replace(memory, tier=tier)
    return arranged(change, row, memory, "remembered again")


def _place(cursor: str) -> int:
    known = isinstance(cursor, str) and cursor.isascii() and cursor.isdecimal()
    if not known or len(cursor) > _LONGEST_CURSOR or int(cursor) > _LAST_ROW:
        raise InvalidRequest(f"{cursor!r:.40} is no cursor.", hint="Use the one of a page.")
    return int(cursor)
