"""Hybrid search of one space: what is near in meaning, what shares words, what stands beside it.

    query ─┬─ vector ──> nearest rows ─┐
           └─ words  ──> best rows ────┴─> + turns around them ─> fuse ─> best, with reasons

Never the vectors alone: names, numbers and identifiers are found by their words. A question and
the turn that answers it often share nothing, but the turns around it do. What a caller asks for
(agent, tier, time, ...) holds before the search. See `fusion` for what counts how much.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, and_, select, true, tuple_

from ryzanstein.memory.database import Database
from ryzanstein.memory.dates import Stretch, mentioned
from ryzanstein.memory.fulltext import full_text_of
from ryzanstein.memory.fusion import WEIGHTS, Candidates, Shares, fuse, unrelated
from ryzanstein.memory.links import HAS_LINKS, link_reasons
from ryzanstein.memory.neighbours import AT, TURN_COLUMNS, no_sides, places_around, turn_sides
from ryzanstein.memory.past import (
    VERSION_COLUMNS,
    VERSIONS,
    older_versions,
    replaced_reasons,
    set_cosines,
)
from ryzanstein.memory.records import Reason
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.text import terms
from ryzanstein.memory.vectors.sync import SyncedIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.spaces import Space

__all__ = ["Found", "Searcher"]

# So many of the best of either side are candidates, and the turns around them.
_CANDIDATES = 50
# Turns around them may match fewer words.
_MATCHED = 300
# With a filter so many times the nearest are asked for, and then so many in all.
_WIDER = 4
_LONGEST = 2_000
# Cosine from which a text is the query in other letters or order.
_SAME = 0.995

_SAYS = {
    "neighbours": "words of the turns around it",
    "session": "words of its whole session",
    "speaker": "said by somebody the query names",
    "substance": "how much it states",
    "time": "when the query says, or near",
}

Conditions = Sequence[ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Found:
    """One row that was found."""

    row: int
    score: float
    similarity: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One query: its vector, what its hits must meet, and the time it names."""

    query: str
    vector: NDArray[np.float32]
    limit: int
    where: Conditions
    conditions: ColumnElement[bool]
    stretch: Stretch | None
    past: bool

    @property
    def wanted(self) -> int:
        """How many of the best of either side are looked at."""
        return max(_CANDIDATES, self.limit)

    @property
    def enough(self) -> int:
        """How many of the nearest must meet the conditions."""
        return max(_CANDIDATES // 2, self.limit)


class Searcher:
    """Searches one space.

    Args:
        database: The store's database.
        space: Memories or experiences.
        embedder: Embeds the queries.
        graph_from: Rows from which the vector index builds a graph.
    """

    def __init__(
        self, database: Database, space: Space, embedder: Embedder, *, graph_from: int
    ) -> None:
        self.synced = SyncedIndex(database, space, embedder, graph_from=graph_from)
        self.full_text = full_text_of(database)
        self._database = database
        self._space = space
        self._embedder = embedder
        row, own = space.table.row, space.standing_columns
        extra = (*TURN_COLUMNS, HAS_LINKS) if space.has_turns else ()
        self._reading = select(row, *extra, *own)
        self._reading_times = select(row, AT, *extra, *own)
        self._reading_past = select(row, AT, *VERSION_COLUMNS, *extra, *own)
        self._own = len(own)

    def search(
        self,
        query: str,
        limit: int,
        where: Conditions = (),
        standing: Conditions = (),
        *,
        now: datetime | None = None,
        past: bool = False,
        vector: NDArray[np.float32] | None = None,
    ) -> list[Found]:
        """Returns at most `limit` rows, best first.

        Args:
            query: What to look for.
            limit: How many.
            where: Conditions on the space's table; they hold before the search, not after.
            standing: Likewise, but nearly every row meets them.
            now: What "last week" in the query refers to; None means the present.
            past: Whether memories that were replaced are meant too; the conditions say when.
            vector: The query's, where the caller has it already.
        """
        now = now or datetime.now(UTC)
        self.synced.catch_up()
        asked = _Asked(
            query=query,
            vector=self._embedder.embed([query])[0] if vector is None else vector,
            limit=limit,
            # Versions of all times would crowd out those of the one that is meant.
            where=(*where, *standing) if past else where,
            conditions=and_(true() if past else self._space.live, *where, *standing),
            stretch=mentioned(query, now) if self._space.has_turns else None,
            past=past,
        )
        with self._database.read() as connection:
            words = self._words(connection, asked, asked.where)
            known = self._known(connection, asked, words)
            if not asked.where and _mostly_gone(words, known, asked.wanted):
                # Old versions of what was corrected often, in front of the present one.
                words = self._words(connection, asked, [self._space.live])
                known = self._known(connection, asked, words)
            if not known:
                return []
            found = self._candidates(asked, list(known.values()), words, now)
            shares = fuse(found)
            best = _best(found, shares, limit)
            rows = found.rows[best].tolist()
            linked = self._linked(connection, [known[row] for row in rows])
        return [
            Found(
                row,
                float(shares.total[at]),
                float(found.cosines[at]),
                (
                    *_told(at, found, shares),
                    *self._space.reasons(now, *known[row][-self._own :]),
                    *linked.get(row, ()),
                    *(replaced_reasons(known[row]) if past else ()),
                ),
            )
            for at, row in zip(best, rows, strict=True)
        ]

    def _words(self, connection: Connection, asked: _Asked, where: Conditions) -> dict[int, float]:
        most = max(_MATCHED, asked.limit)
        space = VERSIONS if asked.past else self._space
        return self.full_text.search(connection, space, terms(asked.query), most, where)

    def _known(
        self, connection: Connection, asked: _Asked, words: Mapping[int, float]
    ) -> dict[int, Row[Any]]:
        """Reads the best of either side and, of turns, those around them."""
        row, wanted = self._space.table.row, asked.wanted
        # Without a filter nearly all of the nearest may be found.
        longest = _WIDER * wanted if asked.where else wanted
        near = self.synced.index.search(asked.vector, longest)[0].tolist()
        matching = _first(words, wanted)
        if asked.past:
            matching += older_versions(connection, near, asked.conditions, wanted)
        known = self._read(connection, asked, row.in_([*near, *matching]))
        kept = [one for one in near if one in known]
        if len(kept) < asked.enough and len(near) == longest:
            kept = self._nearest(connection, asked)
            missing = [one for one in kept if one not in known]
            known |= self._read(connection, asked, row.in_(missing))
        best = set(kept[:wanted]).union(matching)
        known = {one: known[one] for one in known if one in best}
        if self._space.has_turns:
            places = places_around(known.values(), WEIGHTS.reach)
            if places:
                beside = tuple_(MemoryRow.conversation, MemoryRow.turn).in_(places)
                known |= self._read(connection, asked, beside)
        return known

    def _nearest(self, connection: Connection, asked: _Asked) -> list[int]:
        """Rows nearest to the query among those that meet all conditions, best first.

        A filter that leaves many rows is met by most of a longer list; one that leaves few is
        enumerated.
        """
        row, index = self._space.table.row, self.synced.index
        longest = min(_LONGEST, len(index))
        near = index.search(asked.vector, longest)[0].tolist()
        meeting = select(row).where(row.in_(near), asked.conditions)
        met = set(connection.execute(meeting).scalars())
        kept = [one for one in near if one in met]
        if len(kept) < asked.enough and longest < len(index):
            allowed = connection.execute(select(row).where(asked.conditions)).scalars().all()
            rows = np.array(allowed, dtype=np.int64)
            kept = index.search(asked.vector, asked.wanted, rows)[0].tolist()
        return kept[: asked.wanted]

    def _read(
        self, connection: Connection, asked: _Asked, which: ColumnElement[bool]
    ) -> dict[int, Row[Any]]:
        reading = self._reading if asked.stretch is None else self._reading_times
        if asked.past:
            reading = self._reading_past
        # The conditions also drop rows that went away after the index had caught up.
        found = connection.execute(reading.where(which, asked.conditions)).all()
        return {one.row: one for one in found}

    def _linked(self, connection: Connection, best: Sequence[Row[Any]]) -> dict[int, list[Reason]]:
        if not self._space.has_turns:
            return {}
        linked = [one.row for one in best if one.linked]
        return link_reasons(connection, linked) if linked else {}

    def _candidates(
        self,
        asked: _Asked,
        known: Sequence[Row[Any]],
        words: Mapping[int, float],
        now: datetime,
    ) -> Candidates:
        rows = np.array([one.row for one in known], dtype=np.int64)
        standing = [sum(self._space.standing(now, *one[-self._own :])) for one in known]
        if self._space.has_turns:
            sides = turn_sides(asked.query, known, asked.stretch)
        else:
            sides = no_sides(len(known))
        cosines = self.synced.index.cosines(asked.vector, rows).astype(np.float64)
        if asked.past:
            set_cosines(self._embedder, asked.vector, known, cosines)
        matches = np.array([words.get(one.row, 0.0) for one in known])
        # Of frequent words not all rows are ranked; a text with the query's vector has its words.
        matches[(cosines > _SAME) & (matches == 0)] = matches.max(initial=0.0)
        return Candidates(
            rows=rows,
            cosines=cosines,
            words=matches,
            standing=np.array(standing),
            **sides,
        )


def _first(words: Mapping[int, float], wanted: int) -> list[int]:
    return sorted(words, key=lambda row: -words[row])[:wanted]


def _mostly_gone(words: Mapping[int, float], known: Container[int], wanted: int) -> bool:
    first = _first(words, wanted)
    return 2 * sum(row in known for row in first) < len(first)


def _best(found: Candidates, shares: Shares, limit: int) -> list[int]:
    """Positions of the best candidates, the newer first among equals."""
    order = np.lexsort((-found.rows, -shares.total))
    best: list[int] = order[~unrelated(found, shares)[order]][:limit].tolist()
    return best


def _told(at: int, found: Candidates, shares: Shares) -> list[Reason]:
    """What the sides of the search add to one candidate's score, in words."""
    words = found.words[at]
    reasons = [
        Reason("meaning", f"similarity {found.cosines[at]:.2f}", float(shares.meaning[at])),
        Reason(
            "words",
            f"word match {words:.2f}" if words > 0 else "no words in common",
            float(shares.words[at]),
        ),
    ]
    for kind, says in _SAYS.items():
        share = float(getattr(shares, kind)[at])
        if share:
            reasons.append(Reason(kind, says, share))
    return reasons
