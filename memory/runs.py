"""Runs of the orchestrator, kept so that they can be looked up later and survive a restart."""

from __future__ import annotations

import builtins
import json
import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import checked_limit, checked_name, checked_text, cleaned
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Run
from ryzanstein.memory.schema import RunRow

__all__ = ["STATUSES", "RunStore"]

STATUSES = ("running", "done", "failed", "cancelled")


class RunStore:
    """The runs table of one database.

    Args:
        database: An open database; a MemoryStore offers its own as `.runs`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(
        self,
        task: str,
        *,
        id: str | None = None,
        status: str = "running",
        agent: str | None = None,
        model: str | None = None,
        result: dict[str, Any] | None = None,
    ) -> Run:
        """Stores a new run; durable on return.

        Raises:
            InvalidRequest: The id is taken, or the status is none.
        """
        now = datetime.now(UTC)
        run = Run(
            id=f"run_{secrets.token_hex(8)}" if id is None else checked_name(id, "run id"),
            task=checked_text(cleaned(task), "task"),
            status=_checked_status(status),
            agent=agent,
            model=model,
            result=result or {},
            created=now,
            updated=now,
        )
        values = {name: getattr(run, name) for name in Run.__slots__}
        values["result"] = _as_json(run.result)
        with self._database.write() as (connection, _):
            if _load(connection, run.id) is not None:
                raise InvalidRequest(f"There is a run {run.id} already.", hint="Update it.")
            connection.execute(insert(RunRow).values(**values))
        return run

    def update(
        self,
        id: str,
        *,
        status: str | None = None,
        agent: str | None = None,
        model: str | None = None,
        result: dict[str, Any] | None = None,
    ) -> Run:
        """Changes what is given and leaves the rest; the keys of `result` are merged in.

        Raises:
            InvalidRequest: No run has that id, or the status is none.
        """
        with self._database.write() as (connection, _):
            old = _load(connection, id)
            if old is None:
                raise InvalidRequest(f"No run has the id {id!r}.", hint="List the runs first.")
            changed = Run(
                id=old.id,
                task=old.task,
                status=old.status if status is None else _checked_status(status),
                agent=agent or old.agent,
                model=model or old.model,
                result={**old.result, **(result or {})},
                created=old.created,
                updated=datetime.now(UTC),
            )
            connection.execute(
                update(RunRow)
                .where(RunRow.id == id)
                .values(
                    status=changed.status,
                    agent=changed.agent,
                    model=changed.model,
                    result=_as_json(changed.result),
                    updated=changed.updated,
                )
            )
        return changed

    def get(self, id: str) -> Run | None:
        """Returns a run by its id."""
        with self._database.read() as connection:
            return _load(connection, id)

    def list(self, *, limit: int = 20, status: str | None = None) -> builtins.list[Run]:
        """Returns runs, newest first."""
        query = select(*_columns()).order_by(RunRow.created.desc(), RunRow.id)
        if status is not None:
            query = query.where(RunRow.status == _checked_status(status))
        with self._database.read() as connection:
            rows = connection.execute(query.limit(checked_limit(limit))).all()
        return [_run(row) for row in rows]


def _columns() -> tuple[Any, ...]:
    return tuple(getattr(RunRow, name) for name in Run.__slots__)


def _load(connection: Connection, id: str) -> Run | None:
    row = connection.execute(select(*_columns()).where(RunRow.id == id)).one_or_none()
    return None if row is None else _run(row)


def _run(row: Any) -> Run:
    fields = dict(row._mapping)
    return Run(**{**fields, "result": json.loads(fields["result"])})


def _as_json(result: dict[str, Any]) -> str:
    try:
        # ASCII only: whatever a model wrote can be stored.
        return json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"The run's result is no JSON: {error}.") from error


def _checked_status(status: str) -> str:
    if status not in STATUSES:
        raise InvalidRequest(f"{status!r} is no status.", hint=f"Use one of {', '.join(STATUSES)}.")
    return status
