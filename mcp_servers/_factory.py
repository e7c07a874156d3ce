"""The one way a server is made: logging first, errors with codes, text beside structured data.

A tool is a typed function that returns a `Reply`. What reaches the client:

    returned Reply        content: Reply.brief() as text    structuredContent: the model's fields
    raised RyzansteinError   isError, "CODE: message hint"  _meta: {"ryzanstein/error": {...}}
    bad arguments            isError, "INVALID_REQUEST: limit: Input should be ..."
    anything else            isError, "INTERNAL_ERROR: ..." and the traceback in the log
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any, NoReturn, TypeVar

from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.extension import Extension
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
)
from mcp.server.request_state import RequestStateSecurity
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as WireTool
from pydantic import BaseModel, ValidationError

from ryzanstein import __version__
from ryzanstein.errors import (
    ERROR_META,
    AgentNotFound,
    InvalidRequest,
    ModelNotFound,
    RyzansteinError,
)
from ryzanstein.mcp_servers._faults import within_protocol
from ryzanstein.mcp_servers._metrics import counting
from ryzanstein.mcp_servers._notices import announce
from ryzanstein.mcp_servers._offers import Offers
from ryzanstein.mcp_servers._progress import beating
from ryzanstein.mcp_servers._published import published
from ryzanstein.mcp_servers._subject import (
    principal,
    require_allowed,
    within_subject,
    without_places,
)
from ryzanstein.mcp_servers._tasks import Tasks

__all__ = [
    "ADDS",
    "CHANGES",
    "DESTROYS",
    "READS",
    "WORKS",
    "Reply",
    "Server",
    "failure",
    "linked",
    "make_server",
    "page",
]

log = logging.getLogger("ryzanstein.mcp_servers")

MAX_INSTRUCTIONS = 2000
DAY_MS = 24 * 3600 * 1000


def _writes(destroys: bool, idempotent: bool, world: bool = False) -> ToolAnnotations:
    """The hints of a tool that changes something; those left out are as the protocol has them."""
    return ToolAnnotations(
        read_only_hint=False,
        destructive_hint=destroys,
        idempotent_hint=True if idempotent else None,
        open_world_hint=None if world else False,
    )


# The other two hints mean nothing where nothing is changed.
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = _writes(destroys=False, idempotent=False)
CHANGES = _writes(destroys=False, idempotent=True)
DESTROYS = _writes(destroys=True, idempotent=True)
WORKS = _writes(destroys=True, idempotent=False, world=True)


class Reply(BaseModel):
    """What a tool answers: fields for programs, `brief` for a model to read."""

    def brief(self) -> str:
        """Returns everything a reader needs, for clients that ignore structured content."""
        return self.model_dump_json(exclude_none=True)

    def elsewhere(self) -> list[ResourceLink]:
        """Returns where more is than an answer should hold."""
        return []

    def to_result(self) -> CallToolResult:
        """Returns the wire form with all of it."""
        return CallToolResult(
            content=[TextContent(type="text", text=self.brief()), *self.elsewhere()],
            structured_content=self.model_dump(mode="json"),
        )


def linked(uri: str, name: str, size: int | None = None) -> ResourceLink:
    """Returns a link to a JSON resource of the same server."""
    return ResourceLink(uri=uri, name=name, mime_type="application/json", size=size)


def failure(error: RyzansteinError) -> CallToolResult:
    """Returns an error as the wire form of a failed tool call.

    Its fields go into `_meta`: clients hold structured content against the tool's output schema,
    also that of an error, and where it does not fit they show that instead of what failed.
    """
    wire = without_places(error).to_wire()
    return CallToolResult(
        content=[TextContent(type="text", text=f"{wire['code']}: {error}")],
        is_error=True,
        _meta={ERROR_META: wire},
    )


_Item = TypeVar("_Item")


def page(items: Iterable[_Item], limit: int, cursor: str = "") -> tuple[list[_Item], str | None]:
    """Returns one page and the cursor of the next one, None at the end.

    Raises:
        InvalidRequest: The cursor is not one that this function gave out.
    """
    if cursor and not cursor.isdecimal():
        raise InvalidRequest(
            f"Unknown cursor {cursor[:40]!r}.",
            hint="Pass next_cursor of the page before, or nothing.",
        )
    start = int(cursor or "0")
    everything = list(items)
    end = start + limit
    return everything[start:end], str(end) if end < len(everything) else None


class Server(Offers):
    """An MCP server whose tools return `Reply` and raise this project's errors."""

    def add_tool(self, fn: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Registers a tool; its docstring up to `Raises:` becomes the description."""
        options["description"] = options.get("description") or _described(fn)
        super().add_tool(_replying(fn), *args, **options)

    async def list_tools(self) -> list[WireTool]:
        """Lists the tools in the order of registration, their schemas in compact form."""
        tools = await super().list_tools()
        return [
            tool.model_copy(
                update={
                    "input_schema": published(tool.input_schema, answer=False),
                    "output_schema": tool.output_schema
                    and published(tool.output_schema, answer=True),
                }
            )
            for tool in tools
        ]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool; every failure becomes a result with its code."""
        started = perf_counter()
        try:
            require_allowed(name)
            result = await super().call_tool(name, arguments, context)
        except ToolError as error:
            result = failure(self._cause(name, error))
        except InvalidRequest as error:
            result = failure(error)
        failed = isinstance(result, CallToolResult) and bool(result.is_error)
        if isinstance(result, CallToolResult) and not failed:
            announce(name, arguments, result.structured_content or {})
        # A name that a client made up would be a counter of its own, for ever.
        counted = name if self._tool_manager.get_tool(name) is not None else "unknown"
        for one in counting():
            one.tool_call(self.name, counted, perf_counter() - started, failed)
        return result

    async def answer(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]
    ) -> CallToolResult | InputRequiredResult:
        """Answers a call of a tool that no request asks for, as if one did."""
        return await self._handle_call_tool(ctx, params)

    async def read_resource(self, uri: Any, context: Context[Any, Any] | None = None) -> Any:
        """Reads a resource; this project's errors keep their text."""
        try:
            return await super().read_resource(uri, context)
        except UnexpectedResourceError as error:
            _reraise_resource(error)

    async def run_stdio_async(self) -> None:
        """Serves over this process's stdin and stdout, as `mcp run` does."""
        from ryzanstein.mcp_servers._stdio import serve_stdio

        await serve_stdio(self)

    def _cause(self, name: str, error: ToolError) -> RyzansteinError:
        cause = error.__cause__
        if isinstance(cause, RyzansteinError):
            return cause
        if isinstance(cause, ToolError | ResourceError):
            return InvalidRequest(str(cause))
        if isinstance(cause, ValidationError):
            return InvalidRequest(f"{name}: {_faults(cause)}", hint="Correct the arguments.")
        if cause is None:
            known = [tool.name for tool in self._tool_manager.list_tools()]
            if name not in known:
                return _unknown_tool(name, known)
            return InvalidRequest(str(error))
        log.error("%s failed", name, exc_info=cause)
        return RyzansteinError(
            f"{name} failed unexpectedly ({type(cause).__name__}).",
            hint="The server's log has the details; on the command line, --debug shows it.",
        )


