"""Moves memories between tiers, and says why each is where it is.

Every writing transaction ends here (`changing`): the uses counted by then are written, and room is
made in the tiers it filled. That costs a count over a hundred index entries; once in ten writes
ten memories move. More than that is left to `settle`, which works in slices of one transaction
each. Writers take turns, so several processes never move the same memory twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select

from ryzanstein.errors import RyzansteinError
from ryzanstein.memory import journal, policies
from ryzanstein.memory.checks import checked_limit, checked_seconds, checked_tier
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Memory, Standing
from ryzanstein.memory.rows import load_memories, load_one, load_rows, save_standing
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.uses import Use, UseBuffer

__all__ = ["Change", "Tiers", "arranged"]

# In the order in which memories fall through them.
_BOUNDED = ("working", "short_term", "long_term")
_SLICE = 64
_SETTLING = 500
# Below every retention: `IS NOT NULL` alone would not make SQLite use the index.
_LOWEST = -1e300
_IN_TIER = (MemoryRow.tier == bindparam("tier"), MemoryRow.retention > _LOWEST)
# Built once, since every write counts.
_COUNT = select(func.count()).select_from(MemoryRow).where(*_IN_TIER)
_WEAKEST = select(MemoryRow.row).where(*_IN_TIER).order_by(MemoryRow.retention, MemoryRow.row)


@dataclass(slots=True)
class Change:
    """A writing transaction.

    Attributes:
        connection: Where it happens.
        revision: Its number.
        now: When it happens, UTC.
        filled: Tiers that something was put into.
        noted: Lines for the journal, written at the end all at once.
    """

    connection: Connection
    revision: int
    now: datetime
    filled: set[str] = field(default_factory=set)
    noted: list[tuple[int, str, str]] = field(default_factory=list)

    def note(self, row: int, action: str, detail: str) -> None:
        """Writes a line into a memory's journal."""
        self.noted.append((row, action, detail))


class Tiers:
    """The tiers of one store.

    Args:
        database: The store's database.
    """

    def __init__(self, database: Database) -> None:
        self.uses = UseBuffer()
        self._database = database

    @contextmanager
    def changing(self, room_for: int = 0) -> Iterator[Change]:
        """Opens a writing transaction that ends with uses written and room made.

        Args:
            room_for: How many memories it may put into a tier.
        """
        with self._counted(_SLICE) as (change, taken):
            yield change
            _write_uses(change, taken)
            for tier in _BOUNDED:
                if tier in change.filled:
                    _make_room(change, tier, _SLICE + room_for)

    def settle(self, seconds: float = 1.0) -> int:
        """Writes counted uses and makes room, in slices, until done or the time is over.

        Returns:
            How many memories changed their tier.

        Raises:
            InvalidRequest: The time is not a number of seconds.
        """
        deadline = time.monotonic() + checked_seconds(seconds)
        moved = 0
        while self._due():
            moved += self._settle_slice()
            if time.monotonic() >= deadline:
                break
        return moved

    def flush(self) -> None:
        """Writes counted uses where that is possible; a read-only store keeps none."""
        with suppress(RyzansteinError):
            while self.uses:
                self._settle_slice()

    def end_task(self, task: str) -> int:
        """Ends a task: its working memories go to short-term memory or the archive.

        Returns:
            How many there were.
        """
        ended = 0
        mine = (MemoryRow.tier == "working", MemoryRow.task == task)
        present = (*mine, MemoryRow.archived.is_(None), MemoryRow.superseded_by.is_(None))
        query = select(MemoryRow.row).where(*present).limit(_SETTLING)
        # Most tasks leave none: a look costs no turn among the writers.
        while self._any(query):
            with self.changing(_SETTLING) as change:
                chosen = change.connection.execute(query).scalars().all()
                ended += _leave(change, chosen, f"the task {task} has ended")
        return ended

    def use(self, ids: Sequence[str], outcome: float | None) -> list[Memory]:
        """Counts one use of each, and what it led to; archived ones come back."""
        with self.changing(len(ids)) as change:
            found = dict(load_one(change.connection, id, current=True) for id in ids)
            return _use(change, {row: Use(1, change.now) for row in found}, found, outcome)

    def mark(self, id: str, importance: float | None) -> Memory:
        """Says how much a memory matters, or takes that back; at 1 no policy moves it."""
        with self.changing(1) as change:
            row, memory = load_one(change.connection, id, current=True)
            changed = policies.weighed(replace(memory, mark=importance, updated=change.now))
            detail = "mark taken back" if importance is None else f"marked {importance:.2f}"
            change.note(row, "marked", detail)
            change.filled.add(memory.tier)
            if memory.archived is not None and importance == 1.0:
                changed = _restored(change, row, changed, "marked to be kept")
            save_standing(change.connection, {row: changed})
        return changed

    def explain(self, id: str) -> Standing:
        """Says why a memory is where it is, how strong it is, and what would happen next."""
        now = datetime.now(UTC)
        with self._database.read() as connection:
            _, memory = load_one(connection, id)
            order = policies.retention(memory)
            before = 0
            if order is not None:
                before = _count(connection, memory.tier, MemoryRow.retention < order)
            held = _count(connection, memory.tier)
        return _standing(memory, now, before, held)

    def next_out(self, tier: str, limit: int = 10) -> list[Standing]:
        """Returns what would leave a tier next, first the first; nothing where none leaves."""
        now = datetime.now(UTC)
        with self._database.read() as connection:
            rows = _weakest(connection, checked_tier(tier), checked_limit(limit))
            found = load_rows(connection, rows)
            held = _count(connection, tier)
        return [_standing(found[row], now, place, held) for place, row in enumerate(rows)]

    def _any(self, query: Select[Any]) -> bool:
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def _due(self) -> bool:
        if self.uses:
            return True
        faded = MemoryRow.retention < policies.faded_below("working", datetime.now(UTC))
        with self._database.read() as connection:
            return _count(connection, "working", faded) > 0 or any(
                policies.excess(tier, _count(connection, tier)) for tier in policies.ROOM
            )

    def _settle_slice(self) -> int:
        with self._counted(_SETTLING) as (change, taken):
            _write_uses(change, taken)
            return sum(_make_room(change, tier, _SETTLING) for tier in _BOUNDED)

    @contextmanager
    def _counted(self, limit: int) -> Iterator[tuple[Change, Mapping[int, Use]]]:
        """Opens a transaction and gives uses to write in it; where it fails they stay counted."""
        taken = self.uses.take(limit)
        try:
            with self._database.write() as (connection, revision):
                change = Change(connection, revision, datetime.now(UTC))
                yield change, taken
                journal.write_each(connection, change.noted, change.now)
        except BaseException:
            self.uses.add(taken)
            raise


