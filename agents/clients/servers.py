"""Calls to MCP servers that survive a server's death.

    call ── circuit of the server ── connection, made anew where it was lost ── silence bounded
            lost: made again only where nothing can be done twice

Whatever a server answers with an error comes out as the same error of `ryzanstein.errors` that was
raised there; it says nothing against the server. What goes wrong on the way to it does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from ryzanstein.agents.backends.base import Progress, reporting
from ryzanstein.agents.clients.connections import Connections, protocol_error, transport_errors
from ryzanstein.errors import (
    ERROR_META,
    ConnectionFailed,
    RyzansteinError,
    TimedOut,
    from_wire,
)
from ryzanstein.registry_models import Resilience
from ryzanstein.resilience import Parties, Watch, retried

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult

__all__ = ["Servers"]

Hook = Callable[[str], Awaitable[None]]
_Use = Callable[["Client", Watch], Awaitable[Any]]


class Servers:
    """The MCP servers of a process or run.

    Args:
        connections: To them.
        policy: When to try again, and when to leave one alone.
        parties: What is known of each.
    """

    def __init__(self, connections: Connections, policy: Resilience, parties: Parties) -> None:
        self.connections = connections
        self.policy = policy
        self.parties = parties

    async def connect(self, name: str, on_failure: Hook) -> None:
        """Connects to a server, trying again as a call would.

        Raises:
            ConnectionFailed: It cannot be started or reached.
        """

        async def nothing(client: Client, watch: Watch) -> None:
            return None

        await self._used(name, "", nothing, True, None, on_failure)

    async def call(
        self,
        server: str,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        on_failure: Hook,
        again: bool = False,
        progress: Progress | None = None,
        seconds: float | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Calls one tool of one server and returns its structured content.

        Args:
            server: The server's name.
            tool: The tool's name.
            arguments: Its arguments; those that are None are left out.
            on_failure: Hears why a call is made again.
            again: It may be made twice, since it changes nothing.
            progress: Hears how far the call is.
            seconds: How long it may be silent; the policy's `call_seconds` by default.
            meta: Goes with the request beside its arguments.

        Raises:
            RyzansteinError: The error the server raised, or what went wrong on the way to it.
        """
        given = {key: value for key, value in arguments.items() if value is not None}

        async def use(client: Client, watch: Watch) -> CallToolResult:
            return await client.call_tool(
                tool,
                given,
                progress_callback=reporting(watch, progress),
                meta=cast(Any, dict(meta)) if meta else None,
            )

        result = await self._used(server, tool, use, again, seconds, on_failure)
        if result.is_error:
            error = _wire_error(result)
            error.answered = True
            raise error
        return _content(result)

    async def read_json(self, server: str, uri: str, *, on_failure: Hook) -> dict[str, Any]:
        """Reads a JSON resource, such as memory://prototypes.

        Raises:
            ServerUnavailable: The server does not have it.
        """

        async def use(client: Client, watch: Watch) -> Any:
            return await client.read_resource(uri)

        found = await self._used(server, uri, use, True, None, on_failure)
        values: dict[str, Any] = json.loads(getattr(found.contents[0], "text", "{}"))
        return values

    async def _used(
        self,
        server: str,
        what: str,
        use: _Use,
        again: bool,
        seconds: float | None,
        on_failure: Hook,
    ) -> Any:
        """Uses a client, and another one after the server went away, where that is safe."""
        party = self.parties.get(f"server:{server}", self.policy)
        sent = False

        async def once() -> Any:
            nonlocal sent
            sent = False
            party.require()
            try:
                client = await self.connections.client(server)
            except ConnectionFailed as error:
                party.failed(error)
                raise
            sent = True
            return await self._used_once(server, what, client, use, seconds)

        async def told(error: Exception) -> None:
            await on_failure(f"{party.name}: {error} It is called again.")

        def safe(error: Exception) -> bool:
            return isinstance(error, ConnectionFailed) and (again or not sent) and not party.open

        try:
            return await retried(once, self.policy, safe=safe, on_retry=told)
        except ConnectionFailed as error:
            if sent and not again:
                raise ConnectionFailed(
                    f"The {server} server went away within {what}, which is not called again: "
                    "it may have been done.",
                    hint="Look at what it did before you ask for it again.",
                ) from error
            raise

    async def _used_once(
        self, server: str, what: str, client: Client, use: _Use, seconds: float | None
    ) -> Any:
        """Uses a client, and tells the server's party how that went."""
        party = self.parties.get(f"server:{server}", self.policy)
        try:
            async with party.watch(seconds or self.policy.call_seconds) as watch:
                found = await use(client, watch)
        except TimedOut as error:
            self.connections.drop(server, client)
            party.failed(error)
            raise
        except transport_errors() as error:
            raise self._lost(server, what, client, error) from error
        party.worked()
        return found

    def _lost(self, server: str, what: str, client: Client, error: Exception) -> RyzansteinError:
        """What an error of a connection means; a connection that is lost is dropped."""
        found = protocol_error(server, what, error)
        if isinstance(found, ConnectionFailed | TimedOut):
            self.connections.drop(server, client)
            self.parties.get(f"server:{server}", self.policy).failed(found)
        return found


def _wire_error(result: CallToolResult) -> RyzansteinError:
    """The error a server put into a failed result: its fields, or CODE: message in the text."""
    details = (result.meta or {}).get(ERROR_META)
    if isinstance(details, dict):
        return from_wire(**{"code": "", "message": "", **details})
    text = " ".join(getattr(part, "text", "") for part in result.content).strip()
    code, colon, message = text.partition(": ")
    return from_wire(code, message) if colon and code.isupper() else RyzansteinError(text)


def _content(result: CallToolResult) -> dict[str, Any]:
    if isinstance(result.structured_content, dict):
        return result.structured_content
    return {"text": " ".join(getattr(part, "text", "") for part in result.content)}
