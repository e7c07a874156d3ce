"""Brings the passages of a document that are stored to those that it holds now.

    same text                     kept; its place and order are updated
    other text at the same place  the new passage supersedes the old one, which stays in its history
    gone                          ended: valid until now, found only for a time before that
    back again                    valid again

A passage that a person corrected stands for the text that it replaced, and one that was merged
into a fact counts as known, so importing again does not undo what was done here. All of it is one
transaction: a document is never half the old and half the new.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, bindparam, select, update

from ryzanstein.memory import journal
from ryzanstein.memory.checks import checked_tags
from ryzanstein.memory.records import PASSAGE, DocumentReport, Draft, Memory
from ryzanstein.memory.rows import batches, identity, supersede
from ryzanstein.memory.schema import JournalRow, MemoryRow
from ryzanstein.memory.sources.documents import document_key, read_document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.database import Database
    from ryzanstein.memory.facts import Facts
    from ryzanstein.memory.tiers import Change

__all__ = ["import_document"]

_BATCH = 2048


@dataclass
class _Plan:
    """What has to change; passages are numbers in the document's order.

    Attributes:
        kept: Stored row of each passage that is there; None where it was merged into a fact.
        new: Passages that are not there.
        replaced: Row of an older passage by the number of the new one in its place.
        ended: Rows that are gone.
    """

    kept: dict[int, Any] = field(default_factory=dict)
    new: list[int] = field(default_factory=list)
    replaced: dict[int, Any] = field(default_factory=dict)
    ended: list[Any] = field(default_factory=list)


def import_document(
    database: Database,
    facts: Facts,
    document: Path | str,
    *,
    source: str | None = None,
    format: str | None = None,
    encoding: str | None = None,
    agent: str | None = None,
    tags: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DocumentReport:
    """Stores the passages of a document, or brings those that are stored up to date.

    Args:
        database: Of the store.
        facts: Checks, embeds and stores passages.
        document: A file, or the text itself.
        source: How it is cited; None means the file's path.
        format: One of documents.FORMATS; None means what the file's name says.
        encoding: Of a text; None means UTF-8 or what a byte order mark says.
        agent: Whose records they are; None means everybody's.
        tags: Of every new record.
        progress: Called with passages embedded and passages to embed.

    Raises:
        InvalidRequest: It cannot be read as a document; nothing was stored.
        StorageError: It cannot be read, or not be written; nothing was stored.
    """
    checked_tags(tags)
    found = read_document(document, source=source, format=format, encoding=encoding)
    drafts = found.drafts(agent=agent, tags=tags)
    key = document_key(found.source)
    with database.read() as connection:
        plan = _plan(connection, key, agent, drafts)
    if plan.new or plan.ended or _moved(plan, drafts):
        # Embedding takes longer than writing, so it is done before others have to wait.
        prepared = _prepared(facts, [drafts[at] for at in plan.new], progress)
        with facts.tiers.changing(len(plan.new)) as change:
            now = _plan(change.connection, key, agent, drafts)
            if now.new != plan.new:  # another process imported it meanwhile
                prepared = _prepared(facts, [drafts[at] for at in now.new], None)
            plan = now
            _apply(change, facts, plan, drafts, *prepared)
    return DocumentReport(
        source=found.source,
        title=found.title,
        passages=len(drafts),
        added=len(plan.new),
        kept=len(plan.kept),
        replaced=len(plan.replaced),
        ended=len(plan.ended),
        pages_without_text=found.blank,
    )


def _plan(connection: Connection, key: str, agent: str | None, drafts: Sequence[Draft]) -> _Plan:
    rows, corrected = _stored(connection, key, agent)
    by_id = {row.id: row for row in rows}
    current = [row for row in rows if row.superseded_by is None]
    waiting: dict[str, deque[Any]] = defaultdict(deque)
    merged: Counter[str] = Counter()
    for row in current:
        waiting[row.text].append(row)
    for row in rows:
        if row.superseded_by is not None:
            last = _stands_for(row, by_id, corrected)
            merged[row.text] += last is None
            if last:
                waiting[row.text].append(last)
    plan = _Plan()
    used: set[int] = set()
    for number, draft in enumerate(drafts):
        queue = waiting[draft.text]
        while queue and queue[0].row in used:
            queue.popleft()
        if queue:
            plan.kept[number] = queue.popleft()
            used.add(plan.kept[number].row)
        elif merged[draft.text] > 0:
            merged[draft.text] -= 1
            plan.kept[number] = None
        else:
            plan.new.append(number)
    gone = [row for row in current if row.row not in used and row.valid_until is None]
    _pair(plan, current, gone)
    return plan


def _stored(connection: Connection, key: str, agent: str | None) -> tuple[list[Any], set[int]]:
    """Every version of every passage in order, and the rows that are somebody's corrections."""
    row = MemoryRow
    columns = row.row, row.id, row.text, row.place, row.context, row.turn
    where = row.conversation == key, row.kind == PASSAGE, row.agent == agent
    query = select(*columns, row.valid_until, row.superseded_by).where(*where)
    rows = list(connection.execute(query.order_by(row.turn, row.row)))
    corrections = (
        select(JournalRow.memory_row)
        .join(row, row.row == JournalRow.memory_row)
        .where(*where, JournalRow.action == "corrected")
    )
    return rows, set(connection.execute(corrections).scalars())


