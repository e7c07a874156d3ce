"""Hybrid search of one space: what is near in meaning, what shares words, what stands beside it.

    query ─┬─ vector ──> nearest rows ─┐
           └─ words  ──> best rows ────┴─> + turns around them ─> fuse ─> best, with reasons

Never the vectors alone: names, numbers and identifiers are found by their words. A question and
the turn that answers it often share nothing, but the turns around it do. What a caller asks for
(agent, tier, time, ...) holds before the search. See `fusion` for what counts how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, select, tuple_

from ryzanstein.memory.database import Database
from ryzanstein.memory.fulltext import full_text_of
from ryzanstein.memory.fusion import WEIGHTS, Candidates, Shares, fuse, unrelated
from ryzanstein.memory.links import link_reasons
from ryzanstein.memory.neighbours import TURN_COLUMNS, no_sides, places_around, turn_sides
from ryzanstein.memory.records import Reason
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.text import terms
from ryzanstein.memory.vectors.sync import SyncedIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.spaces import Space

__all__ = ["Found", "Searcher"]

_NEAR = 50
_BY_WORDS = 200
# Turns are looked at around so many of the best of either side.
_WIDENED = 50
# A filter that leaves few rows is met by enumerating them; first the search is asked for more.
_WIDER = (4, 20)
_IN_LIST = 5_000

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
        extra = TURN_COLUMNS if space.has_turns else ()
        self._columns = (space.table.row, *extra, *space.standing_columns)
        self._own = 1 + len(extra)  # where the columns of its standing begin

    def search(
        self,
        query: str,
        limit: int,
        where: Conditions = (),
        standing: Conditions = (),
        *,
        now: datetime | None = None,
    ) -> list[Found]:
        """Returns at most `limit` rows, best first.

        Args:
            query: What to look for.
            limit: How many.
            where: Conditions on the space's table; they hold before the search, not after.
            standing: Likewise, but nearly every row meets them.
            now: What "last week" in the query refers to; None means the present.
        """
        now = now or datetime.now(UTC)
        vector = self._embedder.embed([query])[0]
        self.synced.catch_up()
        conditions = (self._space.live, *where, *standing)
        with self._database.read() as connection:
            near = self._nearest(connection, vector, max(_NEAR, limit), conditions)
            words = self.full_text.search(
                connection, self._space, terms(query), max(_BY_WORDS, limit), conditions
            )
            known = self._known(connection, near, words, conditions)
            if not known:
                return []
            found = self._candidates(query, vector, list(known.values()), words, now)
            shares = fuse(found)
            best = _best(found, shares, limit)
            rows = found.rows[best].tolist()
            linked = link_reasons(connection, rows) if self._space.has_turns else {}
        return [
            Found(
                row,
                float(shares.total[at]),
                float(found.cosines[at]),
                (
                    *_told(at, found, shares),
                    *self._space.standing(now, *known[row][self._own :]),
                    *linked.get(row, ()),
                ),
            )
            for at, row in zip(best, rows, strict=True)
        ]

    def _nearest(
        self, connection: Connection, vector: NDArray[np.float32], wanted: int, where: Conditions
    ) -> list[int]:
        """Rows nearest to the query among those that meet all conditions, best first."""
        index = self.synced.index
        for factor in _WIDER:
            near = index.search(vector, factor * wanted)[0].tolist()
            meeting = self._meeting(connection, near, where)
            kept = [row for row in near if row in meeting]
            if len(kept) >= wanted or len(near) < factor * wanted:
                return kept[:wanted]
        allowed = connection.execute(select(self._space.table.row).where(*where)).scalars()
        rows = np.fromiter(allowed, dtype=np.int64)
        kept = index.search(vector, wanted, rows)[0].tolist()
        return kept

    def _meeting(self, connection: Connection, rows: Sequence[int], where: Conditions) -> set[int]:
        row = self._space.table.row
        meeting: set[int] = set()
        for start in range(0, len(rows), _IN_LIST):
            query = select(row).where(row.in_(rows[start : start + _IN_LIST]), *where)
            meeting.update(connection.execute(query).scalars())
        return meeting

    def _known(
        self,
        connection: Connection,
        near: Sequence[int],
        words: Mapping[int, float],
        where: Conditions,
    ) -> dict[int, Row[Any]]:
        """Reads what either side has found and, of turns, those around the best of them."""
        query = select(*self._columns)
        rows = list(dict.fromkeys([*near, *words]))
        # Also drops rows that went away after the index had caught up.
        found = connection.execute(query.where(self._space.table.row.in_(rows), *where))
        known = {one.row: one for one in found}
        if not self._space.has_turns:
            return known
        best = [*near[:_WIDENED], *sorted(words, key=lambda row: -words[row])[:_WIDENED]]
        chosen = [known[row] for row in best if row in known]
        places = places_around(chosen, known.values(), WEIGHTS.reach)
        if places:
            beside = tuple_(MemoryRow.conversation, MemoryRow.turn).in_(places)
            around = connection.execute(query.where(beside, *where))
            known.update((one.row, one) for one in around)
        return known

    def _candidates(
        self,
        query: str,
        vector: NDArray[np.float32],
        known: Sequence[Row[Any]],
        words: Mapping[int, float],
        now: datetime,
    ) -> Candidates:
        rows = np.array([one.row for one in known], dtype=np.int64)
        standing = [
            sum(reason.weight for reason in self._space.standing(now, *one[self._own :]))
            for one in known
        ]
        sides = turn_sides(query, known, now) if self._space.has_turns else no_sides(len(known))
        return Candidates(
            rows=rows,
            cosines=self.synced.index.cosines(vector, rows).astype(np.float64),
            words=np.array([words.get(one.row, 0.0) for one in known]),
            standing=np.array(standing),
            **sides,
        )


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
