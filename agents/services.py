"""The platform's parts as an agent sees them: MCP clients to inference, memory and tools.

    loop ── Services ── Client ── inference   chat count_tokens
                     ├─ Client ── memory      recall remember find_experiences record_experience …
                     └─ Client ── tools       search_tools describe_tool call_tool

Where each server runs is a line of the registry: in this process (in-memory transport), a child
over stdio, or a URL. An in-memory server is imported by its name when it is first needed, since
servers sit above agents and must not be imported from here. Whatever a server answers with an
error comes out as the same error of `ryzanstein.errors` that was raised there.
"""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

from ryzanstein.agents.trust import Caller
from ryzanstein.errors import (
    APPROVAL_REQUIRED,
    ApprovalRequired,
    ConnectionFailed,
    RyzansteinError,
    ServerUnavailable,
    TimedOut,
    from_wire,
)

if TYPE_CHECKING:
    from mcp import Client, MCPError
    from mcp_types import CallToolResult

    from ryzanstein.registry import Registry, ServerSpec

__all__ = ["NEEDED", "Completion", "Progress", "Services", "ToolOutcome", "ToolSpec"]

NEEDED = ("inference", "memory", "tools")
_PAGE = 50

Message = Mapping[str, str]


class Progress(Protocol):
    """Hears how far a call is: done, total where it is known, and a word for people."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Takes one report."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """Text from the model and what it took; prompt_tokens include the cached ones."""

    text: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    finish_reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the tools server describes it.

    Attributes:
        name: What it is called by.
        family: Its toolset.
        description: When to use it; the first sentence goes into menus.
        read_only: Changes nothing.
        schema: JSON schema of its arguments.
        example: Arguments of one example call.
        forms: The arguments to ask a model for, each with its natural form: code, line or json.
        language: Of a fenced code block, such as python; may be empty.
    """

    name: str
    family: str
    description: str
    read_only: bool = True
    schema: Mapping[str, Any] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    forms: Mapping[str, str] = field(default_factory=dict)
    language: str = ""

    @property
    def line(self) -> str:
        """The first line of the description, for a menu."""
        return self.description.strip().partition("\n")[0]

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """Schema of each argument, in order."""
        found: Mapping[str, Mapping[str, Any]] = self.schema.get("properties", {})
        return found


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What a tool call came to; a tool that refused has ok False and says why in its text.

    Attributes:
        ok: Whether it did what was asked.
        text: For the model.
        data: For programs.
        seconds: How long it took.
        untrusted: The text comes from outside and is no instruction.
        reason: `approval_required` where the call was refused for want of a grant.
        grant: The narrowest grant that would allow it.
    """

    ok: bool
    text: str
    data: Any = None
    seconds: float = 0.0
    untrusted: bool = False
    reason: str = ""
    grant: str = ""


class Services:
    """Connects to the servers; `async with Services(registry) as services` in one task.

    Args:
        registry: Says where each server runs.
        servers: Targets that take the place of the registry's, by name: a server object, a URL, or
            parameters of a child process.
        names: The servers to connect to.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        servers: Mapping[str, Any] | None = None,
        names: Sequence[str] = NEEDED,
    ) -> None:
        self._registry = registry
        self._servers = dict(servers or {})
        self._names = tuple(names)
        self._clients: dict[str, Client] = {}
        self._stack = AsyncExitStack()
        self._briefs: tuple[ToolSpec, ...] | None = None
        self._specs: dict[str, ToolSpec] = {}
        self.caller = Caller()

    def for_run(self, caller: Caller) -> Services:
        """Returns the same connections for one run: its calls carry whom they are made for."""
        bound = copy.copy(self)
        bound.caller = caller
        return bound

    async def __aenter__(self) -> Self:
        """Connects to every server.

        Raises:
            ConnectionFailed: A server cannot be started or reached.
        """
        try:
            for name in self._names:
                self._clients[name] = await self._connect(name)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *details: object) -> None:
        """Closes the connections, the latest first."""
        self._clients.clear()
        await self._stack.aclose()

    async def _connect(self, name: str) -> Client:
        from mcp import Client

        target = self._servers.get(name) or _target(name, self._registry)
        try:
            return await self._stack.enter_async_context(Client(target))
        except RyzansteinError:
            raise
        except _transport_errors() as error:
            raise ConnectionFailed(
                f"The {name} server cannot be reached: {_first(error)}.",
                hint="Check `servers` in the registry, or leave the server out to run it here.",
            ) from error

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        seconds: float | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Calls one tool of one server and returns its structured content.

        Args:
            server: The server's name.
            tool: The tool's name.
            arguments: Its arguments; those that are None are left out.
            progress: Hears how far the call is.
            seconds: Most that it may take.
            meta: Goes with the request beside its arguments.

        Raises:
            RyzansteinError: The error the server raised, or what went wrong on the way to it.
        """
        from mcp import MCPError

        given = {key: value for key, value in arguments.items() if value is not None}
        try:
            result = await self._client(server).call_tool(
                tool,
                given,
                read_timeout_seconds=seconds,
                progress_callback=progress,
                meta=cast(Any, dict(meta)) if meta else None,
            )
        except MCPError as error:
            raise _protocol_error(server, tool, error) from error
        if result.is_error:
            raise _wire_error(result)
        return _content(result)

    def _client(self, name: str) -> Client:
        client = self._clients.get(name)
        if client is None:
            raise ServerUnavailable(
                f"There is no connection to the {name} server.",
                hint="Use Services as an async context manager that names this server.",
            )
        return client

    async def chat(
        self, messages: Sequence[Message], *, progress: Progress | None = None, **options: Any
    ) -> Completion:
        """Lets the model continue a conversation; options are those of the `chat` tool."""
        found = await self.call(
            "inference", "chat", {"messages": list(messages), **options}, progress=progress
        )
        return Completion(**{name: found[name] for name in Completion.__slots__})

    async def count_tokens(self, text: str | Sequence[Message], *, model: str | None = None) -> int:
        """Counts the tokens of a text, or of messages in the model's chat template."""
        what = {"text": text} if isinstance(text, str) else {"messages": list(text)}
        found = await self.call("inference", "count_tokens", {**what, "model": model})
        return int(found["tokens"])

    async def tools(self) -> tuple[ToolSpec, ...]:
        """Every tool there is, without argument schemas; asked for once."""
        if self._briefs is None:
            found = await self.call("tools", "search_tools", {"query": "", "limit": _PAGE})
            self._briefs = tuple(_spec(brief) for brief in found["tools"])
        return self._briefs

    async def search_tools(self, query: str, limit: int = 8) -> tuple[ToolSpec, ...]:
        """Tools that fit what should be done, best first, without argument schemas."""
        found = await self.call("tools", "search_tools", {"query": query[:500], "limit": limit})
        return tuple(_spec(brief) for brief in found["tools"])

    async def describe_tool(self, name: str) -> ToolSpec:
        """One tool with its schema, example and main argument; asked for once.

        Raises:
            ToolNotFound: There is none of that name.
        """
        if name not in self._specs:
            self._specs[name] = _spec(await self.call("tools", "describe_tool", {"name": name}))
        return self._specs[name]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        grants: Sequence[str] = (),
    ) -> ToolOutcome:
        """Runs a tool; a refusal comes back as an outcome with ok False, for the model to read.

        Args:
            name: The tool.
            arguments: What it is called with.
            progress: Hears how far it is.
            grants: Tools, families or `tool:target` that may destroy something in this one call.
        """
        request = {"name": name, "arguments": dict(arguments)}
        meta = self.caller.meta(grants)
        try:
            found = await self.call("tools", "call_tool", request, progress=progress, meta=meta)
        except (ConnectionFailed, ServerUnavailable, TimedOut):
            raise
        except ApprovalRequired as error:
            return ToolOutcome(False, str(error), reason=APPROVAL_REQUIRED, grant=error.grant)
        except RyzansteinError as error:
            # An error may quote a file, a page or another server.
            self.caller.tainted = True
            return ToolOutcome(ok=False, text=str(error), untrusted=True)
        untrusted = bool(found.get("untrusted", True))
        self.caller.tainted |= untrusted
        return ToolOutcome(
            ok=bool(found.get("ok", True)),
            text=str(found.get("text", "")),
            data=found.get("data"),
            seconds=float(found.get("seconds", 0.0)),
            untrusted=untrusted,
        )

    async def recall(self, query: str, *, limit: int = 5, **options: Any) -> list[dict[str, Any]]:
        """Facts that fit a query, best first: id, text, score, similarity, reasons."""
        found = await self.call("memory", "recall", {"query": query, "limit": limit, **options})
        memories = list(found["memories"])
        self.caller.tainted |= bool(memories)
        return memories

    async def remember(self, text: str, **options: Any) -> dict[str, Any]:
        """Keeps a fact and returns what was stored."""
        return await self.call("memory", "remember", {"text": text, **options})

    async def find_experiences(
        self, task: str, *, agent: str | None = None, tier: int | None = None, limit: int = 2
    ) -> list[dict[str, Any]]:
        """The most useful past tasks like this one: the experience's fields, score, similarity.

        Args:
            task: What is to be done.
            agent: Only this agent's, and breakthroughs of the tier.
            tier: The asking agent's, whose breakthroughs are brought up.
            limit: How many.
        """
        arguments = {"task": task, "agent": agent, "tier": tier, "limit": limit}
        found = await self.call("memory", "find_experiences", arguments)
        experiences = list(found["experiences"])
        self.caller.tainted |= bool(experiences)
        return experiences

    async def record_experience(self, **experience: Any) -> dict[str, Any]:
        """Keeps how a run went and returns what was stored."""
        return await self.call("memory", "record_experience", experience)

    async def rate_experience(self, id: str, rating: float) -> dict[str, Any]:
        """Says how much an experience helped, 0 to 1."""
        return await self.call("memory", "rate_experience", {"id": id, "rating": rating})

    async def read_json(self, server: str, uri: str) -> dict[str, Any]:
        """Reads a JSON resource, such as memory://prototypes.

        Raises:
            ServerUnavailable: The server does not have it.
        """
        from mcp import MCPError

        try:
            found = await self._client(server).read_resource(uri)
        except MCPError as error:
            raise _protocol_error(server, uri, error) from error
        values: dict[str, Any] = json.loads(getattr(found.contents[0], "text", "{}"))
        return values


