"""Names that begin so, for people who type them: ids of what is kept, and tags."""

from __future__ import annotations

from typing import Any, Literal, get_args

from sqlalchemy import Select, func, select

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import checked_limit
from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import ExperienceRow, MemoryRow, MemoryTagRow, RunRow

__all__ = ["Named", "names_beginning"]

Named = Literal["memory", "experience", "run", "tag"]


def names_beginning(
    database: Database, what: Named, beginning: str, limit: int
) -> tuple[list[str], int]:
    """Returns the first names that begin so, in any case, and how many there are.

    Args:
        database: The store's database.
        what: Ids come with the newest first, tags with those of most memories.
        beginning: "" means all.
        limit: 1 to 1,000.

    Raises:
        InvalidRequest: `what` or the limit is out of bounds.
    """
    if what not in get_args(Named):
        raise InvalidRequest(f"{what!r:.40} is none of {', '.join(get_args(Named))}.")
    if "\0" in beginning:  # in no name, and PostgreSQL compares with none
        return [], 0
    query, name, order = _query(what)
    query = query.where(func.lower(name).startswith(beginning.lower(), autoescape=True))
    with database.read() as connection:
        total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
        found = connection.execute(query.order_by(*order).limit(checked_limit(limit)))
        return [str(row[0]) for row in found], int(total)


def _query(what: Named) -> tuple[Select[Any], Any, tuple[Any, ...]]:
    """What to select, the column of the name, and the order."""
    if what == "memory":
        current = MemoryRow.superseded_by.is_(None)
        return select(MemoryRow.id).where(current), MemoryRow.id, (MemoryRow.row.desc(),)
    if what == "experience":
        return select(ExperienceRow.id), ExperienceRow.id, (ExperienceRow.row.desc(),)
    if what == "run":
        return select(RunRow.id), RunRow.id, (RunRow.created.desc(), RunRow.id)
    tag = MemoryTagRow.tag
    return select(tag).group_by(tag), tag, (func.count().desc(), tag)
