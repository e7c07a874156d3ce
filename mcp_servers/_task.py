"""One task of the Tasks extension: where a call is, what it asks, and how it ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from mcp import MCPError
from mcp.server.session import ServerSession
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, InputRequests, InputResponses
from mcp_types.methods import serialize_server_result
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import BaseModel, TypeAdapter, ValidationError

from ryzanstein.mcp_servers import _background

__all__ = ["POLL_MS", "Task", "stamp", "task_id", "wire_result"]

log = logging.getLogger("ryzanstein.mcp_servers")

KEEP_MS = 3_600_000
# A task that is kept elsewhere too: what it ended with may not be there yet, or at all.
_SHORTLY_MS = 60_000
POLL_MS = 500
_RESPONSES: TypeAdapter[Any] = TypeAdapter(InputResponses)


def stamp(at: datetime) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wire_result(found: Any) -> dict[str, Any]:
    """What tools/call would have answered."""
    dumped = (
        found.model_dump(by_alias=True, mode="json", exclude_none=True)
        if isinstance(found, BaseModel)
        else dict(found or {})
    )
    return serialize_server_result("tools/call", LATEST_MODERN_VERSION, dumped)


_TASK_ID: ContextVar[str | None] = ContextVar("task_id", default=None)


def task_id() -> str | None:
    """The handle that the call at hand has, or will have if it takes long; None outside of one."""
    return _TASK_ID.get()


class Task:
    """A call that goes on behind its request.

    Args:
        id: Its handle.
        keep_ms: How long it is found after its end; None where it is found elsewhere then.

    Attributes:
        id: Its handle.
        announced: Whether the client has the handle; before, its request is still open.
        listeners: Told of each change of its status.
    """

    def __init__(self, id: str, keep_ms: int | None = KEEP_MS) -> None:
        self.id = id
        self._keep_ms = keep_ms
        self.announced = False
        self.listeners: list[Callable[[Task], None]] = []
        self._created = self._updated = datetime.now(UTC)
        self._ended: datetime | None = None
        self._message = ""
        self._status = "working"
        self._outcome: dict[str, Any] = {}
        self._requests: dict[str, Any] = {}
        self._names: dict[str, str] = {}
        self._used: set[str] = set()
        self._answers: dict[str, Any] = {}
        self._answered = asyncio.Event()
        self._work: asyncio.Future[Any] | None = None

    def begin(self, work: asyncio.Future[Any]) -> None:
        """Watches the work until it ends."""
        self._work = work
        work.add_done_callback(self._done)

    def session(self, session: ServerSession) -> Any:
        """What the call takes for its session: its progress becomes the task's message."""
        return _Session(session, self)

    def enter(self) -> None:
        """Makes what runs from here on in this context part of the task."""
        _TASK_ID.set(self.id)

    def say(self, message: str) -> None:
        """Keeps what the call is at."""
        self._message, self._updated = message, datetime.now(UTC)

    async def ask(self, requests: InputRequests) -> dict[str, Any]:
        """Waits until each request has its answer; returns them by the names the call gave.

        A name is used once in the life of a task: where a call asks under one again, the client is
        asked under another.
        """
        for name, request in requests.items():
            shown = name if name not in self._used else f"{name}-{len(self._used) + 1}"
            self._used.add(shown)
            self._names[shown] = name
            self._requests[shown] = request.model_dump(
                by_alias=True, mode="json", exclude_none=True
            )
        self._move("input_required" if self._requests else "working")
        self._answered.clear()
        try:
            while self._requests:
                await self._answered.wait()
                self._answered.clear()
        finally:
            self._requests.clear()
        given, self._answers = self._answers, {}
        self._move("working")
        return given

    def answer(self, responses: Mapping[str, Any]) -> None:
        """Takes answers; those to nothing that is asked are left aside.

        Raises:
            MCPError: An answer has not the form of one.
        """
        asked = {name: given for name, given in responses.items() if name in self._requests}
        try:
            found = _RESPONSES.validate_python(asked, by_name=False)
        except ValidationError:
            raise MCPError(
                code=INVALID_PARAMS, message="An answer has not the form that its request asks for."
            ) from None
        for name, given in found.items():
            del self._requests[name]
            self._answers[self._names[name]] = given
        if found:
            self._updated = datetime.now(UTC)
            self._answered.set()

    def cancel(self) -> None:
        """Stops the call, if it is under way."""
        if self._work is not None:
            _background.cancel(self._work)

    @property
    def expired(self) -> bool:
        """Whether it ended longer ago than it is kept."""
        return self._ended is not None and _age(self._ended) > (self._keep_ms or _SHORTLY_MS)

    def brief(self) -> dict[str, Any]:
        """Its state, as the answer to the call has it."""
        lasted = _age(self._created, self._ended or datetime.now(UTC))
        return {
            "taskId": self.id,
            "status": self._status,
            **({"statusMessage": self._message} if self._message else {}),
            "createdAt": stamp(self._created),
            "lastUpdatedAt": stamp(self._updated),
            "ttlMs": None if self._keep_ms is None else lasted + self._keep_ms,
            "pollIntervalMs": POLL_MS,
        }

    def wire(self) -> dict[str, Any]:
        """Its state, with what it asks for or what came of it."""
        asks = {"inputRequests": dict(self._requests)} if self._requests else {}
        return {**self.brief(), **asks, **self._outcome}

    def _move(self, status: str) -> None:
        self._status, self._updated = status, datetime.now(UTC)
        for listener in tuple(self.listeners):
            listener(self)

    def _done(self, work: asyncio.Future[Any]) -> None:
        if work.cancelled():
            status = "cancelled"
        elif (error := work.exception()) is not None:
            status, self._outcome = "failed", {"error": _wire_error(error)}
            self._message = str(self._outcome["error"]["message"])
        else:
            status, self._outcome = "completed", {"result": wire_result(work.result())}
        self._ended = datetime.now(UTC)
        self._move(status)


class _Session:
    """A session whose request may have ended: progress is kept, and sent while it is open."""

    def __init__(self, session: ServerSession, task: Task) -> None:
        self._session, self._task = session, task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        if message:
            self._task.say(message)
        if not self._task.announced:
            await self._session.report_progress(progress, total, message)


def _age(since: datetime, until: datetime | None = None) -> int:
    """Milliseconds between two times; until now where no second one is given."""
    return round(((until or datetime.now(UTC)) - since).total_seconds() * 1000)


def _wire_error(error: BaseException) -> dict[str, Any]:
    """An error as the protocol has it; what is not one of the protocol's says nothing of itself."""
    if isinstance(error, MCPError):
        return error.error.model_dump(by_alias=True, mode="json", exclude_none=True)
    log.error("A call that became a task failed", exc_info=error)
    return {"code": INTERNAL_ERROR, "message": "Internal server error"}
