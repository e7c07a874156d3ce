"""A server of ours on another machine, which wants a token of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.errors import ConfigError, ConnectionFailed
from ryzanstein.mcp_servers import memory
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.registry import Registry, load_registry
from ryzanstein.tokens import Tokens

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens")


@pytest.fixture
async def registry(
    serving: Serve, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Registry:
    url = await serving({"memory": memory.mcp}, auth=Auth(OwnTokens(tokens)))
    file = tmp_path / "registry.yaml"
    file.write_text(
        "servers:\n"
        f"  - {{name: memory, transport: http, url: {url}/mcp/memory, token_env: BOX_TOKEN}}\n"
    )
    monkeypatch.setenv("RYZANSTEIN_REGISTRY_FILE", str(file))
    return load_registry()


async def test_it_is_reached_with_the_token_that_this_process_was_given(
    registry: Registry, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_TOKEN", f" {tokens.add('box')}\n")
    async with Services(registry, names=("memory",)) as services:
        await services.call("memory", "remember", {"text": "The box is blue."})


@pytest.mark.parametrize("token", ["", " "])
async def test_a_token_that_is_not_set_is_named(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("BOX_TOKEN", token)
    with pytest.raises(ConfigError, match="BOX_TOKEN is not set"):
        async with Services(registry, names=("memory",)):
            pass


async def test_a_token_that_is_refused_is_told_as_that(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_TOKEN", "rz_wrong")
    with pytest.raises(ConnectionFailed, match="token_env") as told:
        async with Services(registry, names=("memory",)):
            pass
    assert "rz_wrong" not in str(told.value)
