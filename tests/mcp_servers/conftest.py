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

from ryzanstein.mcp_servers import httpd
from ryzanstein.mcp_servers._shared import shared

Call = Callable[..., Awaitable[CallToolResult]]
SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


@pytest.fixture(autouse=True)
def fresh_process(isolated_home: Path) -> Iterator[None]:
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
        content = result.structured_content
        assert isinstance(content, dict)
        error: dict[str, str] = content["error"]
        assert result.content[0].text.startswith(f"{error['code']}: {error['message']}")  # type: ignore[union-attr]
        return error

    return run


@pytest.fixture
async def base_url() -> AsyncIterator[str]:
    """Everything served over a real socket of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(httpd.app(), log_level="warning", lifespan="on"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.001)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    await task
