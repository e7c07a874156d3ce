"""Many clients at once over real sockets: each gets its own answers, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from ryzanstein.mcp_servers import httpd
from ryzanstein.mcp_servers._frames import FrameGuard

CLIENTS = 64
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
HELLO = {"name": "many", "version": "1"}
OPENING = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": HELLO}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": HELLO,
}


def message(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def result(found: httpx2.Response) -> dict[str, Any]:
    text = found.text
    if found.headers["content-type"].startswith("text/event-stream"):
        text = [line[6:] for line in text.splitlines() if line.startswith("data: {")][-1]
    answer = json.loads(text)
    assert "result" in answer, (found.status_code, text, dict(found.request.headers))
    return dict(answer["result"])


async def one_client(http: httpx2.AsyncClient, url: str, number: int) -> None:
    """Calls a tool twice with the same id as all the others, every second one within a session."""
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}
    headers["mcp-name"] = "lookup_response"
    params: dict[str, Any] = {"_meta": ENVELOPE}
    if number % 2:
        opened = await http.post(url, json=message("initialize", OPENING))
        headers = {"mcp-session-id": opened.headers["mcp-session-id"]}
        params = {}
    name = f"no-such-tool-{number}"
    headers |= {"mcp-name": name} if "mcp-name" in headers else {}
    for _ in range(2):
        call = message("tools/call", {"name": name, "arguments": {}, **params})
        found = result(await http.post(url, json=call, headers=headers))
        assert f"'{name}'" in found["content"][0]["text"]
    if number % 2:
        assert (await http.delete(url, headers=headers)).status_code == 200


async def test_each_of_many_clients_gets_its_own_answers(base_url: str) -> None:
    async with httpx2.AsyncClient(headers=JSON, timeout=60) as http, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(one_client(http, f"{base_url}/mcp/cache", number))


@pytest.fixture
def guards(monkeypatch: pytest.MonkeyPatch) -> list[FrameGuard]:
    """The guards that an application is made with."""
    made: list[FrameGuard] = []

    class Kept(FrameGuard):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(httpd, "FrameGuard", Kept)
    return made


async def test_sessions_that_never_were_are_not_kept(
    guards: list[FrameGuard], serving: Callable[..., Awaitable[str]]
) -> None:
    url = f"{await serving()}/mcp/cache"
    async with httpx2.AsyncClient(headers=JSON) as http:
        for body in (b"{", b'{"jsonrpc":"2.0","id":1,"method":"ping"}', b"[]"):
            found = await http.post(url, content=body, headers={"mcp-session-id": "made-up"})
            assert found.status_code in {400, 404}
    assert guards and not any(guard._sessions for guard in guards)