def _target(name: str, registry: Registry | None) -> Any:
    """What to connect to: a server object, parameters of a child, or a URL."""
    from mcp import StdioServerParameters

    spec: ServerSpec | None = None
    if registry is not None:
        spec = next((one for one in registry.servers if one.name == name), None)
    if spec is None or spec.transport == "memory":
        return importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp
    if spec.transport == "stdio":
        assert spec.command is not None
        return StdioServerParameters(
            command=spec.command, args=list(spec.args), env=spec.env or None
        )
    return spec.url


def _transport_errors() -> tuple[type[Exception], ...]:
    import httpx2
    from mcp import MCPError

    return (OSError, ExceptionGroup, MCPError, httpx2.HTTPError)


def _first(error: BaseException) -> str:
    """The innermost first cause, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def _protocol_error(server: str, what: str, error: MCPError) -> RyzansteinError:
    from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    if error.code == REQUEST_TIMEOUT:
        return TimedOut(f"{what} of the {server} server took too long.", hint="Try again.")
    if error.code == CONNECTION_CLOSED:
        return ConnectionFailed(f"The {server} server went away.", hint="Start it again.")
    return ServerUnavailable(f"The {server} server refused {what}: {error}.")


def _wire_error(result: CallToolResult) -> RyzansteinError:
    """The error a server put into a failed result: structured, or CODE: message in the text."""
    content = result.structured_content
    details = content.get("error") if isinstance(content, dict) else None
    if isinstance(details, dict):
        if details.get("reason") == APPROVAL_REQUIRED:
            return ApprovalRequired(
                details.get("message", ""),
                hint=details.get("hint", ""),
                grant=details.get("grant", ""),
            )
        return from_wire(
            details.get("code", ""), details.get("message", ""), details.get("hint", "")
        )
    text = " ".join(getattr(part, "text", "") for part in result.content).strip()
    code, colon, message = text.partition(": ")
    return from_wire(code, message) if colon and code.isupper() else RyzansteinError(text)


def _content(result: CallToolResult) -> dict[str, Any]:
    if isinstance(result.structured_content, dict):
        return result.structured_content
    return {"text": " ".join(getattr(part, "text", "") for part in result.content)}


def _parsed(example: Any) -> Mapping[str, Any]:
    """An example as a mapping; on the wire it is JSON text."""
    found = json.loads(example) if isinstance(example, str) and example else example
    return found if isinstance(found, dict) else {}


def _spec(wire: Mapping[str, Any]) -> ToolSpec:
    return ToolSpec(
        name=wire["name"],
        family=wire.get("family", ""),
        description=wire.get("description", ""),
        read_only=bool(wire.get("read_only", False)),
        schema=wire.get("input_schema", {}),
        example=_parsed(wire.get("example")),
        forms=wire.get("argument_forms", {}),
        language=wire.get("main_language", ""),
    )
