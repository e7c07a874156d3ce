"""Search by words, on each database by what it has; the scores are BM25 or come near it.

    fts5      SQLite: bm25() of its full text tables
    tsvector  PostgreSQL: a GIN index finds rows; rarity · ts_rank · length normalisation scores
    like      SQLite built without FTS5: LIKE proposes, BM25 over what it found scores

ts_rank of one word is w·(1 + 1/4 + 1/9 + …)/1.645 over its occurrences: it levels off as BM25's
share of the term frequency does, but knows nothing of rarity and length, which are put in here.
Ranking the matches of frequent words takes longest and changes least, so the rarest words count,
as many as together match a few thousand rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    TableClause,
    TextClause,
    bindparam,
    cast,
    column,
    false,
    func,
    literal_column,
    or_,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from ryzanstein.memory.text import match_query, overlap_scores

if TYPE_CHECKING:
    from ryzanstein.memory.database import Database
    from ryzanstein.memory.spaces import Space

__all__ = ["FullText", "full_text_of"]

# BM25 of 20,000 rows takes 30 ms, and what only frequent words match is found by its meaning.
_RANKED = 2_000
_READ = 500
_LIKE_TERMS = 8
_K1, _B = 1.2, 0.75
_TS_RANK = math.pi**2 / 6  # ts_rank divides by this
_SAMPLE = 500


class FullText(Protocol):
    """Search by words in one kind of database."""

    name: str

    def search(
        self,
        connection: Connection,
        space: Space,
        words: Sequence[str],
        limit: int,
        where: Sequence[ColumnElement[bool]] = (),
    ) -> dict[int, float]:
        """Returns scores, zero or more, of the best rows that hold any of the words.

        Rows that are not live any more may be among them where there are no conditions.

        Args:
            connection: An open transaction.
            space: Where to search.
            words: From `text.terms`.
            limit: How many rows at most.
            where: Further conditions on the space's table.
        """


def full_text_of(database: Database) -> FullText:
    """Returns the best that the database offers."""
    if not database.is_sqlite:
        return TSVector()
    return FTS5() if database.full_text else Like()


class FTS5:
    """The full text tables of SQLite."""

    name = "fts5"

    def search(
        self,
        connection: Connection,
        space: Space,
        words: Sequence[str],
        limit: int,
        where: Sequence[ColumnElement[bool]] = (),
    ) -> dict[int, float]:
        """As FullText.search."""
        often = self._often(connection, space, words) if words else {}
        kept = _rarest(often)
        if not kept:
            return {}
        if often[kept[0]] > _RANKED:
            # bm25() reads the whole list of each of its words.
            rarest = sorted(filter(often.get, often), key=often.__getitem__)
            return self._newest(connection, space, rarest, limit, where)
        found = _ranked_among(space).where(*where) if where else _ranked(space)
        matched = connection.execute(found, {"query": match_query(kept), "most": limit})
        return {row: max(score, 0.0) for row, score in matched.all()}

    @staticmethod
    def _often(connection: Connection, space: Space, words: Sequence[str]) -> dict[str, int]:
        """How many rows match each word, counted up to one more than are ranked."""
        queries = {f"word{at}": match_query([word]) for at, word in enumerate(words)}
        counted = connection.execute(
            _counts(space.full_text, len(words)), {**queries, "most": _RANKED + 1}
        ).one()
        return dict(zip(words, counted, strict=True))

    @staticmethod
    def _newest(
        connection: Connection,
        space: Space,
        words: Sequence[str],
        limit: int,
        where: Sequence[ColumnElement[bool]] = (),
    ) -> dict[int, float]:
        """Scores the newest rows that hold the two rarest words, where all are frequent."""
        name = space.full_text
        both = " AND ".join(match_query([word]) for word in words[:2])
        matches = table(name, column("rowid", Integer))
        found = (
            select(space.table.row, *space.texts)
            .join_from(matches, space.table, space.table.row == matches.c.rowid)
            .where(text(f"{name} MATCH :query").bindparams(query=both), space.live, *where)
            .order_by(matches.c.rowid.desc())
            .limit(_READ)
        )
        return _scored(connection, found, words, limit)


class TSVector:
    """The tsvector columns of PostgreSQL."""

    name = "tsvector"

    def search(
        self,
        connection: Connection,
        space: Space,
        words: Sequence[str],
        limit: int,
        where: Sequence[ColumnElement[bool]] = (),
    ) -> dict[int, float]:
        """As FullText.search."""
        often = self._often(connection, space, words)
        kept = _rarest(often)
        if not kept:
            return {}
        documents, average = self._size(connection, space)
        held: ColumnElement[Any] = literal_column(f"{space.table.__tablename__}.words")
        first, second = space.word_weights
        weights: ColumnElement[Any] = literal_column(
            f"CAST('{{0, 0, {second}, {first}}}' AS real[])"
        )  # of D, C, B, A
        total: ColumnElement[float] = literal_column("0.0", Float)
        for query in kept:
            rarity = math.log(1 + (documents - often[query] + 0.5) / (often[query] + 0.5))
            rank = func.ts_rank(weights, held, cast(query, TSQUERY), type_=Float)
            total = total + rarity * _TS_RANK * rank
        length = func.length(held, type_=Float) / average
        score = (total * (_K1 + 1) / (1 + _K1 * (1 - _B + _B * length))).label("score")
        matching = self._matching(space, held, " | ".join(kept), where)
        if often[kept[0]] > _RANKED:
            newest = self._matching(space, held, kept[0], where)
            newest = newest.order_by(space.table.row.desc()).limit(_READ)
            matching = matching.where(space.table.row.in_(newest))
        found = matching.add_columns(score).order_by(score.desc()).limit(limit)
        return {row: float(value) for row, value in connection.execute(found)}

    @staticmethod
    def _often(connection: Connection, space: Space, words: Sequence[str]) -> dict[str, int]:
        """How many rows match each word, by the query that its stem makes."""
        count = text(
            "SELECT CAST(query AS text), "
            "(SELECT count(*) FROM "
            f"(SELECT 1 FROM {space.table.__tablename__} WHERE words @@ query LIMIT :most) part) "
            "FROM unnest(CAST(:words AS text[])) word, ryzanstein_query(word) query "
            "WHERE numnode(query) > 0"
        )
        found = connection.execute(count, {"words": list(words), "most": _RANKED + 1})
        return {query: int(number) for query, number in found}

    @staticmethod
    def _matching(
        space: Space, held: ColumnElement[Any], query: str, where: Sequence[ColumnElement[bool]]
    ) -> Select[Any]:
        matches = held.op("@@")(cast(query, TSQUERY))
        return select(space.table.row).where(matches, space.live, *where)

    @staticmethod
    def _size(connection: Connection, space: Space) -> tuple[int, float]:
        """Number of rows, by the planner's estimate where there are many, and a usual length."""
        name = space.table.__tablename__
        size = text(
            f"SELECT (SELECT reltuples FROM pg_class WHERE oid = '{name}'::regclass), "
            f"(SELECT avg(length(words)) FROM (SELECT words FROM {name} LIMIT {_SAMPLE}) part)"
        )
        documents, average = connection.execute(size).one()
        if documents < _RANKED:
            documents = connection.execute(select(func.count()).select_from(space.table)).scalar()
        return int(documents or 0), float(average or 1.0) or 1.0


