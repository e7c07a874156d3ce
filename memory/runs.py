"""Runs of the orchestrator, kept so that they can be looked up, stopped and gone on with.

save ─> running ─┬─ checkpoint, beat        by its owner, the process that is at it
                 ├─ ask_to_stop             by any process; the owner looks for it
                 ├─> done │ failed │ cancelled
                 └─> interrupted            the owner is gone
claim: interrupted, failed, cancelled ─> running, with another owner

Who was silent for so long that another process took the run over writes to it no more: each write
of an owner names it.
"""

from __future__ import annotations

import builtins
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, case, func, insert, select, update

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.checks import checked_limit, checked_name, checked_text, cleaned
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Run, RunTaken
from ryzanstein.memory.schema import RunRow

__all__ = ["STATUSES", "RunStore"]

STATUSES = ("running", "interrupted", "done", "failed", "cancelled")
_COUNTED = ("verified", "tokens", "seconds", "error")
_MOST_COUNTED = 100_000


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
        owner: str | None = None,
        checkpoint: dict[str, Any] | None = None,
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
            owner=owner,
            seen=now if owner else None,
        )
        values = {name: getattr(run, name) for name in Run.__slots__}
        values["result"] = _as_json(run.result)
        values["checkpoint"] = None if checkpoint is None else _as_json(checkpoint)
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
        checkpoint: dict[str, Any] | None = None,
        owner: str | None = None,
    ) -> Run:
        """Changes what is given and leaves the rest; the keys of `result` are merged in.

        With an `owner`, only as long as the run is its own.

        Raises:
            InvalidRequest: No run has that id, or the status is none.
            RunTaken: Another owner has it.
        """
        values: dict[str, Any] = {
            "status": None if status is None else _checked_status(status),
            "agent": agent or None,
            "model": model or None,
            "checkpoint": None if checkpoint is None else _as_json(checkpoint),
        }
        with self._database.write() as (connection, _):
            old = _owned(connection, id, owner)
            values["result"] = _as_json({**old.result, **(result or {})}) if result else None
            return _changed(
                connection, id, **{key: v for key, v in values.items() if v is not None}
            )

    def beat(self, id: str, owner: str, *, result: dict[str, Any] | None = None) -> Run:
        """Says that the owner is at it; the keys of `result` are merged in.

        Raises:
            InvalidRequest: No run has that id.
            RunTaken: Another owner has it.
        """
        with self._database.write() as (connection, _):
            old = _owned(connection, id, owner)
            kept = {"result": _as_json({**old.result, **result})} if result else {}
            return _changed(connection, id, seen=datetime.now(UTC), **kept)

    def ask_to_stop(self, id: str) -> bool:
        """Asks the owner of a run to stop it; says whether it is under way.

        Raises:
            InvalidRequest: No run has that id.
        """
        with self._database.write() as (connection, _):
            running = _required(connection, id).status == "running"
            if running:
                connection.execute(update(RunRow).where(RunRow.id == id).values(stopping=True))
        return running

    def stopping(self, id: str) -> bool:
        """Whether a run was asked to stop."""
        with self._database.read() as connection:
            found = connection.execute(select(RunRow.stopping).where(RunRow.id == id))
            return bool(found.scalar_one_or_none())

    def checkpoint(self, id: str) -> dict[str, Any] | None:
        """The state that a run goes on from; None where it left none.

        Raises:
            InvalidRequest: No run has that id, or what it left is damaged.
        """
        with self._database.read() as connection:
            _required(connection, id)
            kept = connection.execute(select(RunRow.checkpoint).where(RunRow.id == id))
            text = kept.scalar_one()
        try:
            found = None if text is None else json.loads(text)
        except ValueError as error:
            raise _damaged(id) from error
        if found is not None and not isinstance(found, dict):
            raise _damaged(id)
        return found

    def interrupt(self, id: str, gone: str | None, *, result: dict[str, Any]) -> Run:
        """Closes a run whose owner is gone, unless another one has it by now.

        Args:
            id: The run.
            gone: The owner that is gone.
            result: Keys that are merged in.

        Raises:
            InvalidRequest: No run has that id.
        """
        with self._database.write() as (connection, _):
            old = _required(connection, id)
            if old.status != "running" or old.owner != gone:
                return old
            kept = _as_json({**old.result, **result})
            return _changed(connection, id, status="interrupted", result=kept)

    def claim(self, id: str, owner: str) -> Run:
        """Takes a run over to go on with it; of several processes that try, one gets it.

        Raises:
            InvalidRequest: No run has that id, it is done, or somebody is at it.
        """
        with self._database.write() as (connection, _):
            old = _required(connection, id)
            if old.status == "done":
                raise InvalidRequest(f"The run {id} is done.", hint="get_run has its answer.")
            if old.status == "running":
                raise InvalidRequest(
                    f"The run {id} is under way.", hint="Watch it, or cancel it first."
                )
            now = datetime.now(UTC)
            return _changed(connection, id, status="running", owner=owner, seen=now, stopping=False)

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

    def since(self, moment: datetime) -> builtins.list[Run]:
        """Returns the runs from a moment on, newest first, to be counted: at most 100,000.

        Of what came of them there is only what `_COUNTED` names; the rest holds whole answers.
        """
        columns = {name: getattr(RunRow, name) for name in Run.__slots__}
        if self._database.is_sqlite:  # which picks them out ten times as fast as json.loads
            paths = (f"$.{name}" for name in _COUNTED)
            picked = func.json_extract(RunRow.result, *paths)
            columns["result"] = case((func.json_valid(RunRow.result) == 1, picked)).label("result")
        query = select(*columns.values()).where(RunRow.created >= moment)
        query = query.order_by(RunRow.created.desc(), RunRow.id).limit(_MOST_COUNTED)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [_run(row, _counted) for row in rows]


