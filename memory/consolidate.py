"""Looks for memories that say the same or the opposite, in bounded slices.

    for each memory, in the order of their rows, from where the last slice stopped:
        its nearest older neighbours of the same kind, agent and speaker that
            say the same, above the merging threshold   ->  merged into a new version
            exclude each other, at the same time        ->  kept, linked and marked
            are anything else above the proposing one   ->  counted; `proposals` lists them

A pair is met once, when the later row is looked at, so a pass costs one search a memory and what
comes later is all that is left to do. The place is kept in the database: a killed process repeats
at most a second's work, and to repeat it changes nothing. Turns of conversations and passages of
documents stay as they were said or written, events in time are no repetitions of each other, and
working memory belongs to its task; of these only `distil` makes something.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Select, select

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.agreement import Agreement, agree
from ryzanstein.memory.checks import checked_limit
from ryzanstein.memory.database import Database
from ryzanstein.memory.jobs import Place
from ryzanstein.memory.merges import contradict, merge, mergeable, parted, unmerge
from ryzanstein.memory.records import Calibration, Memory, Proposal
from ryzanstein.memory.rows import load_memories
from ryzanstein.memory.schema import EmbeddingRow, MemoryRow
from ryzanstein.memory.thresholds import load_thresholds
from ryzanstein.memory.tiers import Tiers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.vectors.sync import SyncedIndex

__all__ = ["Consolidation", "Near", "Neighbours", "Walked", "checked_seconds", "never"]

_NAME = "consolidation"
_BATCH = 64
_NEAREST, _MOST = 16, 256
# Another value moves a vector far ("is called orion", "is called vega": 0.69), and the rules, not
# the cosine, say that two texts exclude each other.
_OPPOSED_FROM = 2 / 3
_CROWDED = 0.75
_FACTS = (
    MemoryRow.tier.in_(("short_term", "long_term", "semantic")),
    MemoryRow.conversation.is_(None),
    MemoryRow.place.is_(None),
    MemoryRow.superseded_by.is_(None),
    MemoryRow.archived.is_(None),
)


def never() -> bool:
    """Stops no slice before its time."""
    return False


def checked_seconds(seconds: float) -> float:
    """Returns the length of a slice.

    Raises:
        InvalidRequest: It is negative or no number.
    """
    if not 0 <= seconds < math.inf:
        raise InvalidRequest(f"The time is {seconds}.", hint="Give a number of seconds.")
    return seconds


@dataclass(frozen=True, slots=True)
class Near:
    """An older neighbour of a memory."""

    row: int
    memory: Memory
    cosine: float


@dataclass(slots=True)
class Walked:
    """What a slice has done so far."""

    looked_at: int = 0
    proposed: int = 0
    merged: int = 0
    contradictions: int = 0
    done: bool = False

    def __add__(self, other: Walked) -> Walked:
        """Returns both together, done where the later one is."""
        return Walked(
            self.looked_at + other.looked_at,
            self.proposed + other.proposed,
            self.merged + other.merged,
            self.contradictions + other.contradictions,
            other.done,
        )


@dataclass(slots=True)
class _Found:
    """What a memory's neighbours are to it."""

    same: list[Near] = field(default_factory=list)
    against: list[tuple[Near, Agreement]] = field(default_factory=list)
    proposed: list[tuple[Near, Agreement]] = field(default_factory=list)