def make_server(
    name: str,
    title: str,
    instructions: str,
    kind: type[Server] = Server,
    extensions: Sequence[Extension] = (),
) -> Server:
    """Makes an empty server with logging on stderr; stdout belongs to the protocol.

    Args:
        name: The server's name on the wire, `ryzanstein-` is put before it.
        title: For people.
        instructions: Order across tools and limits, below 2,000 characters.
        kind: A subclass, for a server that lists or calls in its own way.
        extensions: What goes beyond the protocol, for clients that know of it.
    """
    if len(instructions) >= MAX_INSTRUCTIONS:
        raise ValueError(f"instructions of {name}: {len(instructions)} characters")
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=_LOG_FORMAT)
    return kind(
        f"ryzanstein-{name}",
        title=title,
        instructions=instructions,
        version=__version__,
        extensions=extensions,
        log_level="WARNING",
        middleware=[
            within_subject,
            within_protocol,
            beating,
            *(one.listening for one in extensions if isinstance(one, Tasks)),
        ],
        request_state_security=RequestStateSecurity(
            keys=[os.urandom(32)], bind_principal=principal
        ),
        cache_hints={
            method: CacheHint(ttl_ms=DAY_MS, scope="public")
            for method in ("tools/list", "prompts/list", "resources/templates/list")
        },
    )


_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def _described(fn: Callable[..., Any]) -> str:
    text = inspect.getdoc(fn) or ""
    return " ".join(text.partition("\n\nRaises:")[0].split())


def _replying(fn: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(fn):

        @functools.wraps(fn)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            return _sent(await fn(*args, **kwargs))

        return asynchronous

    @functools.wraps(fn)
    def synchronous(*args: Any, **kwargs: Any) -> Any:
        return _sent(fn(*args, **kwargs))

    return synchronous


def _sent(value: Any) -> Any:
    return value.to_result() if isinstance(value, Reply) else value


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'arguments'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    )


def _unknown_tool(name: str, known: list[str]) -> RyzansteinError:
    from ryzanstein.errors import ToolNotFound
    from ryzanstein.nearest import did_you_mean

    hint = did_you_mean(name, known) or f"Tools here: {', '.join(known)}."
    return ToolNotFound(f"No tool is called {name[:80]!r}.", hint=hint)


def _reraise_resource(error: UnexpectedResourceError) -> NoReturn:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RyzansteinError):
        cause = cause.__cause__
    if isinstance(cause, RyzansteinError):
        without_places(cause)
    if isinstance(cause, AgentNotFound | ModelNotFound | InvalidRequest):
        raise ResourceNotFoundError(str(cause)) from cause
    if isinstance(cause, RyzansteinError):
        raise ResourceError(f"{cause.code}: {cause}") from cause
    raise error