def _stands_for(row: Any, by_id: dict[str, Any], corrected: set[int]) -> Any:
    """The correction that stands for an older version.

    Returns:
        None where it was merged into something that is no passage; False where a later state of
        the document replaced it.
    """
    while row.superseded_by is not None:
        row = by_id.get(row.superseded_by)
        if row is None:
            return None
        if row.row not in corrected:
            return False
    return row


def _pair(plan: _Plan, current: Sequence[Any], gone: Sequence[Any]) -> None:
    """Pairs passages that are gone with new ones that follow the same kept passage."""
    place_of = {row.row: number for number, row in plan.kept.items() if row is not None}
    missing = {row.row for row in gone}
    left: dict[int, deque[Any]] = defaultdict(deque)
    after = -1
    for row in current:
        after = place_of.get(row.row, after)
        if row.row in missing:
            left[after].append(row)
    news = set(plan.new)
    after = -1
    for number in range(len(plan.kept) + len(plan.new)):
        if number not in news:
            after = number if plan.kept[number] is not None else after
        elif left[after]:
            plan.replaced[number] = left[after].popleft()
    taken = {row.row for row in plan.replaced.values()}
    plan.ended = [row for row in gone if row.row not in taken]


def _moved(plan: _Plan, drafts: Sequence[Draft]) -> dict[int, Any]:
    """Kept passages whose place, headings or order are others now, or that had ended."""

    def same(row: Any, draft: Draft) -> bool:
        stored = row.place, row.context, row.turn, row.valid_until
        return stored == (draft.place, draft.context, draft.turn, None)

    return {n: row for n, row in plan.kept.items() if row is not None and not same(row, drafts[n])}


def _prepared(
    facts: Facts, drafts: Sequence[Draft], progress: Callable[[int, int], None] | None
) -> tuple[list[Memory], NDArray[np.float32]]:
    memories: list[Memory] = []
    vectors: list[NDArray[np.float32]] = []
    for start in range(0, len(drafts), _BATCH):
        some, theirs = facts.prepare(drafts[start : start + _BATCH])
        memories += some
        vectors.append(theirs)
        if progress is not None:
            progress(len(memories), len(drafts))
    return memories, np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32)


def _apply(
    change: Change,
    facts: Facts,
    plan: _Plan,
    drafts: Sequence[Draft],
    memories: Sequence[Memory],
    vectors: NDArray[np.float32],
) -> None:
    connection, now = change.connection, change.now
    moved = _moved(plan, drafts)
    older = [*plan.ended, *plan.replaced.values(), *moved.values()]
    # An identity names a text at one place of the order: none may be taken while all move.
    for part in batches([row.row for row in older]):
        freed = update(MemoryRow).where(MemoryRow.row.in_(part)).values(identity=None)
        connection.execute(freed)
    added = (
        dict(zip(plan.new, facts.add(change, memories, vectors), strict=True)) if memories else {}
    )
    for number, row in plan.replaced.items():
        supersede(connection, [row.row], added[number].id, change.revision, now)
        journal.write(connection, [row.row], "superseded", f"by {added[number].id}", now)
    _end(change, [row.row for row in plan.ended], now)
    _move(change, moved, drafts)


def _end(change: Change, rows: Sequence[int], now: datetime) -> None:
    for part in batches(rows):
        ends = update(MemoryRow).where(MemoryRow.row.in_(part))
        change.connection.execute(ends.values(valid_until=now, revision=change.revision))
    journal.write(change.connection, rows, "ended", "it is gone from its document", now)


def _move(change: Change, moved: dict[int, Any], drafts: Sequence[Draft]) -> None:
    if not moved:
        return
    back = [row.row for row in moved.values() if row.valid_until is not None]
    journal.write(change.connection, back, "restored", "it is back in its document", change.now)
    values = []
    for number, row in moved.items():
        draft = drafts[number]
        own = identity(row.text, draft.kind, draft.agent, draft.conversation, number)
        about = {"place": draft.place, "context": draft.context, "turn": draft.turn}
        values.append({"at_row": row.row, "identity": own, **about})
    names = ("identity", "place", "context", "turn")
    change.connection.execute(
        update(MemoryRow)
        .where(MemoryRow.row == bindparam("at_row"))
        .values({name: bindparam(name) for name in names})
        .values(valid_until=None, updated=change.now, revision=change.revision),
        values,
    )
