"""What other processes changed in the database since one last looked.

Every writing transaction raises one number, so whether anybody wrote is one small query; a database
remembers the numbers of its own transactions, and what is later and not among them is of others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, or_, select

from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import ExperienceRow, MemoryRow, RevisionRow, RunRow

__all__ = ["Changes", "ChangesOfOthers"]

_MOST = 200
_REVISION = select(RevisionRow.value)


@dataclass(frozen=True, slots=True)
class Changes:
    """Ids of what changed, the latest 200 of each kind; of what was deleted there are none."""

    memories: tuple[str, ...]
    experiences: tuple[str, ...]
    runs: tuple[str, ...]


class ChangesOfOthers:
    """Tells at each look what other processes changed since the look before.

    Args:
        database: An open database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.read() as connection:
            self._revision = connection.execute(_REVISION).scalar_one()
        self._at = datetime.now(UTC)

    def look(self) -> Changes | None:
        """Returns what others changed; None where nobody but this process wrote."""
        seen, now = self._revision, datetime.now(UTC)
        with self._database.read() as connection:
            revision = connection.execute(_REVISION).scalar_one()
            own = frozenset(one for one in self._database.own_since(seen) if one <= revision)
            changes = None
            if revision - seen > len(own):
                changes = Changes(
                    _rows(connection, MemoryRow, seen, own),
                    _rows(connection, ExperienceRow, seen, own),
                    self._runs(connection),
                )
        self._revision, self._at = revision, now
        return changes

    def _runs(self, connection: Connection) -> tuple[str, ...]:
        touched = or_(RunRow.updated >= self._at, RunRow.seen >= self._at)
        query = select(RunRow.id).where(touched).order_by(RunRow.updated.desc()).limit(_MOST)
        return tuple(connection.execute(query).scalars())


def _rows(
    connection: Connection,
    table: type[MemoryRow] | type[ExperienceRow],
    seen: int,
    own: frozenset[int],
) -> tuple[str, ...]:
    query = (
        select(table.id, table.revision)
        .where(table.revision > seen)
        .order_by(table.revision.desc())
        .limit(_MOST)
    )
    return tuple(id for id, revision in connection.execute(query) if revision not in own)
