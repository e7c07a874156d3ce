"""Who may ask over HTTP, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import Context

from ryzanstein.mcp_servers._auth import Auth, OwnTokens, user_of
from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.tokens import Tokens
from tests.messages import INITIALIZE

Serve = Callable[..., Awaitable[str]]


def plain() -> Any:
    """A server whose one tool says everything it can learn of the request."""
    server = make_server("plain", "Plain", "Nothing.")

    @server.tool()
    async def look(context: Context[Any, Any]) -> dict[str, Any]:
        """Look around."""
        request = context.request_context.request
        assert request is not None
        user, inside = user_of(request.scope), get_access_token()
        return {
            "headers": dict(request.headers),
            "user": user and user.model_dump(),
            "inside": inside and inside.model_dump(),
        }

    return server


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens")


@pytest.fixture
async def url(serving: Serve, tokens: Tokens) -> str:
    return await serving({"plain": plain()}, auth=Auth(OwnTokens(tokens)))


def bearer(token: str | bytes) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + (token.encode() if isinstance(token, str) else token)}


async def get(url: str, token: str | bytes | None = None) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.get(url, headers={} if token is None else bearer(token))


async def post(url: str, body: Any, token: str, **headers: str) -> httpx2.Response:
    accept = {"accept": "application/json, text/event-stream", **headers}
    async with httpx2.AsyncClient(headers=bearer(token)) as client:
        return await client.post(url, json=body, headers=accept)


@asynccontextmanager
async def client_of(url: str, token: str, mode: Any) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=bearer(token)) as http:
        transport = streamable_http_client(f"{url}/mcp/plain", http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


@pytest.mark.parametrize("path", ["/mcp/plain", "/v1/models", "/metrics", "/nothing", "/health/"])
async def test_nothing_is_answered_without_a_token(url: str, path: str) -> None:
    answer = await get(url + path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="ryzanstein"'


@pytest.mark.parametrize("token", ["x", "rz_", "ä".encode("latin-1"), "x" * 20_000])
async def test_a_wrong_token_is_refused(url: str, tokens: Tokens, token: str | bytes) -> None:
    tokens.owner()
    answer = await get(f"{url}/v1/models", token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert answer.json()["error"]["message"] == "The bearer token is not valid here."


async def test_a_token_is_taken_from_the_one_header_only(url: str, tokens: Tokens) -> None:
    token = tokens.owner()
    assert (await get(f"{url}/v1/models?access_token={token}")).status_code == 401
    twice = [("authorization", f"Bearer {token}"), ("authorization", "Bearer x")]
    async with httpx2.AsyncClient() as client:
        assert (await client.get(f"{url}/v1/models", headers=twice)).status_code == 401
        basic = {"authorization": f"Basic {token}"}
        assert (await client.get(f"{url}/v1/models", headers=basic)).status_code == 401


async def test_the_owners_token_opens_everything(url: str, tokens: Tokens) -> None:
    for path in ("/v1/models", "/metrics"):
        assert (await get(url + path, tokens.owner())).status_code == 200
    assert "parts" in (await get(f"{url}/health", tokens.owner())).json()


async def test_another_token_opens_all_but_what_concerns_everybody(
    url: str, tokens: Tokens
) -> None:
    token = tokens.add("ann")
    assert (await get(f"{url}/v1/models", token)).status_code == 200
    refused = await get(f"{url}/metrics", token)
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert (await get(f"{url}/metrics", tokens.add("bob", admin=True))).status_code == 200


async def test_health_is_open_and_says_nothing_more(url: str, tokens: Tokens) -> None:
    for token in (None, "wrong", tokens.add("ann")):
        assert (await get(f"{url}/health", token)).json() == {"status": "ok"}
    async with httpx2.AsyncClient() as client:  # whose body would be waited for
        refused = await client.request("GET", f"{url}/health", content=b"x")
    assert refused.status_code == 413


async def test_a_revoked_token_is_worthless_with_the_next_request(url: str, tokens: Tokens) -> None:
    token = tokens.add("ann")
    assert (await get(f"{url}/v1/models", token)).status_code == 200
    Tokens(tokens.path.parent).revoke("ann")
    assert (await get(f"{url}/v1/models", token)).status_code == 401


async def test_an_open_stream_ends_with_its_token(
    url: str, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.mcp_servers._streams.LOOKS_EVERY_SECONDS", 0.02)
    ann = tokens.add("ann")
    opened = await post(f"{url}/mcp/plain", INITIALIZE, ann)
    headers = {"accept": "text/event-stream", "mcp-session-id": opened.headers["mcp-session-id"]}
    async with (
        httpx2.AsyncClient(headers=bearer(ann)) as client,
        client.stream("GET", f"{url}/mcp/plain", headers=headers) as stream,
    ):
        assert stream.status_code == 200
        tokens.revoke("ann")
        async for _ in stream.aiter_bytes():
            pass


async def test_a_damaged_file_of_tokens_lets_nobody_in(url: str, tokens: Tokens) -> None:
    token = tokens.owner()
    tokens.path.write_text('{"tokens": [{"name": ""}]}', encoding="utf-8")
    answer = await get(f"{url}/v1/models", token)
    assert answer.status_code == 401
    assert str(tokens.path) not in answer.text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_no_tool_ever_sees_a_token(url: str, tokens: Tokens, mode: str) -> None:
    token = tokens.add("ann")
    async with client_of(url, token, mode) as client:
        seen = (await client.call_tool("look", {})).structured_content
    assert seen is not None
    assert token not in json.dumps(seen)
    assert "authorization" not in seen["headers"]
    for user in (seen["user"], seen["inside"]):
        assert (user["client_id"], user["subject"], user["token"]) == ("ryzanstein", "ann", "")


async def test_a_session_is_only_its_own_subjects(url: str, tokens: Tokens) -> None:
    ann, bob = tokens.add("ann"), tokens.add("bob")
    opened = await post(f"{url}/mcp/plain", INITIALIZE, ann)
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert (await post(f"{url}/mcp/plain", ping, ann, **session)).status_code == 200
    foreign = await post(f"{url}/mcp/plain", ping, bob, **session)
    missing = await post(f"{url}/mcp/plain", ping, bob, **{"mcp-session-id": "0" * 32})
    assert (foreign.status_code, foreign.text) == (missing.status_code, missing.text)
    assert foreign.status_code == 404


async def test_wrong_tokens_of_an_address_are_slowed_down_and_right_ones_are_not(
    url: str, tokens: Tokens
) -> None:
    async with httpx2.AsyncClient() as client:
        codes = [
            (await client.get(f"{url}/nothing", headers=bearer(f"rz_{guess}"))).status_code
            for guess in range(62)
        ]
        last = await client.get(f"{url}/nothing", headers=bearer("rz_"))
    assert codes[:60] == [401] * 60
    assert last.status_code == 429
    assert 1 <= int(last.headers["retry-after"]) <= 60
    assert (await get(f"{url}/v1/models", tokens.owner())).status_code == 200
