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

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sqlalchemy import Select, select

from ryzanstein.memory.agreement import Agreement, agree
from ryzanstein.memory.checks import checked_limit, checked_seconds
from ryzanstein.memory.database import Database
from ryzanstein.memory.jobs import Place
from ryzanstein.memory.merges import contradict, merge, mergeable, parted, unmerge
from ryzanstein.memory.near import Near, Neighbours
from ryzanstein.memory.records import Calibration, Memory, Proposal
from ryzanstein.memory.rows import load_rows
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.thresholds import load_thresholds
from ryzanstein.memory.tiers import Tiers

__all__ = ["RELATED_FROM", "Consolidation", "Walked", "never"]

_NAME = "consolidation"
# So many are searched for and loaded together, and dealt with before the time is looked at: about
# 10 ms. Each for itself would take twice as long.
_BATCH = 4
# Another value moves a vector far ("is called orion", "is called vega": 0.69), and the rules, not
# the cosine, say that two texts exclude each other. A share of the proposing threshold.
RELATED_FROM = 2 / 3
_TIERS = ("short_term", "long_term", "semantic")
_FACTS = (
    MemoryRow.tier.in_(_TIERS),
    MemoryRow.conversation.is_(None),
    MemoryRow.place.is_(None),
    MemoryRow.superseded_by.is_(None),
    MemoryRow.archived.is_(None),
)


def never() -> bool:
    """Stops no slice before its time."""
    return False


@dataclass(slots=True)
class Walked:
    """What a slice has done so far."""

    looked_at: int = 0
    proposed: int = 0
    merged: int = 0
    contradictions: int = 0
    done: bool = False


@dataclass(slots=True)
class _Found:
    """What a memory's neighbours are to it."""

    same: list[Near] = field(default_factory=list)
    against: list[tuple[Near, Agreement]] = field(default_factory=list)
    proposed: list[tuple[Near, Agreement]] = field(default_factory=list)


_Step = tuple[int, Memory, list[Near]]


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
            seconds: How long; at least four memories are looked at.
            dry_run: Only count what would be done, and keep no place.
            stop: Asked after every four memories.

        Raises:
            InvalidRequest: The time is no number of seconds.
        """
        deadline = time.monotonic() + checked_seconds(seconds)
        walked = Walked()
        limits = self.thresholds()
        terms = [limits.model_id, limits.proposes, limits.merges]
        place = Place(self._database, _NAME, terms)
        batches = self._after(place.row, RELATED_FROM * limits.proposes)
        while not (walked.looked_at and (time.monotonic() >= deadline or stop())):
            batch = next(batches, None)
            if batch is None:
                walked.done = True
                break
            for row, memory, near in batch:
                self._look(row, memory, _compare(row, memory, near, limits), walked, dry_run)
                walked.looked_at += 1
                if not dry_run:
                    place.reach(row)
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
        for row, memory, near in chain.from_iterable(self._before(limits.proposes)):
            if len(found) >= wanted or time.monotonic() >= deadline:
                break
            seen = _compare(row, memory, near, limits)
            found += [
                Proposal(memory, one.memory, one.cosine, says.verdict, says.reasons)
                for one, says in [*seen.against, *seen.proposed]
            ]
        return found[:wanted]

    def unmerge(self, id: str) -> list[Memory]:
        """Takes a merged memory apart again; see `merges.unmerge`."""
        with self._tiers.changing(2) as change:
            return unmerge(change, id)

    def _look(self, row: int, memory: Memory, found: _Found, walked: Walked, dry_run: bool) -> None:
        walked.proposed += len(found.proposed)
        if found.same and (dry_run or self._merge(row, memory, found.same)):
            walked.merged += 1
        elif found.same:
            walked.proposed += len(found.same)
        if dry_run:
            walked.contradictions += len(found.against)
        elif found.against:
            walked.contradictions += self._contradict(row, found.against)

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

    def _after(self, row: int, least: float) -> Iterator[list[_Step]]:
        """Walks the facts after a row, and what is added meanwhile."""
        ordered = select(MemoryRow.row).where(*_FACTS).order_by(MemoryRow.row).limit(_BATCH)
        while rows := self._rows(ordered.where(MemoryRow.row > row)):
            yield self._loaded(rows, least)
            row = rows[-1]

    def _before(self, least: float) -> Iterator[list[_Step]]:
        """Walks the facts, newest rows first."""
        ordered = select(MemoryRow.row).where(*_FACTS).order_by(MemoryRow.row.desc()).limit(_BATCH)
        rows = self._rows(ordered)
        while rows:
            yield self._loaded(rows, least)
            rows = self._rows(ordered.where(MemoryRow.row < rows[-1]))

    def _rows(self, query: Select[Any]) -> list[int]:
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def _loaded(self, rows: list[int], least: float) -> list[_Step]:
        self._neighbours.synced.catch_up()
        with self._database.read() as connection:
            found = load_rows(connection, rows)
        vectors = self._neighbours.vectors(found)
        chosen = [row for row in rows if row in vectors]
        near = self._neighbours.around([vectors[row] for row in chosen], least)
        return [(row, found[row], around) for row, around in zip(chosen, near, strict=True)]


def _compare(row: int, memory: Memory, around: Sequence[Near], limits: Calibration) -> _Found:
    """Says what each older neighbour of the same scope is to a memory."""
    found = _Found()
    for near in around:
        if near.row >= row or not _is_fact(near.memory) or not _same_scope(memory, near.memory):
            continue
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


def _is_fact(memory: Memory) -> bool:
    """Says of a loaded memory what _FACTS says of a row."""
    return (
        memory.tier in _TIERS
        and memory.conversation is None
        and memory.place is None
        and memory.superseded_by is None
        and memory.archived is None
    )


def _same_scope(one: Memory, other: Memory) -> bool:
    return (one.kind, one.agent, one.speaker) == (other.kind, other.agent, other.speaker)


def _at_once(one: Memory, other: Memory) -> bool:
    """Says whether there is a time at which both hold."""
    starts = [memory.valid_from for memory in (one, other) if memory.valid_from is not None]
    ends = [memory.valid_until for memory in (one, other) if memory.valid_until is not None]
    return not starts or not ends or max(starts) < min(ends)
