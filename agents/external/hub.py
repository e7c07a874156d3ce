"""All external servers of a registry, and their tools as tools of ours."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ryzanstein.agents.external.connection import Connection, Loop
from ryzanstein.agents.external.definitions import Definition, Pins, clean, own_name
from ryzanstein.errors import InvalidRequest, RyzansteinError, StorageError, ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools import Output, Tool, ToolContext

if TYPE_CHECKING:
    from mcp_types import CallToolResult

    from ryzanstein.registry import Resilience, ServerSpec

__all__ = ["External", "ToolState"]

log = logging.getLogger("ryzanstein.agents")
_RETRY_SECONDS = 60.0
_PATIENCE = 10.0
_LOCK_SECONDS = 5.0
_MOST_TEXT = 200_000
_MOST_DATA = 200_000
_PLACEHOLDERS = {
    "string": "text",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "array": [],
    "object": {},
}
Standing = Literal["ready", "changed", "new", "not allowed", "unusable", "unreachable"]


@dataclass(frozen=True, slots=True)
class ToolState:
    """How a tool of an external server stands.

    Attributes:
        server: Its server.
        name: What it is called by here; the server's own name where that is unreachable.
        own_name: What the server calls it.
        standing: ready, changed or new (both wait for approval), not allowed, unusable, or
            unreachable for a server that does not tell its tools.
        fingerprint: Of the definition that the server gives now.
        description: In the server's words, cleaned; why it is unreachable.
    """

    server: str
    name: str
    own_name: str
    standing: Standing
    fingerprint: str
    description: str


@dataclass
class _Joined:
    """One server: its connection, what was approved of it, what it has, and when it failed.

    `first` is the list of a server that was never met, while it is asked for since `asked`; `stamp`
    is of the file of pins as it was read or written last.
    """

    connection: Connection
    path: Path
    pins: Pins | None = None
    stamp: tuple[int, int] | None = None
    present: frozenset[str] | None = None
    failed: float = float("-inf")
    first: Future[list[Definition]] | None = None
    asked: float = 0.0

    @property
    def spec(self) -> ServerSpec:
        return self.connection.spec

    def load(self) -> None:
        """Takes what was approved, also by another process meanwhile.

        Raises:
            StorageError: The file is damaged.
        """
        stamp = _stamp(self.path)
        if self.pins is None or stamp != self.stamp:
            self.pins, self.stamp = Pins.load(self.path) or self.pins, stamp

    @contextlib.contextmanager
    def changing(self, found: Sequence[Definition]) -> Iterator[Pins]:
        """Takes what was approved, for a change that is kept: no other process's comes between.

        Args:
            found: What the server says now; a server that was never met has all of it approved.

        Raises:
            StorageError: The file is damaged, cannot be written, or another process holds it.
        """
        import filelock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(f"{self.path}.lock", timeout=_LOCK_SECONDS):
                first = Pins({one.name: one for one in found})
                self.pins = Pins.load(self.path) or self.pins or first
                self.pins.compare(found)
                yield self.pins
                self.pins.save(self.path)
                self.stamp = _stamp(self.path)
        except (OSError, filelock.Timeout) as error:
            raise StorageError(
                f"{self.path} cannot be changed now: {error}.",
                hint="Another program of Ryzanstein may be at it; try again.",
            ) from error


class External:
    """The external servers; connected to when one is first needed.

    Args:
        specs: The servers; built-in ones among them are left out.
        folder: Where the approved definitions are kept.
        policy: When a server that fails is left alone.
        reserved: Names of families that no server may take.
    """

    def __init__(
        self,
        specs: Sequence[ServerSpec],
        folder: Path,
        policy: Resilience,
        reserved: Collection[str] = (),
    ) -> None:
        self._loop = Loop()
        self._servers: dict[str, _Joined] = {}
        for spec in specs:
            if spec.is_external and spec.name in reserved:
                log.warning("the server %s has the name of a toolset; rename it", spec.name)
            elif spec.is_external:
                log_file = folder / f"{spec.name}.log"
                connection = Connection(spec, self._loop, policy, log_file)
                self._servers[spec.name] = _Joined(connection, folder / f"{spec.name}.json")

    def close(self) -> None:
        """Ends the connections and their child processes."""
        self._loop.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the servers, which are their tools' families."""
        return tuple(self._servers)

    async def tools(self) -> tuple[Tool, ...]:
        """Returns the tools that may be called; servers never met before are asked for theirs.

        A server that cannot be reached is left out, and the log says why; one that is slow to
        start joins when it has.
        """
        if not self._servers:
            return ()
        async with anyio.create_task_group() as group:
            for server in self._servers.values():
                group.start_soon(self._met, server)
        return tuple(
            tool for server in self._servers.values() for tool in self._usable(server).values()
        )

    async def _met(self, server: _Joined) -> None:
        if server.pins is None and monotonic() - server.failed < _RETRY_SECONDS:
            return
        try:
            server.load()
            if server.pins is None:
                await self._meet(server)
        except RyzansteinError as error:
            server.failed = monotonic()
            log.warning("the tools of %s are left out: %s", server.spec.name, error)

    async def _meet(self, server: _Joined) -> None:
        """Waits a while for a server's first list; it goes on being asked for afterwards."""
        if server.first is None:
            server.first, server.asked = await server.connection.ask_tools(), monotonic()
        first = server.first
        left = max(0.0, server.asked + _PATIENCE - monotonic())
        await asyncio.wait([asyncio.wrap_future(first)], timeout=left)
        if not first.done():
            log.warning("%s is slow to start; its tools join when it has", server.spec.name)
            return
        if server.first is first:
            server.first = None
            self._take(server, first.result())

    async def states(self) -> list[ToolState]:
        """Asks every server for its tools and says how each stands, or why a server is silent."""
        found: dict[str, list[ToolState]] = {name: [] for name in self._servers}

        async def ask(server: _Joined) -> None:
            try:
                definitions = await self._refresh(server)
            except RyzansteinError as error:
                name = server.spec.name
                found[name] = [ToolState(name, name, "", "unreachable", "", str(error))]
            else:
                found[server.spec.name] = [self._state(server, one) for one in definitions]

        async with anyio.create_task_group() as group:
            for server in self._servers.values():
                group.start_soon(ask, server)
        return [state for states in found.values() for state in states]

    async def approve(self, name: str, tools: Sequence[str] = ()) -> list[str]:
        """Approves of what a server says its tools are now.

        Args:
            name: The server.
            tools: Its own names of tools; none for all that wait.

        Raises:
            InvalidRequest: There is no such server or no such tool.
            RyzansteinError: The server cannot be reached.
        """
        server = self._servers.get(name)
        if server is None:
            known = ", ".join(self._servers) or "none"
            hint = did_you_mean(name, self._servers) or f"External servers: {known}."
            raise InvalidRequest(f"No external server is called {name[:80]!r}.", hint=hint)
        definitions = await self._refresh(server)
        found = [one.name for one in definitions]
        plain = [one.removeprefix(f"{name}.") for one in tools]
        for one in plain:
            if one not in found:
                raise InvalidRequest(f"{name} has no tool {one!r}.", hint=did_you_mean(one, found))
        with server.changing(definitions) as pins:
            return pins.approve(plain or list(pins.waiting))

    async def _refresh(self, server: _Joined) -> list[Definition]:
        found = await server.connection.list_tools()
        self._take(server, found)
        return found

    def _take(self, server: _Joined, found: list[Definition]) -> None:
        with server.changing(found):
            server.present = frozenset(one.name for one in found)

    def _state(self, server: _Joined, one: Definition) -> ToolState:
        assert server.pins is not None
        standing: Standing = "ready"
        if not _allowed(server.spec, one):
            standing = "not allowed"
        elif one.usable_schema() is None:
            standing = "unusable"
        elif one.name in server.pins.waiting:
            standing = "changed" if one.name in server.pins.approved else "new"
        name = own_name(server.spec.name, one.name)
        return ToolState(server.spec.name, name, one.name, standing, one.fingerprint, one.text(200))

    def _usable(self, server: _Joined) -> dict[str, Tool]:
        found: dict[str, Tool] = {}
        if server.pins is None:
            return found
        for one in server.pins.approved.values():
            schema = one.usable_schema()
            gone = server.present is not None and one.name not in server.present
            if schema is None or gone or not _allowed(server.spec, one):
                continue
            if one.name in server.pins.waiting:
                continue
            name = own_name(server.spec.name, one.name, found)
            found[name] = self._tool(server, one, name, schema)
        return found

    def _tool(self, server: _Joined, one: Definition, name: str, schema: dict[str, Any]) -> Tool:
        spec = server.spec
        reads = any(fnmatch.fnmatchcase(one.name, pattern) for pattern in spec.read_only)

        async def function(ctx: ToolContext, **arguments: Any) -> Output:
            return await self._called(server, one, arguments, reads)

        required = [str(key) for key in schema.get("required", []) if key in schema["properties"]]
        main = required[0] if required else next(iter(schema["properties"]), "")
        return Tool(
            name=name,
            family=spec.name,
            title=clean(one.name, 60),
            summary=f"{spec.name} says: {one.text(60) or one.name[:60]}",
            description=f"A tool of the server {spec.name}, which says of it: {one.text()!r}",
            input_schema=schema,
            annotations={
                "read_only": reads,
                "destructive": not reads,
                "idempotent": reads,
                "open_world": spec.open_world,
            },
            example={key: _example(schema["properties"][key]) for key in required},
            main_argument=main,
            main_form="line",
            main_language="",
            argument_forms={key: _form(schema["properties"][key]) for key in required},
            untrusted=True,
            time_limit=2 * spec.seconds + 5.0,
            reads_unless="",
            destroys=None,
            reaches=None,
            function=function,
            model=None,
        )

    async def _called(
        self, server: _Joined, one: Definition, arguments: dict[str, Any], reads: bool
    ) -> Output:
        if server.connection.stale:
            await self._refresh(server)
        server.load()
        assert server.pins is not None
        if one.name in server.pins.waiting:
            raise ToolError(
                f"The server {server.spec.name} changed what {one.name} is since it was approved.",
                hint="The user can look at it with `ryzanstein tools list --external` and approve "
                f"of it with `ryzanstein tools approve {server.spec.name}`.",
            )
        result = await server.connection.call(one.name, arguments, again=reads)
        text = _text(result)
        if result.is_error:
            raise ToolError(f"{server.spec.name} says: {text[:2000] or 'it failed'}")
        return Output(text or "(no text)", _data(result))


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells one state of a file from another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _allowed(spec: ServerSpec, one: Definition) -> bool:
    return any(fnmatch.fnmatchcase(one.name, pattern) for pattern in spec.allow)


def _text(result: CallToolResult) -> str:
    parts = []
    for part in result.content:
        text = getattr(part, "text", None)
        if text is None:
            text = getattr(getattr(part, "resource", None), "text", None)
        parts.append(text if isinstance(text, str) else f"[{part.type}, not shown]")
    return "\n".join(parts)[:_MOST_TEXT]


def _data(result: CallToolResult) -> Mapping[str, Any]:
    content = result.structured_content
    if not isinstance(content, dict) or len(json.dumps(content, default=str)) > _MOST_DATA:
        return {}
    return content


def _example(about: Any) -> Any:
    if not isinstance(about, dict):
        return "text"
    if "default" in about:
        return about["default"]
    if about.get("enum"):
        return about["enum"][0]
    return _PLACEHOLDERS.get(str(about.get("type")), "text")


def _form(about: Any) -> Literal["line", "json"]:
    kind = about.get("type") if isinstance(about, dict) else None
    return "line" if kind in {"string", "integer", "number", "boolean"} else "json"