class Neighbours:
    """Finds the memories nearest to a vector that meet conditions.

    Args:
        database: Where they are.
        synced: Index of their vectors.
        embedder: Its model's vectors.
    """

    def __init__(self, database: Database, synced: SyncedIndex, embedder: Embedder) -> None:
        self.embedder = embedder
        self.synced = synced
        self._database = database

    def of(
        self, vector: NDArray[np.float32], least: float, where: Sequence[ColumnElement[bool]]
    ) -> list[Near]:
        """Returns what meets the conditions among the nearest 16 above a cosine, nearest first.

        Where all of those are very near, it looks at up to 256, so that a crowd of other agents'
        memories of the same text hides none.
        """
        wanted = _NEAREST
        while True:
            rows, cosines = self.synced.index.search(vector, wanted)
            if len(rows) < wanted or cosines[-1] < max(least, _CROWDED) or wanted >= _MOST:
                break
            wanted *= 4
        near = {
            int(row): float(cos) for row, cos in zip(rows, cosines, strict=True) if cos >= least
        }
        if not near:
            return []
        with self._database.read() as connection:
            found = load_memories(connection, [MemoryRow.row.in_(list(near)), *where])
        return [Near(row, found[row], cosine) for row, cosine in near.items() if row in found]

    def vectors(self, memories: dict[int, Memory]) -> dict[int, NDArray[np.float32]]:
        """Returns each memory's vector, made where it has none yet; none for texts of no words."""
        query = (
            select(MemoryRow.row, EmbeddingRow.vector)
            .join(EmbeddingRow, EmbeddingRow.memory_row == MemoryRow.row)
            .where(
                MemoryRow.row.in_(list(memories)),
                EmbeddingRow.model_id == self.embedder.model_id,
                EmbeddingRow.dimension == self.embedder.dimension,
            )
        )
        with self._database.read() as connection:
            kept = {
                row: np.frombuffer(blob, dtype="<f4") for row, blob in connection.execute(query)
            }
        missing = [row for row in memories if row not in kept]
        if missing:
            made = self.embedder.embed([memories[row].text for row in missing])
            kept.update(zip(missing, made, strict=True))
        return {row: vector for row, vector in kept.items() if vector.any()}


