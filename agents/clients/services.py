"""The platform's parts as an agent sees them: MCP clients to inference, memory and tools.

    loop ── Services ─┬─ Pool    ── inference server, OpenAI-compatible URL, the client's model
                      └─ Servers ─┬─ memory      recall remember find_experiences …
                                  └─ tools       search_tools describe_tool call_tool

Where each server runs is a line of the registry: in this process (in-memory transport), a child
over stdio, or a URL. An in-memory server is imported by its name when it is first needed, since
servers sit above agents and must not be imported from here. A server that dies is connected to
again, a backend that fails gives way to the next, and the reason of each failure is told.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ryzanstein.agents.backends.base import Backend, Completion, Message, Progress
from ryzanstein.agents.backends.local import LocalBackend
from ryzanstein.agents.backends.openai import OpenAIBackend
from ryzanstein.agents.backends.pool import Pool
from ryzanstein.agents.backends.sampling import Sampler, SamplingBackend
from ryzanstein.agents.clients.connections import Connections
from ryzanstein.agents.clients.servers import Servers
from ryzanstein.agents.clients.tool_spec import ToolOutcome, ToolSpec
from ryzanstein.agents.trust import Caller
from ryzanstein.errors import (
    APPROVAL_REQUIRED,
    ApprovalRequired,
    ConnectionFailed,
    RyzansteinError,
    ServerUnavailable,
    TimedOut,
)
from ryzanstein.registry_models import BackendSpec, Resilience
from ryzanstein.resilience import PARTIES, Parties

if TYPE_CHECKING:
    from mcp.client.session import ElicitationFnT

    from ryzanstein.registry import Registry

__all__ = [
    "NEEDED",
    "Completion",
    "Message",
    "Progress",
    "Sampler",
    "Services",
    "ToolOutcome",
    "ToolSpec",
]

log = logging.getLogger("ryzanstein.agents")

NEEDED = ("inference", "memory", "tools")
_PAGE = 50
# The tools server itself is not there; where it answered so, a page or another server is not.
_GONE = (ConnectionFailed, ServerUnavailable, TimedOut)

Hook = Callable[[str], Awaitable[None]]


class Services:
    """Connects to the servers; `async with Services(registry) as services` in one task.

    Args:
        registry: Says where each server runs.
        servers: Targets that take the place of the registry's, by name: a server object, a URL, or
            parameters of a child process.
        names: The servers to connect to.
        optional: Those of them that may be gone at first; a call of theirs tries again.
        policy: When to try again and whom to leave alone; the registry's by default.
        parties: What is known of servers and backends; that of this process by default.
        elicit: Asks the user what a server wants to know; None where there is nobody to ask.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        servers: Mapping[str, Any] | None = None,
        names: Sequence[str] = NEEDED,
        optional: Sequence[str] = (),
        policy: Resilience | None = None,
        parties: Parties | None = None,
        elicit: ElicitationFnT | None = None,
    ) -> None:
        self._registry = registry
        self._names = tuple(names)
        self._optional = frozenset(optional)
        self.policy = policy or (registry.resilience if registry else Resilience())
        # What is known of a server says nothing of another one in its place.
        self._parties = parties or (Parties() if servers else PARTIES)
        connections = Connections(registry, dict(servers or {}), elicit=elicit)
        self._servers = Servers(connections, self.policy, self._parties)
        self._pool: Pool | None = None
        self._briefs: tuple[ToolSpec, ...] | None = None
        self._specs: dict[str, ToolSpec] = {}
        self.caller = Caller()
        self.sampler: Sampler | None = None
        self.on_failure: Hook | None = None

    def for_run(
        self,
        caller: Caller,
        *,
        sampler: Sampler | None = None,
        on_failure: Hook | None = None,
    ) -> Services:
        """Returns the same connections for one run.

        Args:
            caller: For whom its calls are made.
            sampler: Asks the model of the client that the run is for.
            on_failure: Hears why something failed that the run survived.
        """
        bound = copy.copy(self)
        bound.caller = caller
        bound.sampler = sampler or self.sampler
        bound.on_failure = on_failure or self.on_failure
        bound._pool = None
        return bound

    async def __aenter__(self) -> Self:
        """Connects to every server; to that of inference where no other backend could stand in.

        Raises:
            ConnectionFailed: A server cannot be started or reached.
        """
        await self._servers.connections.open()
        try:
            for name in self._names:
                await self._connect(name)
        except BaseException:
            await self._servers.connections.close()
            raise
        return self

    async def __aexit__(self, *details: object) -> None:
        """Closes the connections."""
        await self._servers.connections.close()

    async def _connect(self, name: str) -> None:
        try:
            await self._servers.connect(name, self.failed)
        except RyzansteinError as error:
            replaced = name == "inference" and self.backends.has_other_than("local")
            if name not in self._optional and not replaced:
                raise
            await self.failed(f"server:{name}: {error}")

    async def failed(self, reason: str) -> None:
        """Takes the reason of a failure that was survived."""
        log.info("%s", reason)
        if self.on_failure is not None:
            await self.on_failure(reason)

    @property
    def backends(self) -> Pool:
        """Who runs models, in the order of the registry."""
        if self._pool is None:
            self._pool = Pool(self._made(), self.policy, self._parties, self.failed)
        return self._pool

    def _made(self) -> list[Backend]:
        found: list[Backend] = []
        for spec in self._declared():
            if spec.kind == "openai":
                found.append(OpenAIBackend(spec))
            elif spec.kind == "sampling":
                found.append(SamplingBackend(spec, lambda: self.sampler))
            elif "inference" in self._names:
                models = self._registry.models if self._registry else ()
                found.append(LocalBackend(spec, self._infer, models, self.failed))
        return found

    def _declared(self) -> Sequence[BackendSpec]:
        if self._registry is None:
            return (BackendSpec(name="local", kind="local"),)
        return [spec for spec in self._registry.backends if spec.enabled]

    async def _infer(
        self, tool: str, arguments: Mapping[str, Any], progress: Progress | None
    ) -> dict[str, Any]:
        return await self.call("inference", tool, arguments, progress=progress)

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        seconds: float | None = None,
        meta: Mapping[str, Any] | None = None,
        again: bool = False,
    ) -> dict[str, Any]:
        """Calls one tool of one server and returns its structured content.

        Args:
            server: The server's name.
            tool: The tool's name.
            arguments: Its arguments; those that are None are left out.
            progress: Hears how far the call is.
            seconds: How long it may be silent.
            meta: Goes with the request beside its arguments.
            again: It may be made twice where the server goes away, since it changes nothing.

        Raises:
            RyzansteinError: The error the server raised, or what went wrong on the way to it.
        """
        self._require(server)
        return await self._servers.call(
            server,
            tool,
            arguments,
            on_failure=self.failed,
            again=again,
            progress=progress,
            seconds=seconds,
            meta=meta,
        )

    def _require(self, name: str) -> None:
        if name not in self._names:
            raise ServerUnavailable(
                f"There is no connection to the {name} server.",
                hint="Use Services as an async context manager that names this server.",
            )

    async def chat(
        self, messages: Sequence[Message], *, progress: Progress | None = None, **options: Any
    ) -> Completion:
        """Lets a model continue a conversation; options are those of the `chat` tool.

        Raises:
            RyzansteinError: No backend could; an answer that breaks a constraint is never given.
        """
        return await self.backends.chat(messages, progress=progress, **options)

    async def count_tokens(self, text: str | Sequence[Message], *, model: str | None = None) -> int:
        """Counts the tokens of a text, or of messages in the model's chat template."""
        return await self.backends.count_tokens(text, model)

    async def tools(self) -> tuple[ToolSpec, ...]:
        """Every tool there is, without argument schemas; asked for once."""
        if self._briefs is None:
            briefs: list[Any] = []
            cursor: str | None = ""
            while cursor is not None:
                request = {"query": "", "limit": _PAGE, "cursor": cursor}
                found = await self._look_up("search_tools", request)
                briefs += found["tools"]
                cursor = found["next_cursor"]
            self._briefs = tuple(ToolSpec.of(brief) for brief in briefs)
        return self._briefs

    async def search_tools(self, query: str, limit: int = 8) -> tuple[ToolSpec, ...]:
        """Tools that fit what should be done, best first, without argument schemas."""
        found = await self._look_up("search_tools", {"query": query[:500], "limit": limit})
        return tuple(ToolSpec.of(brief) for brief in found["tools"])

    async def describe_tool(self, name: str) -> ToolSpec:
        """One tool with its schema, example and main argument; asked for once.

        Raises:
            ToolNotFound: There is none of that name.
        """
        if name not in self._specs:
            self._specs[name] = ToolSpec.of(await self._look_up("describe_tool", {"name": name}))
        return self._specs[name]

    async def _look_up(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return await self.call("tools", tool, arguments, again=True)

    def _changes_nothing(self, name: str) -> bool:
        """Whether a tool is known to only read."""
        known = [*self._specs.values(), *(self._briefs or ())]
        return any(spec.read_only for spec in known if spec.name == name)

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        progress: Progress | None = None,
        grants: Sequence[str] = (),
    ) -> ToolOutcome:
        """Runs a tool; a refusal comes back as an outcome with ok False, for the model to read.

        So does the death of the tools server: the next call connects to it again.

        Args:
            name: The tool.
            arguments: What it is called with.
            progress: Hears how far it is.
            grants: Tools, families or `tool:target` that may destroy something in this one call.
        """
        request = {"name": name, "arguments": dict(arguments)}
        kept = str(arguments.get("text", "")) if name == "remember" else ""
        meta = self.caller.meta(grants, kept)
        try:
            found = await self.call(
                "tools",
                "call_tool",
                request,
                progress=progress,
                meta=meta,
                again=self._changes_nothing(name),
            )
        except ApprovalRequired as error:
            return ToolOutcome(
                False,
                str(error),
                reason=APPROVAL_REQUIRED,
                grant=error.grant,
                would=error.message,
            )
        except RyzansteinError as error:
            if isinstance(error, _GONE) and not error.answered:
                await self.failed(f"{name}: {error}")
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
        found = await self.call(
            "memory", "recall", {"query": query, "limit": limit, **options}, again=True
        )
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
        found = await self.call("memory", "find_experiences", arguments, again=True)
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
        self._require(server)
        return await self._servers.read_json(server, uri, on_failure=self.failed)
