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
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any

import anyio
import anyio.to_thread
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from ryzanstein import __version__
from ryzanstein.errors import ConnectionFailed
from ryzanstein.mcp_servers._auth import Auth, Authenticated, is_admin
from ryzanstein.mcp_servers._guard import LOCAL, Guard, machine_names
from ryzanstein.mcp_servers._limits import Limited, Limits
from ryzanstein.mcp_servers._metrics import METRICS
from ryzanstein.mcp_servers._openai import routes as openai_routes
from ryzanstein.mcp_servers._shared import shared

__all__ = ["SERVERS", "app", "run_all", "run_one"]

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")
GRACE_SECONDS = 5


def app(
    servers: dict[str, MCPServer[Any]] | None = None,
    *,
    local: bool = True,
    hosts: Collection[str] = (),
    auth: Auth | None = None,
    limits: Limits | None = None,
    stateless: bool = False,
) -> Starlette:
    """Makes the application.

    Args:
        servers: By the name in their path; None means all seven.
        local: It listens on this machine only.
        hosts: Further names and addresses that requests may call it by.
        auth: How requests are authenticated; None means that whoever reaches it is the owner.
        limits: How much one subject may ask for.
        stateless: Keep no sessions for clients of the older protocol.
    """
    chosen = servers or {
        name: importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp for name in SERVERS
    }
    routes: list[BaseRoute] = [
        Route("/health", _health),
        Route("/metrics", _metrics),
        *openai_routes(),
    ]
    limits = limits or Limits()
    for name, server in chosen.items():
        routes += _mcp_routes(server, f"/mcp/{name}", limits, stateless)
    guards = _guards({*LOCAL, *hosts, *(() if local else machine_names())}, auth, limits)
    return Starlette(routes=routes, lifespan=_lifespan(list(chosen.values())), middleware=guards)


def _mcp_routes(
    server: MCPServer[Any], path: str, limits: Limits, stateless: bool
) -> Sequence[BaseRoute]:
    # Guard has looked at Host and Origin before; the SDK's own check knows local names only.
    open_ = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return server.streamable_http_app(
        streamable_http_path=path,
        stateless_http=stateless,
        transport_security=open_,
        max_request_body_size=limits.body,
    ).routes


def _guards(hosts: Collection[str], auth: Auth | None, limits: Limits) -> list[Middleware]:
    """What stands before every route, outermost first."""
    return [
        Middleware(Guard, hosts=hosts),
        Middleware(Authenticated, auth=auth),
        Middleware(Limited, limits=limits),
    ]


def _lifespan(servers: Sequence[MCPServer[Any]]) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server.session_manager.run())
            yield

    return lifespan


async def _health(request: Request) -> Response:
    parts = await anyio.to_thread.run_sync(shared().health.seen)
    status = "ok" if all(one.usable for one in parts) else "degraded"
    if not is_admin(request.scope):
        return JSONResponse({"status": status})
    loaded = shared().engine.loaded() if shared().has("engine") else []
    return JSONResponse(
        {
            "status": status,
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
    _serve(app(local=host in LOCAL, hosts=(host,)), host, port, "")


def run_one(server: MCPServer[Any], host: str, port: int) -> None:
    """Serves one MCP server at /mcp until it is interrupted.

    Raises:
        ConnectionFailed: The port cannot be listened on.
    """
    limits = Limits()
    routes = _mcp_routes(server, "/mcp", limits, stateless=False)
    hosts = {*LOCAL, host, *(() if host in LOCAL else machine_names())}
    made = Starlette(
        routes=routes, lifespan=_lifespan([server]), middleware=_guards(hosts, None, limits)
    )
    _serve(made, host, port, "/mcp")


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
