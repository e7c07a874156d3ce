"""What stands before every route, over real sockets: whose request, how much, how often."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.server.mcpserver import Context

from ryzanstein.errors import ConfigError
from ryzanstein.mcp_servers import httpd
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.mcp_servers._connections import Connection
from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.mcp_servers._guard import machine_names
from ryzanstein.mcp_servers._limits import Limits
from ryzanstein.tokens import Tokens

Serve = Callable[..., Awaitable[str]]
MODERN, LEGACY = "2026-07-28", "2025-11-25"
VERSION = "io.modelcontextprotocol/protocolVersion"


class Gate:
    """A tool's work, which waits until it may go on."""

    def __init__(self) -> None:
        self.entered, self.opened = anyio.Event(), anyio.Event()

    def server(self) -> Any:
        server = make_server("plain", "Plain", "Nothing.")

        @server.tool()
        async def wait(context: Context[Any, Any]) -> str:
            """Wait."""
            self.entered.set()
            await self.opened.wait()
            return "done"

        @server.tool()
        async def look() -> str:
            """Look."""
            return "seen"

        return server


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def url(serving: Serve, gate: Gate) -> str:
    return await serving({"plain": gate.server()})


async def raw(url: str, *lines: str, body: bytes = b"") -> int:
    """Sends a request as it stands and returns the status of the answer."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    status = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return int(status.split()[1])


REQUESTS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("Host: localhost",), 200),
    (("Host: LOCALHOST:1",), 200),
    (("Host: [::1]:9",), 200),
    ((), 400),
    (("Host: localhost", "Host: evil.example"), 400),
    (("Host:",), 421),
    (("Host: evil.example",), 421),
    (("Host: localhost.evil.example",), 421),
    (("Host: evil@localhost.example",), 421),
    (("Host: localhost:x",), 421),
    (("Host: [::1",), 421),
    (("Host: 0.0.0.0",), 421),
    (("Host: 127.0.0.2",), 421),
    (("Host: evil.example@localhost",), 421),
    (("Host: localhost/evil.example",), 421),
    (("Host: localhost?evil.example",), 421),
    (("Host: localhost:0",), 421),
    (("Host: localhost", "Origin: http://127.0.0.1:5173"), 200),
    (("Host: localhost", "Origin: null"), 403),
    (("Host: localhost", "Origin: //localhost"), 403),
    (("Host: localhost", "Origin: http://evil.example@localhost"), 403),
    (("Host: localhost", "Origin: http://localhost.evil.example"), 403),
    (("Host: localhost", "Origin: http://localhost", "Origin: http://evil.example"), 403),
    (("Host: localhost", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
    (("Host: localhost", "Content-Length: 1", "Content-Length: 2"), 400),
)


async def test_only_requests_meant_for_this_server_are_answered(url: str) -> None:
    for lines, status in REQUESTS:
        assert await raw(url, "GET /health HTTP/1.1", *lines) == status, lines


async def test_nothing_is_read_behind_a_request_whose_end_can_be_read_in_two_ways(url: str) -> None:
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    start = "POST /mcp/plain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
    hidden = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer.write(f"{start}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}".encode())
    answered = await _rest(reader)
    assert answered.count(b"HTTP/1.1 ") == answered.count(b"HTTP/1.1 400") == 1
    writer.close()


async def test_an_old_request_without_a_host_is_refused(url: str) -> None:
    assert await raw(url, "GET /health HTTP/1.0") == 400


async def test_a_server_of_the_network_answers_to_its_own_names_only(
    serving: Serve, gate: Gate
) -> None:
    url = await serving({"plain": gate.server()}, local=False, hosts=("box.example",))
    mine = ["box.example", socket.gethostname(), *machine_names()]
    for host in mine:
        name = f"[{host}]" if ":" in host else host
        assert await raw(url, "GET /health HTTP/1.1", f"Host: {name}:8000") == 200, host
    for host in ("evil.example", "192.0.2.1", "0.0.0.0", "x.box.example"):
        assert await raw(url, "GET /health HTTP/1.1", f"Host: {host}") == 421, host
    origin = "Origin: https://box.example"
    assert await raw(url, "GET /health HTTP/1.1", "Host: localhost", origin) == 200


def message(method: str = "tools/call", version: str | None = None, **params: Any) -> Any:
    given = {"name": "look", "arguments": {}, **params} if method == "tools/call" else params
    if version is not None:
        capabilities = {"io.modelcontextprotocol/clientCapabilities": {}}
        given["_meta"] = {VERSION: version, **capabilities}
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": given}


@asynccontextmanager
async def session(
    url: str, **more: str
) -> AsyncIterator[Callable[..., Awaitable[httpx2.Response]]]:
    """A session of the older protocol, as bare requests."""
    accept = {"accept": "application/json, text/event-stream", **more}
    async with httpx2.AsyncClient(headers=accept, timeout=20) as client:

        async def post(body: Any, **headers: str) -> httpx2.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.post(f"{url}/mcp/plain", json=body, headers=named)

        opened = await post(HELLO)
        client.headers["mcp-session-id"] = opened.headers.get("mcp-session-id", "")
        await post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        yield post


HELLO = message(
    "initialize",
    protocolVersion=LEGACY,
    capabilities={},
    clientInfo={"name": "test", "version": "1"},
)
MODERN_CALL = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call", "mcp_name": "look"}
DISAGREE: tuple[tuple[str | None, dict[str, str]], ...] = (
    (MODERN, {**MODERN_CALL, "mcp_method": "tools/list"}),
    (MODERN, {**MODERN_CALL, "mcp_name": "wait"}),
    (LEGACY, MODERN_CALL),
    (MODERN, {"mcp_protocol_version": MODERN}),
    (MODERN, {**MODERN_CALL, "mcp_protocol_version": LEGACY}),
    (MODERN, {}),
    (None, {"mcp_protocol_version": LEGACY, "mcp_method": "tools/list"}),
    (None, {"mcp_protocol_version": LEGACY, "mcp_name": "wait"}),
    (None, {"mcp_name": "=?base64?d2FpdA==?="}),
)


async def test_headers_and_body_that_disagree_are_refused(url: str) -> None:
    async with session(url) as post:
        for version, headers in DISAGREE:
            answer = await post(message(version=version), **headers)
            assert answer.status_code == 400, (version, headers)
            assert answer.json()["id"] == 7
            assert answer.json()["error"]["code"] == -32020
        assert (await post(message(version=MODERN), **MODERN_CALL)).status_code == 200
        fitting = {"mcp_protocol_version": LEGACY, "mcp_method": "tools/call", "mcp_name": "look"}
        assert (await post(message(), **fitting)).status_code == 200


async def test_a_body_without_a_length_is_measured_as_it_comes(serving: Serve, gate: Gate) -> None:
    url = await serving({"plain": gate.server()}, limits=Limits(body=10_000))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 1_000

    async with httpx2.AsyncClient() as client:
        assert (await client.post(f"{url}/v1/embeddings", content=pieces())).status_code == 413
        exact = b'{"input": "' + b"x" * 9_987 + b'"}'
        assert (await client.post(f"{url}/v1/completions", content=exact)).status_code == 400
        more = await client.post(f"{url}/v1/completions", content=exact + b" ")
        assert more.status_code == 413


async def test_a_body_that_does_not_come_is_not_waited_for(serving: Serve, gate: Gate) -> None:
    url = await serving({"plain": gate.server()}, limits=Limits(body_seconds=0.05))
    lines = ("POST /v1/completions HTTP/1.1", "Host: localhost", "Content-Length: 10")
    assert await raw(url, *lines, body=b"{") == 408


async def test_each_subject_has_a_rate_of_its_own_and_the_owner_none(
    serving: Serve, gate: Gate, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens")
    ann, bob = tokens.add("ann"), tokens.add("bob")
    limits = Limits(rate="3/hour")
    url = await serving({"plain": gate.server()}, auth=Auth(OwnTokens(tokens)), limits=limits)

    async with httpx2.AsyncClient() as client:

        async def ask(token: str) -> httpx2.Response:
            return await client.get(
                f"{url}/v1/models", headers={"authorization": f"Bearer {token}"}
            )

        assert [(await ask(ann)).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = await ask(ann)
        assert 1 <= int(refused.headers["retry-after"]) <= 3600
        assert (await ask(bob)).status_code == 200
        assert {(await ask(tokens.owner())).status_code for _ in range(5)} == {200}


async def test_so_many_requests_at_once_and_no_more(serving: Serve, gate: Gate) -> None:
    url = await serving({"plain": gate.server()}, limits=Limits(requests=1))
    async with httpx2.AsyncClient() as other, Client(f"{url}/mcp/plain") as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.call_tool, "wait", {})
            await gate.entered.wait()
            refused = await other.get(f"{url}/health")
            assert refused.status_code == 429
            assert refused.headers["retry-after"] == "1"
            gate.opened.set()
        assert (await other.get(f"{url}/health")).status_code == 200


async def test_one_subject_cannot_take_every_session(
    serving: Serve, gate: Gate, tmp_path: Path
) -> None:
    tokens = Tokens(tmp_path / "tokens")
    ann, bob = (f"Bearer {tokens.add(name)}" for name in ("ann", "bob"))
    auth = Auth(OwnTokens(tokens))
    url = await serving({"plain": gate.server()}, auth=auth, limits=Limits(sessions=1))
    headers = {"accept": "application/json, text/event-stream", "authorization": ann}
    async with session(url, authorization=ann) as mine, session(url, authorization=bob) as his:
        async with httpx2.AsyncClient(headers=headers) as other:
            refused = await other.post(f"{url}/mcp/plain", json=HELLO)
            modern = {name.replace("_", "-"): value for name, value in MODERN_CALL.items()}
            call = message(version=MODERN)
            newer = await other.post(f"{url}/mcp/plain", json=call, headers=modern)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        for answered in (newer, await mine(message()), await his(message())):
            assert answered.status_code == 200


async def test_a_session_that_ended_makes_room(serving: Serve, gate: Gate) -> None:
    url = await serving({"plain": gate.server()}, limits=Limits(sessions=1))
    for _ in range(3):
        async with Client(f"{url}/mcp/plain", mode="legacy") as client:
            await client.list_tools()


async def test_a_connection_that_says_nothing_is_closed(
    monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr("ryzanstein.mcp_servers._connections.HEADER_SECONDS", 0.05)
    application = httpd.app({"plain": gate.server()})
    config = uvicorn.Config(application, http=Connection, log_level="warning", lifespan="on")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    whole = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    # Answered before its body was there, which then comes byte by byte or not at all.
    unread = b"POST /health HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 999\r\n\r\nx"
    for said, answers in ((b"", 0), (whole[:20], 0), (whole + whole[:20], 1), (unread, 1)):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(said)
        first = await reader.read(1) if answers else b""
        writer.write(b"x" if said is unread else b"")
        answered = first + await _rest(reader)
        assert answered.count(b"HTTP/1.1 ") == answers
        writer.close()
    server.should_exit = True
    await task


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side hangs up."""
    read = b""
    try:
        while piece := await reader.read(65_536):
            read += piece
    except ConnectionResetError:
        pass
    return read


@pytest.mark.parametrize("rate", ["often", "0", "-1/minute", "5/fortnight"])
async def test_a_rate_that_is_none_is_told(serving: Serve, gate: Gate, rate: str) -> None:
    from ryzanstein.mcp_servers._rates import Rate

    with pytest.raises(ConfigError, match="is no rate"):
        Rate(rate)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_server_can_keep_no_sessions(serving: Serve, gate: Gate, mode: Any) -> None:
    url = await serving({"plain": gate.server()}, stateless=True)
    async with Client(f"{url}/mcp/plain", mode=mode) as client:
        assert (await client.call_tool("look", {})).structured_content == {"result": "seen"}
    async with session(url) as post:
        answer = await post(message(), mcp_protocol_version=LEGACY)
        assert answer.status_code == 200
        assert "mcp-session-id" not in answer.headers
