"""The Tasks extension (SEP-2663): a call that takes long answers with a handle, and goes on.

    tools/call ─┬─ ends within a moment ──> its result, as without tasks
                └─ goes on ──> a task ──> tasks/get: working, input_required, completed, failed,
                                          cancelled, with what was asked for or with the result
                                          tasks/update: answers to what the call asks
                                          tasks/cancel

Only a client that declares the extension in its request gets a task. What a tool asks its client in
the middle is asked through its task: the call is made again with the answers, as over rounds.
Handles live as long as this process and a while behind their end; those of runs are run ids and
outlive it, since `Kept` finds them in the table of runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from secrets import token_hex
from typing import Any, Protocol

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolRequestParams,
    InputRequiredResult,
    RequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from ryzanstein.mcp_servers import _background, _rounds
from ryzanstein.mcp_servers._subject import Own
from ryzanstein.mcp_servers._task import Task
from ryzanstein.mcp_servers._task_notices import TaskStream

__all__ = ["IDENTIFIER", "Kept", "Tasks"]

log = logging.getLogger("ryzanstein.mcp_servers")

IDENTIFIER = "io.modelcontextprotocol/tasks"
# A call that ends sooner, by its result or for bad arguments, costs no second request.
GRACE_SECONDS = 0.25
# With so many handles kept, further calls are answered as without the extension.
MOST_TASKS = 256
_LISTEN = "subscriptions/listen"


class Kept(Protocol):
    """Tasks that another process may have begun."""

    keep_ms: int | None

    def id_of(self, params: CallToolRequestParams) -> str:
        """The handle of a call."""

    async def find(self, task: str) -> dict[str, Any] | CallToolRequestParams | None:
        """A task as tasks/get answers it, or the call that goes on with it; None: there is none."""

    async def go_on(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]
    ) -> HandlerResult:
        """Makes the call that goes on with a task."""

    async def cancel(self, task: str) -> bool:
        """Asks a task to stop; False where there is none of that name."""


class GetTask(RequestParams):
    """Which task."""

    task_id: str = Field(alias="taskId", max_length=128)


class UpdateTask(GetTask):
    """Answers to what a task asks."""

    input_responses: dict[str, Any] = Field(alias="inputResponses")


class Tasks(Extension):
    """Makes tasks of the calls of some tools.

    Args:
        tools: Names of tools that may take long.
        kept: Where tasks are found that this process did not begin.
        only: Those of the tools that cannot be called without a task.
        first: Those of the tools that ask their client before they begin, which is answered by
            calling again and not through a task.
    """

    identifier = IDENTIFIER

    def __init__(
        self,
        tools: Collection[str],
        *,
        kept: Kept | None = None,
        only: Collection[str] = (),
        first: Collection[str] = (),
    ) -> None:
        self._tools, self._only, self._first = frozenset(tools), frozenset(only), frozenset(first)
        self._kept = kept
        self._tasks: Own[Task] = Own()

    def methods(self) -> Sequence[MethodBinding]:
        """The requests about tasks; older clients have none of them."""
        handlers: tuple[tuple[str, type[GetTask], Callable[..., Any]], ...] = (
            ("tasks/get", GetTask, self._get),
            ("tasks/update", UpdateTask, self._update),
            ("tasks/cancel", GetTask, self._cancel),
        )
        return [
            MethodBinding(name, params, _declared(handler), frozenset(MODERN_PROTOCOL_VERSIONS))
            for name, params, handler in handlers
        ]

    async def listening(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Tells a listener of the tasks that it names; middleware of the server.

        Raises:
            MCPError: It does not declare the extension, or names no list of tasks.
        """
        asked = (ctx.params or {}).get("notifications") if ctx.method == _LISTEN else None
        names = asked.get("taskIds") if isinstance(asked, dict) else None
        if names is None:
            return await call_next(ctx)
        if not _declares(ctx):
            raise _missing()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise MCPError(code=INVALID_PARAMS, message="taskIds is no list of task ids.")
        found = [self._find(name) for name in dict.fromkeys(names)]
        tasks = [task for task in found if task is not None]
        stream = TaskStream(ctx.session, ctx.request_id, tasks)
        telling = asyncio.ensure_future(stream.tell())
        try:
            return await call_next(replace(ctx, session=stream))  # type: ignore[arg-type]
        finally:
            telling.cancel()

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Answers with the result, or with a task where that takes a while.

        Raises:
            MCPError: The tool is for clients with tasks only, or the call failed.
        """
        if params.name not in self._tools:
            return await call_next(ctx)
        if not _declares(ctx):
            if params.name in self._only:
                raise _missing()
            return await call_next(ctx)
        self._forget()
        if len(self._tasks) >= MOST_TASKS:
            return await call_next(ctx)
        task = self._made(self._id(params))
        work = _background.begin(self._work(task, params, ctx, call_next))
        task.begin(work)
        try:
            await asyncio.wait({work}, timeout=GRACE_SECONDS)
        except asyncio.CancelledError:
            await _background.end(work)
            raise
        if work.done():
            return await work
        task.announced = True
        self._tasks[task.id] = task
        return {"resultType": "task", **task.brief()}

    async def _work(
        self,
        task: Task,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """The call, made again with answers as long as it asks for some."""
        task.enter()
        # The session is that of a request which ends when the task is announced.
        inside = replace(ctx, session=task.session(ctx.session))
        while True:
            found = await call_next(inside)
            if not isinstance(found, InputRequiredResult):
                return found
            if params.name in self._first and not task.announced:
                return found
            try:
                params.input_responses = await task.ask(found.input_requests or {})
            except asyncio.CancelledError:
                _rounds.drop(found.request_state)
                raise
            params.request_state = found.request_state

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: GetTask) -> dict[str, Any]:
        task = self._find(params.task_id)
        if task is not None:
            return task.wire()
        found = await self._kept.find(params.task_id) if self._kept else None
        if isinstance(found, CallToolRequestParams):
            return self._gone_on(params.task_id, found, ctx)
        if found is None:
            raise _unknown()
        return found

    def _gone_on(
        self, name: str, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]
    ) -> dict[str, Any]:
        """Makes a task whose process is gone one of this process."""
        kept, task = self._kept, self._find(name)
        if task is None and kept is not None:
            task = self._tasks[name] = self._made(name)
            task.announced = True
            work = self._work(task, params, ctx, lambda inside: kept.go_on(params, inside))
            task.begin(_background.begin(work))
        assert task is not None
        return task.wire()

    async def _update(
        self, ctx: ServerRequestContext[Any, Any], params: UpdateTask
    ) -> dict[str, Any]:
        task = self._find(params.task_id)
        if task is not None:
            task.answer(params.input_responses)
        elif self._kept is None or await self._kept.find(params.task_id) is None:
            raise _unknown()
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: GetTask) -> dict[str, Any]:
        task = self._find(params.task_id)
        # First where it is kept, which then says that it was wished for.
        known = self._kept is not None and await self._kept.cancel(params.task_id)
        if task is not None:
            task.cancel()
        elif not known:
            raise _unknown()
        return {}

    def _find(self, name: str) -> Task | None:
        self._forget()
        return self._tasks.get(name)

    def _made(self, name: str) -> Task:
        return Task(name, self._kept.keep_ms) if self._kept else Task(name)

    def _id(self, params: CallToolRequestParams) -> str:
        """The handle of a call; one that has it already keeps it."""
        wanted = self._kept.id_of(params) if self._kept else ""
        return wanted if wanted and wanted not in self._tasks else f"task-{token_hex(16)}"

    def _forget(self) -> None:
        """Leaves out what ended long ago."""
        for name in [name for name, task in self._tasks.items() if task.expired]:
            del self._tasks[name]


def _declared(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Answers those only who declare the extension, and whose headers name the task of the body."""

    async def checked(ctx: ServerRequestContext[Any, Any], params: GetTask) -> HandlerResult:
        if not _declares(ctx):
            raise _missing()
        headers: Mapping[str, str] | None = getattr(ctx.request, "headers", None)
        if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != (
            params.task_id
        ):
            message = f"{MCP_NAME_HEADER} header does not match the request body's 'taskId'"
            raise MCPError(code=HEADER_MISMATCH, message=message)
        found: HandlerResult = await handler(ctx, params)
        return found

    return checked


def _declares(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether the client knows of tasks, and speaks a revision that has them."""
    can = ctx.session.client_capabilities
    known = can is not None and IDENTIFIER in (can.extensions or {})
    return known and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


def _missing() -> MCPError:
    return MCPError(
        code=MISSING_REQUIRED_CLIENT_CAPABILITY,
        message="Missing required client capability",
        data={"requiredCapabilities": {"extensions": {IDENTIFIER: {}}}},
    )


def _unknown() -> MCPError:
    return MCPError(code=INVALID_PARAMS, message="There is no such task, or it has expired.")
