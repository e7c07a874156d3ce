"""Listens: on this machine only unless told otherwise, with tokens, and with an orderly end.

    end asked for -> no new connections, endless streams end -> calls under way may finish
                  -> runs are handed back at their last finished step -> sessions and store close

The owner's token is made with the first start. What is not encrypted is not offered to other
machines unless that was asked for; without authentication it never is.
"""

from __future__ import annotations

import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from sse_starlette.sse import AppStatus
from starlette.types import ASGIApp

from ryzanstein.config import Settings
from ryzanstein.errors import ConfigError, ConnectionFailed, InvalidRequest
from ryzanstein.mcp_servers import _oauth
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.mcp_servers._connections import Connection
from ryzanstein.mcp_servers._guard import LOCAL
from ryzanstein.mcp_servers._limits import Limits
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers.httpd import SERVERS, app, hand_back
from ryzanstein.tokens import Tokens

__all__ = ["Listening", "auth_of", "serve"]

# For what is left after the time of grace: writing down how each run ended.
_END_SECONDS = 5
_EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
# More would run out of file descriptors, of which a process has 1,024 by default.
_MOST_CONNECTIONS = 900


@dataclass(frozen=True, slots=True)
class Listening:
    """How a server listens.

    Attributes:
        host: Name or address.
        port: 0 takes any free one.
        tls: Files of the certificate and of its key.
        allow_remote: Let other machines reach it without encryption.
        auth: Ask for tokens.
        stateless: Keep no sessions for clients of the older protocol.
        grace_seconds: Calls under way get so long to finish when it ends.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tls: tuple[Path, Path] | None = None
    allow_remote: bool = False
    auth: bool = True
    stateless: bool = False
    grace_seconds: float = 10.0

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can reach it."""
        return self.host in LOCAL


def serve(how: Listening, only: MCPServer[Any] | None = None) -> None:
    """Serves everything, or one MCP server at /mcp, until it is told to end.

    Raises:
        InvalidRequest: It would be open to other machines.
        ConfigError: What is configured does not fit together, or the certificate cannot be used.
        ConnectionFailed: The port cannot be listened on.
        KeyboardInterrupt: An interrupt ended it.
    """
    _require_closed(how)
    settings = shared().settings
    paths = ("/mcp",) if only is not None else tuple(f"/mcp/{name}" for name in SERVERS)
    context = _tls(*how.tls) if how.tls else None
    ending = anyio.Event()
    application = app(
        only=only,
        local=how.is_local,
        hosts=_hosts(how.host, settings),
        auth=auth_of(settings, paths) if how.auth else None,
        limits=Limits(rate=settings.rate_limit, requests=settings.max_requests),
        stateless=how.stateless,
        ending=ending,
    )
    listener = _listen(how.host, how.port)
    _announce(how, listener.getsockname()[1], "/mcp" if only is not None else "")
    server = _Server(_configured(application, how, context), ending, how.grace_seconds)
    anyio.run(lambda: server.serve(sockets=[listener]))
    if server.interrupted:
        raise KeyboardInterrupt


def auth_of(settings: Settings, paths: Sequence[str]) -> Auth:
    """Makes what authenticates requests; the owner's token is there afterwards.

    Raises:
        ConfigError: What is configured does not fit together, or no token can be kept.
    """
    tokens = Tokens(settings.data_dir)
    tokens.owner()
    foreign = _oauth.verifier(settings)
    if foreign is None:
        return Auth(OwnTokens(tokens))
    return Auth(
        OwnTokens(tokens),
        foreign,
        resource=(settings.public_url or "").rstrip("/"),
        scopes=settings.oauth_scopes,
        routes=_oauth.metadata_routes(settings, tuple(paths)),
    )


class _Server(uvicorn.Server):
    """Ends in order: streams first, calls when they are done, runs where they can go on."""

    def __init__(self, config: uvicorn.Config, ending: anyio.Event, grace: float) -> None:
        super().__init__(config)
        self.interrupted = False
        self._ending = ending
        self._grace = grace

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to end; the second time, at once."""
        self.interrupted = sig == signal.SIGINT
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends what is served."""
        self._ending.set()
        async with anyio.create_task_group() as group:
            group.start_soon(self._hand_back)
            await super().shutdown(sockets)
            group.cancel_scope.cancel()

    async def _hand_back(self) -> None:
        await anyio.sleep(self._grace)
        await hand_back()


def _configured(
    application: ASGIApp, how: Listening, context: ssl.SSLContext | None
) -> uvicorn.Config:
    # It would cut off the answers of calls that may still finish.
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]
    return uvicorn.Config(
        application,
        http=Connection,
        # One request must not begin with what another one of its connection has set.
        reset_contextvars=True,
        log_level="warning",
        timeout_graceful_shutdown=int(how.grace_seconds) + _END_SECONDS,
        limit_concurrency=_MOST_CONNECTIONS,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=(lambda config, default: context) if context is not None else None,
    )


def _require_closed(how: Listening) -> None:
    if how.is_local:
        return
    if not how.auth:
        raise InvalidRequest(
            f"{how.host} can be reached from other machines, which is never without tokens.",
            hint="Leave --no-auth out, or use 127.0.0.1.",
        )
    if how.tls is None and not how.allow_remote:
        raise InvalidRequest(
            f"{how.host} can be reached from other machines, and tokens would not be encrypted.",
            hint="Give --tls-cert and --tls-key, or --allow-remote in a network you trust.",
        )


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        of_tls = isinstance(error, ssl.SSLError)
        reason = "they are no pair of them" if of_tls else error.strerror
        raise ConfigError(
            f"{certificate} and {key} cannot be used for TLS: {reason}.",
            hint="Give PEM files: the certificate with its chain, and its key without a password.",
        ) from error
    return context


def _hosts(host: str, settings: Settings) -> frozenset[str]:
    """The names that requests may call this server by, beside those of the machine."""
    public = urlsplit(settings.public_url or "").hostname or ""
    names = (host, public, *settings.allowed_hosts)
    return frozenset(name.lower().strip("[]") for name in names) - _EVERYWHERE


def _announce(how: Listening, port: int, path: str) -> None:
    name = f"[{how.host}]" if ":" in how.host else how.host
    scheme = "http" if how.tls is None else "https"
    lines = [f"Serving at {scheme}://{name}:{port}{path}"]
    if not how.auth:
        lines.append("Without tokens: whoever reaches it on this machine is its owner.")
    else:
        lines.append("Clients need a token: `ryzanstein token show` prints yours.")
    if not how.is_local and how.tls is None:
        lines.append("Not encrypted: whoever listens on the network can read tokens.")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise ConnectionFailed(
            f"Port {port} of {host} cannot be listened on: {error.strerror}.",
            hint="Choose another one with --port.",
        ) from error
