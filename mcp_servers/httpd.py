"""Every server under one port.

    /mcp/NAME     each MCP server, streamable HTTP
    /v1/…         chat/completions, completions, embeddings, models: what OpenAI's clients speak
    /health       200 and what is loaded
    /metrics      Prometheus text

Each request goes through these, and any of them may answer it:

    Guard          was it meant for this server       400 421 403
    Authenticated  who sends it                       401 403
    ForSubject     whose data it sees from here on
    Limited        is it too much                     429 413 408
    Sessions       does one subject take all of them  429
    Streams        ends what has no end, with the server or with the token
    FrameGuard     is it a message of the protocol    400

Not called http.py: `mcp run` puts this directory at the front of the module path, where that name
would hide the standard library's.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from typing import Any

import anyio
import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from ryzanstein import __version__
from ryzanstein.mcp_servers._auth import Auth, Authenticated, is_admin
from ryzanstein.mcp_servers._background import hand_back
from ryzanstein.mcp_servers._factory import Server
from ryzanstein.mcp_servers._frames import FrameGuard
from ryzanstein.mcp_servers._guard import LOCAL, Guard, machine_names
from ryzanstein.mcp_servers._limits import Limited, Limits
from ryzanstein.mcp_servers._metrics import shown
from ryzanstein.mcp_servers._openai import routes as openai_routes
from ryzanstein.mcp_servers._sessions import Sessions
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._streams import Streams
from ryzanstein.mcp_servers._subject import ForSubject

__all__ = ["SERVERS", "app", "hand_back"]

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


def app(
    servers: dict[str, MCPServer[Any]] | None = None,
    *,
    only: MCPServer[Any] | None = None,
    local: bool = True,
    hosts: Collection[str] = (),
    auth: Auth | None = None,
    limits: Limits | None = None,
    stateless: bool = False,
    ending: anyio.Event | None = None,
) -> Starlette:
    """Makes the application.

    Args:
        servers: By the name in their path; None means all seven.
        only: Serve this one alone, at /mcp, and without /v1.
        local: It listens on this machine only.
        hosts: Further names and addresses that requests may call it by.
        auth: How requests are authenticated; None means that whoever reaches it is the owner.
        limits: How much one subject may ask for.
        stateless: Keep no sessions for clients of the older protocol.
        ending: Set when no more requests come and streams without an end are to end.
    """
    limits = limits or Limits()
    served = {"/mcp": only} if only is not None else _by_path(servers)
    routes: list[BaseRoute] = [Route("/health", _health), Route("/metrics", _metrics)]
    routes += () if only is not None else openai_routes()
    routes += () if auth is None else auth.routes
    for path, server in served.items():
        routes += _mcp_routes(server, path, limits, stateless)
    guards = [
        Middleware(Guard, hosts={*LOCAL, *hosts, *(() if local else machine_names())}),
        Middleware(Authenticated, auth=auth),
        Middleware(ForSubject),
        Middleware(Limited, limits=limits),
        Middleware(Sessions, most=limits.sessions),
        Middleware(Streams, auth=auth, ending=ending),
        Middleware(FrameGuard),
    ]
    return Starlette(routes=routes, lifespan=_lifespan(served.values(), ending), middleware=guards)


def _by_path(servers: dict[str, MCPServer[Any]] | None) -> dict[str, MCPServer[Any]]:
    chosen = servers or {
        name: importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp for name in SERVERS
    }
    return {f"/mcp/{name}": server for name, server in chosen.items()}


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


def _lifespan(
    servers: Collection[MCPServer[Any]], ending: anyio.Event | None
) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server.session_manager.run())
            group = await stack.enter_async_context(anyio.create_task_group())
            if ending is not None:
                group.start_soon(_end_streams, ending, servers)
            yield
            group.cancel_scope.cancel()
        await hand_back()

    return lifespan


async def _end_streams(ending: anyio.Event, servers: Collection[MCPServer[Any]]) -> None:
    """Tells clients of the newer protocol that no more notices come; others' streams just end."""
    await ending.wait()
    for server in servers:
        if isinstance(server, Server):
            server.end_streams()


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
    return PlainTextResponse(shown().prometheus(), media_type="text/plain; version=0.0.4")