class Consolidation:
    """Consolidation of one store.

    Args:
        database: The store's database.
        neighbours: Finds what is near.
        tiers: Opens its transactions.
    """

    def __init__(self, database: Database, neighbours: Neighbours, tiers: Tiers) -> None:
        self._database = database
        self._neighbours = neighbours
        self._tiers = tiers

    def run(
        self, seconds: float, *, dry_run: bool = False, stop: Callable[[], bool] = never
    ) -> Walked:
        """Looks at memories until the end, the time is over, or it is told to stop.

        Args:
            seconds: How long; at least one memory is looked at.
            dry_run: Only count what would be done, and keep no place.
            stop: Asked between two memories.

        Raises:
            InvalidRequest: The time is no number of seconds.
        """
        deadline = time.monotonic() + checked_seconds(seconds)
        walked = Walked()
        limits = self.thresholds()
        terms = [limits.model_id, limits.proposes, limits.merges]
        place = Place(self._database, _NAME, terms)
        for row, memory, vector in self._after(place.row):
            if walked.looked_at and (time.monotonic() >= deadline or stop()):
                break
            self._look(row, memory, vector, limits, walked, dry_run)
            walked.looked_at += 1
            if not dry_run:
                place.reach(row)
        else:
            walked.done = True
        place.keep()
        return walked

    def thresholds(self) -> Calibration:
        """Returns the thresholds of this store's embedding model."""
        with self._database.read() as connection:
            return load_thresholds(connection, self._neighbours.embedder.model_id)

    def proposals(self, limit: int = 20, seconds: float = 5.0) -> list[Proposal]:
        """Lists pairs that are near but were not joined, newest memories first, and says why.

        Args:
            limit: 1 to 1,000.
            seconds: How long to look for them at most.

        Raises:
            InvalidRequest: The limit or the time is out of bounds.
        """
        wanted, deadline = checked_limit(limit), time.monotonic() + checked_seconds(seconds)
        found: list[Proposal] = []
        limits = self.thresholds()
        for row, memory, vector in self._before():
            if len(found) >= wanted or time.monotonic() >= deadline:
                break
            seen = self._compare(row, memory, vector, limits)
            found += [
                Proposal(memory, near.memory, near.cosine, says.verdict, says.reasons)
                for near, says in [*seen.against, *seen.proposed]
            ]
        return found[:wanted]

    def unmerge(self, id: str) -> list[Memory]:
        """Takes a merged memory apart again; see `merges.unmerge`."""
        with self._tiers.changing(2) as change:
            return unmerge(change, id)

    def _look(
        self,
        row: int,
        memory: Memory,
        vector: NDArray[np.float32],
        limits: Calibration,
        walked: Walked,
        dry_run: bool,
    ) -> None:
        found = self._compare(row, memory, vector, limits)
        walked.proposed += len(found.proposed)
        if found.same and (dry_run or self._merge(row, memory, found.same)):
            walked.merged += 1
        elif found.same:
            walked.proposed += len(found.same)
        if dry_run:
            walked.contradictions += len(found.against)
        elif found.against:
            walked.contradictions += self._contradict(row, found.against)

    def _compare(
        self, row: int, memory: Memory, vector: NDArray[np.float32], limits: Calibration
    ) -> _Found:
        found = _Found()
        scope = [*_FACTS, *_same_scope(memory), MemoryRow.row < row]
        for near in self._neighbours.of(vector, _OPPOSED_FROM * limits.proposes, scope):
            says = agree(memory.text, near.memory.text)
            if says.verdict == "contradicts" and _at_once(memory, near.memory):
                found.against.append((near, says))
            elif near.cosine < limits.proposes:
                continue
            elif (
                says.verdict == "same"
                and near.cosine >= limits.merges
                and mergeable(memory, near.memory)
            ):
                found.same.append(near)
            else:
                found.proposed.append((near, says))
        return found

    def _merge(self, row: int, memory: Memory, same: Sequence[Near]) -> bool:
        chosen = {row: memory, **{near.row: near.memory for near in same}}
        newest = max(chosen, key=lambda one: (chosen[one].created, one))
        scores = {row: 1.0, **{near.row: near.cosine for near in same}}
        for one in list(chosen):
            # Each agrees with the memory looked at; the text that is kept must be that of all.
            if agree(chosen[one].text, chosen[newest].text).verdict != "same":
                del chosen[one], scores[one]
        if len(chosen) < 2:
            return False
        with self._database.read() as connection:
            if parted(connection, list(chosen)):
                return False
        vectors = self._neighbours.vectors(chosen)
        why = f"they say the same (similarity {min(scores.values()):.2f})"
        with self._tiers.changing(1) as change:
            return merge(change, self._neighbours.embedder, scores, vectors, why) is not None

    def _contradict(self, row: int, against: Sequence[tuple[Near, Agreement]]) -> int:
        with self._tiers.changing() as change:
            return sum(
                contradict(change, row, near.row, near.cosine, says.brief) for near, says in against
            )

    def _after(self, row: int) -> Iterator[tuple[int, Memory, NDArray[np.float32]]]:
        """Walks the facts after a row, and what is added meanwhile."""
        ordered = select(MemoryRow.row).where(*_FACTS).order_by(MemoryRow.row).limit(_BATCH)
        while rows := self._rows(ordered.where(MemoryRow.row > row)):
            yield from self._loaded(rows)
            row = rows[-1]

    def _before(self) -> Iterator[tuple[int, Memory, NDArray[np.float32]]]:
        """Walks the facts, newest rows first."""
        ordered = select(MemoryRow.row).where(*_FACTS).order_by(MemoryRow.row.desc()).limit(_BATCH)
        rows = self._rows(ordered)
        while rows:
            yield from self._loaded(rows)
            rows = self._rows(ordered.where(MemoryRow.row < rows[-1]))

    def _rows(self, query: Select[Any]) -> list[int]:
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def _loaded(self, rows: list[int]) -> Iterator[tuple[int, Memory, NDArray[np.float32]]]:
        self._neighbours.synced.catch_up()
        with self._database.read() as connection:
            found = load_memories(connection, [MemoryRow.row.in_(rows)])
        vectors = self._neighbours.vectors(found)
        return ((row, found[row], vectors[row]) for row in rows if row in vectors)


def _same_scope(memory: Memory) -> list[ColumnElement[bool]]:
    """Conditions of being somebody's memory of the same sort."""
    return [
        MemoryRow.kind == memory.kind,
        MemoryRow.agent.is_not_distinct_from(memory.agent),
        MemoryRow.speaker.is_not_distinct_from(memory.speaker),
    ]


def _at_once(one: Memory, other: Memory) -> bool:
    """Says whether there is a time at which both hold."""
    starts = [memory.valid_from for memory in (one, other) if memory.valid_from is not None]
    ends = [memory.valid_until for memory in (one, other) if memory.valid_until is not None]
    return not starts or not ends or max(starts) < min(ends)