def _counted(text: str | None) -> dict[str, Any]:
    """What `since` counts, of a whole result or of what was picked out of it."""
    with suppress(ValueError, TypeError):
        found = json.loads(text or "")
        if isinstance(found, list) and len(found) == len(_COUNTED):
            return dict(zip(_COUNTED, found, strict=True))
    return {name: _result(text).get(name) for name in _COUNTED}


def _result(text: str | None) -> dict[str, Any]:
    """What came of a run; one that is damaged is no ground to show no run at all."""
    try:
        found = json.loads(text or "")
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    message = "What came of this run is damaged."
    return {"error": {"code": StorageError.code, "message": message, "hint": ""}}


def _columns() -> tuple[Any, ...]:
    return tuple(getattr(RunRow, name) for name in Run.__slots__)


def _load(connection: Connection, id: str) -> Run | None:
    row = connection.execute(select(*_columns()).where(RunRow.id == id)).one_or_none()
    return None if row is None else _run(row)


def _required(connection: Connection, id: str) -> Run:
    found = _load(connection, id)
    if found is None:
        raise InvalidRequest(f"No run has the id {id!r}.", hint="List the runs first.")
    return found


def _owned(connection: Connection, id: str, owner: str | None) -> Run:
    found = _required(connection, id)
    if owner is not None and found.owner != owner:
        raise RunTaken(f"Another process goes on with the run {id}.", hint="get_run shows it.")
    return found


def _damaged(id: str) -> InvalidRequest:
    return InvalidRequest(f"What the run {id} left is damaged.", hint="Give its task again.")


def _changed(connection: Connection, id: str, **values: Any) -> Run:
    values = {"updated": datetime.now(UTC), **values}
    connection.execute(update(RunRow).where(RunRow.id == id).values(**values))
    return _required(connection, id)


def _run(row: Any, read: Callable[[str | None], dict[str, Any]] = _result) -> Run:
    fields = dict(row._mapping)
    return Run(**{**fields, "result": read(fields["result"])})


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
