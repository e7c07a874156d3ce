"""A connection to one external server: made when it is needed, and again when it broke.

Connections belong to a thread of their own, so that they outlive the request, and the event loop,
that first asked for them; a child process is started once and serves all runs of this process.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.abc
from anyio.from_thread import BlockingPortal

from ryzanstein.agents.external.definitions import Definition
from ryzanstein.errors import ConnectionFailed, RyzansteinError, TimedOut, ToolError
from ryzanstein.resilience import PARTIES

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult

    from ryzanstein.registry import Resilience, ServerSpec

__all__ = ["Connection", "Loop"]

log = logging.getLogger("ryzanstein.agents")
_CONNECT_SECONDS = 30.0
_CLOSE_SECONDS = 5.0
_MOST_PAGES = 20
_MOST_TOOLS = 500

_Result = TypeVar("_Result")


class Loop:
    """An event loop in a daemon thread, started with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self.group: anyio.abc.TaskGroup | None = None

    async def run(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        """Runs something in the thread's loop; a cancelled caller cancels it there."""
        return await asyncio.wrap_future(await self.start(work))

    async def start(self, work: Callable[[], Awaitable[_Result]]) -> Future[_Result]:
        """Has something run in the thread's loop, whatever becomes of the caller."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="external", daemon=True)
                self._thread.start()
                atexit.register(self.close)
        await anyio.to_thread.run_sync(self._ready.wait)
        assert self._portal is not None
        return self._portal.start_task_soon(work)

    def close(self) -> None:
        """Ends the connections and the thread."""
        atexit.unregister(self.close)
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is None or not thread.is_alive():
                return
            self._ready.wait(_CLOSE_SECONDS)
            portal, self._portal = self._portal, None
            self._ready.clear()
        if portal is not None:
            portal.start_task_soon(portal.stop, True)
        thread.join(_CLOSE_SECONDS)

    def _serve(self) -> None:
        anyio.run(self._main)

    async def _main(self) -> None:
        async with anyio.create_task_group() as group:
            async with BlockingPortal() as portal:
                self.group, self._portal = group, portal
                self._ready.set()
                await portal.sleep_until_stopped()
            group.cancel_scope.cancel()


class Connection:
    """The connection to one server.

    Args:
        spec: Where it runs.
        loop: Where the connection lives.
        policy: When a server that fails is left alone.
        log_file: Takes what a child process writes to stderr.
    """

    def __init__(
        self, spec: ServerSpec, loop: Loop, policy: Resilience, log_file: Path | None = None
    ) -> None:
        self.spec = spec
        self._loop = loop
        self._party = PARTIES.get(f"server:{spec.name}", policy)
        self._log_file = log_file
        self._lock: anyio.Lock | None = None
        self._client: Client | None = None
        self._stop: anyio.Event | None = None
        self.stale = True

    async def list_tools(self) -> list[Definition]:
        """Asks the server for its tools.

        Raises:
            ServerUnavailable: It rests after failures.
            ConnectionFailed: It cannot be started or reached.
            TimedOut: It does not answer.
        """
        return await self._loop.run(self._listed)

    async def ask_tools(self) -> Future[list[Definition]]:
        """Asks for the tools without waiting for them; the errors are those of `list_tools`."""
        return await self._loop.start(self._listed)

    async def _listed(self) -> list[Definition]:
        found = await self._guarded(self._list)
        # A server may list its tools and yet fail at every one of them.
        self._party.looked(f"{len(found)} tools")
        self.stale = False
        return found

    async def call(self, tool: str, arguments: dict[str, Any], *, again: bool) -> CallToolResult:
        """Calls a tool by the server's own name for it.

        Args:
            tool: Its name.
            arguments: What it is called with.
            again: Whether it may be called once more where the connection broke.

        Raises:
            ToolError: The server refused the call.
            ServerUnavailable: It rests after failures.
            ConnectionFailed: It cannot be started or reached, or went away.
            TimedOut: It took too long.
        """
        work = functools.partial(self._guarded, functools.partial(self._call, tool, arguments))
        try:
            result = await self._loop.run(work)
        except ConnectionFailed:
            if not again:
                raise
            result = await self._loop.run(work)
        self._party.worked()
        return result

    async def _guarded(self, work: Callable[[Client], Awaitable[_Result]]) -> _Result:
        """Runs in the loop's thread; what the party should know of is told to it."""
        self._party.require()
        try:
            return await self._bounded(work)
        except (ConnectionFailed, TimedOut) as error:
            self._party.failed(error)
            raise

    async def _bounded(self, work: Callable[[Client], Awaitable[_Result]]) -> _Result:
        """Runs in the loop's thread: connects where needed, and puts errors into words."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        name = self.spec.name
        client = await self._connected()
        try:
            with anyio.fail_after(self.spec.seconds):
                return await work(client)
        except TimeoutError:
            raise TimedOut(
                f"The server {name} took longer than {self.spec.seconds:g} s.",
                hint="Ask for less, or raise its `seconds` in the registry.",
            ) from None
        except MCPError as error:
            if error.code == REQUEST_TIMEOUT:
                raise TimedOut(f"The server {name} took too long.", hint="Try again.") from error
            if error.code != CONNECTION_CLOSED:
                raise ToolError(f"The server {name} refused the call: {error}.") from error
            raise self._lost(error) from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError) as error:
            raise self._lost(error) from error
        except (RuntimeError, ValueError) as error:
            raise ToolError(f"The server {name} gave an answer that breaks its schema.") from error

    def _lost(self, error: Exception) -> ConnectionFailed:
        self._forget()
        return ConnectionFailed(
            f"The server {self.spec.name} went away ({error or type(error).__name__}).",
            hint="It is connected to again by the next call.",
        )

    def _forget(self) -> None:
        if self._stop is not None:
            self._stop.set()
        self._client, self._stop, self.stale = None, None, True

    async def _connected(self) -> Client:
        if self._lock is None:
            self._lock = anyio.Lock()
        async with self._lock:
            if self._client is None:
                assert self._loop.group is not None
                try:
                    with anyio.fail_after(_CONNECT_SECONDS):
                        await self._loop.group.start(self._live)
                except TimeoutError:
                    raise TimedOut(
                        f"The server {self.spec.name} did not start within {_CONNECT_SECONDS:g} s.",
                        hint="Run its command by hand to see why.",
                    ) from None
            assert self._client is not None
            return self._client

    async def _live(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Holds the connection open until it is forgotten; enters and leaves it in one task."""
        stop = anyio.Event()
        started = False
        try:
            with contextlib.ExitStack() as files:
                async with self._open(files) as client:
                    self._client, self._stop, started = client, stop, True
                    task_status.started()
                    await stop.wait()
        except RyzansteinError:
            raise
        except _faults() as error:
            if not started:
                raise ConnectionFailed(
                    f"The server {self.spec.name} cannot be reached: {_first(error)}.",
                    hint="Check its command or url in the registry.",
                ) from error
            log.info("the connection to %s ended: %s", self.spec.name, _first(error))
        finally:
            if self._stop is stop:
                self._forget()

    def _open(self, files: contextlib.ExitStack) -> Client:
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        target: Any = self.spec.url
        if self.spec.command is not None:
            parameters = StdioServerParameters(
                command=self.spec.command, args=list(self.spec.args), env=self.spec.env or None
            )
            target = parameters
            if self._log_file is not None:
                self._log_file.parent.mkdir(parents=True, exist_ok=True)
                errors = files.enter_context(self._log_file.open("w", encoding="utf-8"))
                target = stdio_client(parameters, errlog=errors)
        return Client(target, cache=None, message_handler=self._hear)

    async def _hear(self, message: Any) -> None:
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self.stale = True

    async def _list(self, client: Client) -> list[Definition]:
        found: list[Definition] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += [
                Definition(one.name, one.description or "", one.input_schema) for one in page.tools
            ]
            cursor = page.next_cursor
            if cursor is None or len(found) >= _MOST_TOOLS:
                break
        return found[:_MOST_TOOLS]

    async def _call(self, tool: str, arguments: dict[str, Any], client: Client) -> CallToolResult:
        return await client.call_tool(tool, arguments)


def _faults() -> tuple[type[BaseException], ...]:
    import httpx2
    from mcp import MCPError

    return (OSError, ExceptionGroup, MCPError, httpx2.HTTPError, ValueError, RuntimeError)


def _first(error: BaseException) -> str:
    """The innermost first cause, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
