"""Every server under one port.

    /mcp/NAME     each MCP server, streamable HTTP
    /v1/…         chat/completions, completions, embeddings, models: what OpenAI's clients speak
    /health       200 and what is loaded
    /metrics      Prometheus text

Not called http.py: `mcp run` puts this directory at the front of the module path, where that name
would hide the standard library's. There is no password yet, so it listens on this machine only
unless told otherwise, and answers only requests that were meant for it: a page in a browser
cannot reach it through another name.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import RequestBodyLimitMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ryzanstein import __version__
from ryzanstein.errors import ConnectionFailed
from ryzanstein.mcp_servers._metrics import METRICS
from ryzanstein.mcp_servers._openai import routes as openai_routes
from ryzanstein.mcp_servers._shared import shared

__all__ = ["SERVERS", "app", "run_all", "run_one"]

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_BODY = 8 << 20
GRACE_SECONDS = 5


class Guard:
    """Answers only requests whose Host, and Origin where there is one, are this server's own.

    Without it any page in a local browser could reach a local port through a name that it makes
    resolve to 127.0.0.1.

    Args:
        inner: What to protect.
        local: It listens on this machine only, so Host must be a local name.
    """

    def __init__(self, inner: ASGIApp, local: bool) -> None:
        self._inner = inner
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 421 (Host) or 403 (Origin)."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = _name(f"//{headers.get('host', '')}")
        refusal = None
        if not host or (self._local and host not in LOCAL):
            refusal = PlainTextResponse("This is not the host you asked for.", 421)
        elif "origin" in headers and not self._same(_name(headers["origin"]), host):
            refusal = PlainTextResponse("Pages of other origins have no access.", 403)
        await (refusal or self._inner)(scope, receive, send)

    def _same(self, origin: str, host: str) -> bool:
        return origin in LOCAL if self._local else origin == host


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def app(servers: dict[str, MCPServer[Any]] | None = None, *, local: bool = True) -> Starlette:
    """Makes the application.

    Args:
        servers: By the name in their path; None means all seven.
        local: It listens on this machine only.
    """
    chosen = servers or {
        name: importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp for name in SERVERS
    }
    routes: list[BaseRoute] = [
        Route("/health", _health),
        Route("/metrics", _metrics),
        *openai_routes(),
    ]
    for name, server in chosen.items():
        routes += _mcp_routes(server, f"/mcp/{name}")
    return _application(routes, list(chosen.values()), local)


def _mcp_routes(server: MCPServer[Any], path: str) -> Sequence[BaseRoute]:
    # Guard has looked at Host and Origin before; the SDK's own check knows local names only.
    open_ = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return server.streamable_http_app(
        streamable_http_path=path, transport_security=open_, max_request_body_size=MAX_BODY
    ).routes


def _application(
    routes: Sequence[BaseRoute], servers: Sequence[MCPServer[Any]], local: bool
) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server.session_manager.run())
            yield

    guards = [
        Middleware(Guard, local=local),
        Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY),
    ]
    return Starlette(routes=list(routes), lifespan=lifespan, middleware=guards)


async def _health(request: Request) -> Response:
    loaded = shared().engine.loaded() if shared().has("engine") else []
    parts = await anyio.to_thread.run_sync(shared().health.seen)
    return JSONResponse(
        {
            "status": "ok" if all(one.usable for one in parts) else "degraded",
            "version": __version__,
            "loaded": [str(name) for name in loaded],
            "parts": [asdict(one) for one in parts],
        }
    )


async def _metrics(request: Request) -> Response:
    return PlainTextResponse(METRICS.prometheus(), media_type="text/plain; version=0.0.4")


def run_all(host: str, port: int) -> None:
    """Serves everything until it is interrupted.

    Raises:
        ConnectionFailed: The port cannot be listened on.
    """
    _serve(app(local=host in LOCAL), host, port, "")


def run_one(server: MCPServer[Any], host: str, port: int) -> None:
    """Serves one MCP server at /mcp until it is interrupted.

    Raises:
        ConnectionFailed: The port cannot be listened on.
    """
    routes = _mcp_routes(server, "/mcp")
    _serve(_application(routes, [server], local=host in LOCAL), host, port, "/mcp")


def _serve(application: Starlette, host: str, port: int, path: str) -> None:
    listener = _listen(host, port)
    name = f"[{host}]" if ":" in host else host
    print(
        f"Serving at http://{name}:{listener.getsockname()[1]}{path}", file=sys.stderr, flush=True
    )
    config = uvicorn.Config(
        application,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
    )
    anyio.run(lambda: uvicorn.Server(config).serve(sockets=[listener]))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise ConnectionFailed(
            f"Port {port} of {host} cannot be listened on: {error.strerror}.",
            hint="Choose another one with --port.",
        ) from error
