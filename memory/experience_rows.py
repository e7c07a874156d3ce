"""Experiences as rows of their table: written, read, and told apart by their strategy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, insert, select

from ryzanstein.memory.records import Experience, Lesson
from ryzanstein.memory.schema import ExperienceRow

__all__ = [
    "as_columns",
    "experiences_of",
    "insert_experiences",
    "load_experiences",
    "strategy_key",
]

_LISTS = ("tools", "steps")
# Built once: putting a statement of so many columns together takes longer than running it.
_SELECTED = select(
    ExperienceRow.row, *(getattr(ExperienceRow, name) for name in Experience.__slots__)
).order_by(ExperienceRow.row)
_BY_ROWS = _SELECTED.where(ExperienceRow.row.in_(bindparam("rows", expanding=True)))


def strategy_key(strategy: str, tools: Sequence[str]) -> str | None:
    """Digest of a strategy, letter case and spacing aside; None where nothing was said of it."""
    words = " ".join(strategy.casefold().split())
    if not words and not tools:
        return None
    text = json.dumps([words, list(tools)])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def as_columns(experience: Experience) -> dict[str, Any]:
    """The columns of an experience, lists as JSON; all but row and revision."""
    fields = {name: getattr(experience, name) for name in Experience.__slots__}
    lists = {name: json.dumps(fields[name]) for name in _LISTS}
    lessons = json.dumps([asdict(lesson) for lesson in experience.lessons])
    return {**fields, **lists, "lessons": lessons}


def insert_experiences(
    connection: Connection, experiences: Sequence[Experience], revision: int
) -> list[int]:
    """Inserts rows and returns their numbers, in order."""
    if not experiences:
        return []
    values = [{**as_columns(one), "revision": revision} for one in experiences]
    connection.execute(insert(ExperienceRow), values)
    ids = [one.id for one in experiences]
    inserted = select(ExperienceRow.id, ExperienceRow.row).where(ExperienceRow.id.in_(ids))
    rows = {found.id: found.row for found in connection.execute(inserted)}
    return [rows[id] for id in ids]


def load_experiences(
    connection: Connection, where: Sequence[ColumnElement[bool]]
) -> dict[int, Experience]:
    """Returns the experiences that meet all conditions, by row number."""
    return _records(connection.execute(_SELECTED.where(*where)))


def experiences_of(connection: Connection, rows: Sequence[int]) -> dict[int, Experience]:
    """Returns the experiences of these rows that are there, by row number."""
    return _records(connection.execute(_BY_ROWS, {"rows": list(rows)})) if len(rows) else {}


def _records(rows: Iterable[Row[Any]]) -> dict[int, Experience]:
    found: dict[int, Experience] = {}
    for one in rows:
        fields: dict[str, Any] = dict(one._mapping)
        row = fields.pop("row")
        lists = {name: tuple(json.loads(fields[name])) for name in _LISTS}
        lessons = tuple(Lesson(**one) for one in json.loads(fields["lessons"]))
        found[row] = Experience(**{**fields, **lists, "lessons": lessons})
    return found
