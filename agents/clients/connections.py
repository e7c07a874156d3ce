"""Connections to MCP servers that may die and are then made again.

A client belongs to the task that opened it, so each is held by a task of its own. One whose server
has gone is dropped, and the next call connects anew: a child process is started again.

    client(name) ── held and alive: that one
                 └─ else a task: async with Client(target) ── until dropped or closed
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from ryzanstein.errors import (
    ConfigError,
    ConnectionFailed,
    RyzansteinError,
    ServerUnavailable,
    TimedOut,
)
from ryzanstein.subject import current

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client.session import ElicitationFnT

    from ryzanstein.registry import Registry, ServerSpec

__all__ = ["Connections", "first_cause", "protocol_error", "target_of", "transport_errors"]

log = logging.getLogger("ryzanstein.agents")

CONNECT_SECONDS = 60.0
# What they answer depends on who asks; models are the same for all.
_PERSONAL = frozenset({"analytics", "cache", "memory", "orchestrator", "tools"})


@dataclass
class _Held:
    """A client and the event that ends it."""

    client: Client
    dropped: anyio.Event


@dataclass
class Connections:
    """The clients of one process or run, by server; `open` and `close` in the same task.

    Attributes:
        targets: What takes the place of the registry's servers.
        registry: Says where each server runs.
        seconds: How long connecting may take.
        elicit: Asks the user what a server wants to know; None where there is nobody to ask.
    """

    registry: Registry | None = None
    targets: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = CONNECT_SECONDS
    elicit: ElicitationFnT | None = None
    _held: dict[str, _Held] = field(default_factory=dict)
    _locks: dict[str, anyio.Lock] = field(default_factory=dict)
    _group: anyio.abc.TaskGroup | None = None

    async def open(self) -> None:
        """Makes connections possible."""
        self._group = anyio.create_task_group()
        await self._group.__aenter__()

    async def close(self) -> None:
        """Ends every connection and waits until it has ended."""
        for name in [*self._held]:
            self._held.pop(name).dropped.set()
        group, self._group = self._group, None
        if group is not None:
            await group.__aexit__(None, None, None)

    async def client(self, name: str) -> Client:
        """Returns a client of a server, connecting first where there is none.

        Raises:
            ServerUnavailable: Connections are not open.
            ConnectionFailed: The server cannot be started or reached.
        """
        if self._group is None:
            raise ServerUnavailable(
                f"There is no connection to the {name} server.",
                hint="Use Services as an async context manager.",
            )
        async with self._locks.setdefault(name, anyio.Lock()):
            if name not in self._held:
                self._held[name] = await self._connected(name, self._group)
            return self._held[name].client

    def drop(self, name: str, client: Client) -> None:
        """Forgets a client whose server has gone, unless it was replaced already."""
        held = self._held.get(name)
        if held is not None and held.client is client:
            del self._held[name]
            held.dropped.set()

    async def _connected(self, name: str, group: anyio.abc.TaskGroup) -> _Held:
        target = self.targets.get(name) or target_of(name, self.registry)
        dropped = anyio.Event()
        try:
            with anyio.fail_after(self.seconds):
                client = await group.start(_hold, target, dropped, self.elicit)
                return _Held(client, dropped)
        except TimeoutError:
            raise ConnectionFailed(
                f"The {name} server did not answer within {self.seconds:g} s.",
                hint="Check `servers` in the registry.",
            ) from None
        except RyzansteinError:
            raise
        except transport_errors() as error:
            raise ConnectionFailed(
                f"The {name} server cannot be reached: {first_cause(error)}.",
                hint="Check `servers` in the registry, and the token_env of one at a url; or leave "
                "the server out to run it here.",
            ) from error


async def _hold(
    target: Any,
    dropped: anyio.Event,
    elicit: ElicitationFnT | None,
    *,
    task_status: anyio.abc.TaskStatus[Client],
) -> None:
    """Keeps a client open until it is dropped."""
    from mcp import Client

    connected = False
    try:
        async with Client(target, elicitation_callback=elicit) as client:
            connected = True
            task_status.started(client)
            await dropped.wait()
    except Exception as error:
        if not connected:
            raise
        # Whoever called it has heard of the failure; a dead connection may end as it likes.
        log.debug("A connection ended: %s", first_cause(error))


def target_of(name: str, registry: Registry | None) -> Any:
    """What to connect to: a server object, parameters of a child, or a URL.

    Raises:
        ConfigError: There is no such server, or it cannot keep the current subject's data apart.
    """
    from mcp import StdioServerParameters

    from ryzanstein.registry_models import BUILTIN_SERVERS

    spec: ServerSpec | None = None
    if registry is not None:
        spec = next((one for one in registry.servers if one.name == name), None)
    if spec is None and name not in BUILTIN_SERVERS:
        raise ConfigError(f"No server is called '{name}'.", hint="Add it to `servers`.")
    if spec is None or spec.transport == "memory":
        return importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp
    if current().key and name in _PERSONAL:
        # No token is passed on, so a server elsewhere would take everybody for its owner.
        raise ConfigError(
            f"The {name} server runs elsewhere, where nobody's data but the owner's is kept.",
            hint=f"Whoever runs this server can leave {name} out of `servers` in the registry.",
        )
    if spec.transport == "stdio":
        assert spec.command is not None
        return StdioServerParameters(
            command=spec.command, args=list(spec.args), env=spec.env or None
        )
    if spec.token_env is None:
        return spec.url
    return _with_token(str(spec.url), _token(name, spec.token_env))


def _token(server: str, variable: str) -> str:
    token = os.environ.get(variable, "").strip()
    if not token:
        raise ConfigError(
            f"The {server} server needs a token, and {variable} is not set.",
            hint=f"Set {variable}; `ryzanstein token add NAME` makes one where that server runs.",
        )
    return token


@contextlib.asynccontextmanager
async def _with_token(url: str, token: str) -> AsyncIterator[Any]:
    """Connects with a token that this process was given for a server; it is no caller's."""
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    async with (
        create_mcp_http_client(headers={"Authorization": f"Bearer {token}"}) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


def transport_errors() -> tuple[type[Exception], ...]:
    """What a connection may raise when its server fails."""
    import httpx2
    from mcp import MCPError

    return (
        OSError,
        ExceptionGroup,
        MCPError,
        httpx2.HTTPError,
        anyio.ClosedResourceError,
        anyio.BrokenResourceError,
        anyio.EndOfStream,
    )


def protocol_error(server: str, what: str, error: Exception) -> RyzansteinError:
    """What an error of a connection means."""
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    if not isinstance(error, MCPError):
        return ConnectionFailed(f"The {server} server went away: {first_cause(error)}.")
    if error.code == REQUEST_TIMEOUT:
        return TimedOut(f"{what} of the {server} server took too long.", hint="Try again.")
    if error.code == CONNECTION_CLOSED:
        return ConnectionFailed(f"The {server} server went away.", hint="Start it again.")
    return ServerUnavailable(f"The {server} server refused {what}: {error}.")


def first_cause(error: BaseException) -> str:
    """Returns the innermost first cause, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
