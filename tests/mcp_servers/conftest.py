"""A process's shared parts made anew for each test, and clients to its servers."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp import Client
from mcp_types import CallToolResult

from ryzanstein.errors import ERROR_META
from ryzanstein.mcp_servers import _metrics, httpd
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.tokens import Tokens
from tests.mcp_servers.people import People

Call = Callable[..., Awaitable[CallToolResult]]
SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


@pytest.fixture(autouse=True)
def fresh_process(isolated_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_metrics, "METRICS", _metrics.Metrics())
    shared().reset()
    yield
    shared().reset()


@pytest.fixture(params=SERVERS)
def server_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server() -> Callable[[str], Any]:
    return lambda name: importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp


@pytest.fixture
def call(server: Callable[[str], Any]) -> Call:
    async def run(name: str, tool: str, /, **arguments: Any) -> CallToolResult:
        async with Client(server(name)) as client:
            return await client.call_tool(tool, arguments)

    return run


@pytest.fixture
def answer(call: Call) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def run(name: str, tool: str, /, **arguments: Any) -> dict[str, Any]:
        result = await call(name, tool, **arguments)
        assert not result.is_error, result.content
        content = result.structured_content
        assert isinstance(content, dict)
        return content

    return run


@pytest.fixture
def fault(call: Call) -> Callable[..., Awaitable[dict[str, str]]]:
    async def run(name: str, tool: str, /, **arguments: Any) -> dict[str, str]:
        result = await call(name, tool, **arguments)
        assert result.is_error
        error: dict[str, str] = (result.meta or {})[ERROR_META]
        assert result.content[0].text.startswith(f"{error['code']}: {error['message']}")  # type: ignore[union-attr]
        return error

    return run


Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def listening() -> AsyncIterator[Serve]:
    """Serves applications over real sockets of this machine, until the test ends."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(application: Any) -> str:
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="on"))
        listener = socket.create_server(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        running.append((server, task))
        while not server.started:
            assert not task.done(), "the server did not start"
            await asyncio.sleep(0.001)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, task in running:
        server.should_exit = True
        await task


@pytest.fixture
def serving(listening: Serve) -> Serve:
    """Serves httpd.app(**options) so."""

    async def start(*args: Any, **options: Any) -> str:
        return await listening(httpd.app(*args, **options))

    return start


@pytest.fixture
async def base_url(serving: Serve) -> str:
    """Everything served over a real socket of this machine."""
    return await serving()


@pytest.fixture
async def people(serving: Serve, tmp_path: Path) -> People:
    """Everything served to the owner and to others who have tokens."""
    tokens = Tokens(tmp_path / "tokens")
    return People(await serving(auth=Auth(OwnTokens(tokens))), tokens)
