"""Who may ask over HTTP, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx2
import pytest

from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.tokens import Tokens

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens")


@pytest.fixture
async def url(serving: Serve, tokens: Tokens) -> AsyncIterator[str]:
    yield await serving(auth=Auth([OwnTokens(tokens)]))


async def get(url: str, token: str | None = None, **headers: str) -> httpx2.Response:
    sent = headers if token is None else {"authorization": f"Bearer {token}", **headers}
    async with httpx2.AsyncClient() as client:
        return await client.get(url, headers=sent)


@pytest.mark.parametrize("path", ["/mcp/memory", "/v1/models", "/metrics", "/nothing"])
async def test_nothing_is_answered_without_a_token(url: str, path: str) -> None:
    answer = await get(url + path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="ryzanstein"'


@pytest.mark.parametrize("token", ["x", "rz_", "ä", "x" * 20_000])
async def test_a_wrong_token_is_refused(url: str, tokens: Tokens, token: str) -> None:
    tokens.owner()
    answer = await get(f"{url}/v1/models", authorization=f"Bearer {token}".encode())  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert answer.json()["error"]["message"] == "The bearer token is not valid here."


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


async def test_health_is_open_and_says_nothing_more(url: str, tokens: Tokens) -> None:
    for token in (None, "wrong", tokens.add("ann")):
        assert (await get(f"{url}/health", token)).json() == {"status": "ok"}
