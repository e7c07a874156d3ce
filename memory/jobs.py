"""Where a long job has got to, kept in the database so that it goes on after a crash.

Several processes may do the same job: each starts where the farthest one was and the place only
moves on, so at worst a part is done twice, which such a job must be able to bear.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import CursorRow

__all__ = ["Place", "load_cursor", "save_cursor"]

_SAVED_EVERY = 1.0


class Place:
    """The last row that a walk has dealt with.

    Args:
        database: Where it is kept.
        name: Of the job.
        terms: What the job depends on, as JSON; with other terms it starts anew.
    """

    def __init__(self, database: Database, name: str, terms: list[Any]) -> None:
        self._database = database
        self._name = name
        self._terms = terms
        with database.read() as connection:
            self.row = self._stored(connection)
        self._kept = self.row
        self._saved = time.monotonic()

    def reach(self, row: int) -> None:
        """Notes that a row is done; written once a second."""
        self.row = row
        if time.monotonic() - self._saved >= _SAVED_EVERY:
            self.keep()

    def keep(self) -> None:
        """Writes the place, where it has moved on."""
        if self.row == self._kept:
            return
        with self._database.write() as (connection, _):
            self.row = max(self.row, self._stored(connection))
            value = {"row": self.row, "terms": self._terms}
            save_cursor(connection, self._name, value, datetime.now(UTC))
        self._kept = self.row
        self._saved = time.monotonic()

    def _stored(self, connection: Connection) -> int:
        kept = load_cursor(connection, self._name)
        row = kept.get("row")
        return row if kept.get("terms") == self._terms and isinstance(row, int) else 0


def load_cursor(connection: Connection, name: str) -> dict[str, Any]:
    """Returns what was kept under a name; empty where nothing was, or nothing that can be read."""
    query = select(CursorRow.value).where(CursorRow.name == name)
    kept = connection.execute(query).scalar_one_or_none()
    try:
        value = json.loads(kept or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def save_cursor(connection: Connection, name: str, value: dict[str, Any], now: datetime) -> None:
    """Keeps how far a job has got."""
    values = {"value": json.dumps(value), "updated": now}
    changed = connection.execute(update(CursorRow).where(CursorRow.name == name).values(**values))
    if not changed.rowcount:
        connection.execute(insert(CursorRow).values(name=name, **values))