class Like:
    """Substrings, where SQLite has no full text."""

    name = "like"

    def search(
        self,
        connection: Connection,
        space: Space,
        words: Sequence[str],
        limit: int,
        where: Sequence[ColumnElement[bool]] = (),
    ) -> dict[int, float]:
        """As FullText.search."""
        longest = sorted(words, key=len, reverse=True)[:_LIKE_TERMS]
        holds = or_(
            false(),
            *(
                func.lower(part).contains(word, autoescape=True)
                for part in space.texts
                for word in longest
            ),
        )
        found = (
            select(space.table.row, *space.texts)
            .where(holds, space.live, *where)
            .order_by(space.table.row.desc())
            .limit(_READ)
        )
        return _scored(connection, found, longest, limit)


def _scored(
    connection: Connection, found: Select[Any], words: Sequence[str], limit: int
) -> dict[int, float]:
    """Scores the rows of a query for row number and texts by BM25 with only them as corpus."""
    documents = {
        row: " ".join(part for part in parts if part) for row, *parts in connection.execute(found)
    }
    scores = overlap_scores(words, documents)
    best = sorted(scores, key=lambda row: -scores[row])[:limit]
    return {row: scores[row] for row in best}


@cache
def _counts(name: str, words: int) -> TextClause:
    counts = (
        f"(SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {name} MATCH :word{at} LIMIT :most))"
        for at in range(words)
    )
    return text(f"SELECT {', '.join(counts)}")


@cache
def _ranked(space: Space) -> Select[Any]:
    """The best rows of a full text table, made once: putting it together takes as long as it.

    The items themselves are left alone: looking each of them up would take longer than its score.
    """
    name = space.full_text
    weights = ", ".join(map(str, space.word_weights))
    # bm25() is the lower the better.
    rank = literal_column(f"bm25({name}, {weights})", Float)
    return (
        select(_matches(space).c.rowid, -rank)
        .where(text(f"{name} MATCH :query"))
        .order_by(rank)
        .limit(bindparam("most", type_=Integer))
    )


@cache
def _ranked_among(space: Space) -> Select[Any]:
    """The same of live rows, to be narrowed further."""
    matches, row = _matches(space), space.table.row
    return _ranked(space).join_from(matches, space.table, row == matches.c.rowid).where(space.live)


@cache
def _matches(space: Space) -> TableClause:
    return table(space.full_text, column("rowid", Integer))


def _rarest(often: Mapping[str, int]) -> list[str]:
    """Keeps the rarest words, as many as together match few enough rows to rank them all."""
    kept: list[str] = []
    total = 0
    for word in sorted(often, key=often.__getitem__):
        total += often[word]
        if kept and total > _RANKED:
            break
        kept += [word] if often[word] else []
    return kept