def _used(memory: Memory, use: Use, outcome: float | None = None) -> Memory:
    """Returns a memory after it was used."""
    last = use.last if memory.last_used is None else max(memory.last_used, use.last)
    known = memory.outcome
    return policies.weighed(
        replace(
            memory,
            uses=memory.uses + use.count,
            last_used=last,
            outcome=known if outcome is None else policies.blended_outcome(known, outcome),
        )
    )


def _write_uses(change: Change, uses: Mapping[int, Use]) -> None:
    if uses:
        current = [MemoryRow.row.in_(list(uses)), MemoryRow.superseded_by.is_(None)]
        _use(change, uses, load_memories(change.connection, current), None)


def _use(
    change: Change, uses: Mapping[int, Use], found: Mapping[int, Memory], outcome: float | None
) -> list[Memory]:
    changed = {
        row: arranged(change, row, _used(memory, uses[row], outcome), "it was used")
        for row, memory in found.items()
    }
    save_standing(change.connection, changed)
    return list(changed.values())


def arranged(change: Change, row: int, memory: Memory, why: str) -> Memory:
    """Returns a memory that was used or repeated, back from the archive and in its due tier."""
    if memory.archived is not None:
        memory = _restored(change, row, memory, why)
    move = policies.after_use(memory)
    if move is None or move.tier is None:
        return memory
    return _moved(change, row, memory, move)


def _restored(change: Change, row: int, memory: Memory, why: str) -> Memory:
    change.note(row, "restored", f"back to {memory.tier}: {why}")
    change.filled.add(memory.tier)
    return replace(memory, archived=None)


def _moved(change: Change, row: int, memory: Memory, move: policies.Move) -> Memory:
    target = move.tier or "the archive"
    change.note(row, move.action, f"{memory.tier} to {target}: {move.reason}")
    if move.tier is None:
        return replace(memory, archived=change.now)
    change.filled.add(move.tier)
    return replace(memory, tier=move.tier)


def _make_room(change: Change, tier: str, limit: int) -> int:
    if tier == "working":
        faded = MemoryRow.retention < policies.faded_below(tier, change.now)
        rows = _weakest(change.connection, tier, limit, faded)
        return _leave(change, rows, "its task never ended and it has faded")
    going = min(policies.excess(tier, _count(change.connection, tier)), limit)
    if not going:
        return 0
    why = f"{tier} is full ({policies.ROOM[tier]:,})"
    return _leave(change, _weakest(change.connection, tier, going), why)


def _leave(change: Change, rows: Sequence[int], why: str) -> int:
    if not rows:
        return 0
    found = load_rows(change.connection, rows)
    changed = {}
    for row, memory in found.items():
        move = policies.leaves(memory, why)
        changed[row] = _moved(change, row, memory, move)
    save_standing(change.connection, changed)
    return len(changed)


def _count(connection: Connection, tier: str, *where: ColumnElement[bool]) -> int:
    query = _COUNT.where(*where) if where else _COUNT
    return connection.execute(query, {"tier": tier}).scalar_one()


def _weakest(
    connection: Connection, tier: str, limit: int, *where: ColumnElement[bool]
) -> Sequence[int]:
    query = _WEAKEST.where(*where).limit(limit)
    return connection.execute(query, {"tier": tier}).scalars().all()


def _standing(memory: Memory, now: datetime, before: int, held: int) -> Standing:
    parts = policies.strength_parts(memory, now)
    strength = min(1.0, max(0.0, sum(part.weight for part in parts)))
    return Standing(memory, strength, parts, _next(memory, before, held))


def _next(memory: Memory, before: int, held: int) -> str:
    if memory.superseded_by is not None:
        return f"replaced by {memory.superseded_by}; stays in its history until that is forgotten"
    if memory.archived is not None:
        return f"archived; comes back to {memory.tier} when it is used, goes only if forgotten"
    if policies.retention(memory) is None:
        bound = memory.tier in policies.ROOM or memory.tier == "working"
        return "stays: marked 1.0" if bound else f"stays: {memory.tier} memory has no bound"
    move = policies.leaves(memory, "then")
    target = move.tier or "the archive"
    if memory.tier == "working":
        return f"goes to {target} when the task {memory.task} ends or it fades ({move.reason})"
    room = policies.ROOM[memory.tier]
    return (
        f"number {before + 1} of {held:,} to leave {memory.tier} once it holds more than "
        f"{room:,}; goes to {target} ({move.reason})"
    )
