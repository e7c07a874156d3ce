"""What `ryzanstein setup` writes for a client reaches the real servers over a real socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import pytest
import yaml

from ryzanstein.cli import main
from ryzanstein.cli._continue import owner_token
from ryzanstein.cli._probe import configured, probe
from ryzanstein.config import load_settings
from ryzanstein.mcp_servers._auth import Auth, OwnTokens
from ryzanstein.tokens import Tokens

Serve = Callable[..., Awaitable[str]]


@pytest.fixture
async def url(serving: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything served to whoever has a token of this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONTINUE_GLOBAL_DIR", str(tmp_path / ".continue"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return await serving(auth=Auth(OwnTokens(Tokens(load_settings().data_dir))))


async def setup(*arguments: str) -> None:
    def run() -> None:
        with pytest.raises(SystemExit) as ended:
            main(["setup", *arguments])
        assert ended.value.code == 0

    await anyio.to_thread.run_sync(run)


@pytest.mark.parametrize("client", ["vscode", "continue"])
async def test_the_entries_list_tools_with_the_token_of_this_machine(
    url: str, tmp_path: Path, client: str
) -> None:
    owner_token(make=True)
    await setup(client, "--url", url, "--server", "memory", "--server", "cache")
    (servers,) = configured(client, tmp_path / "elsewhere").values()
    memory, cache = await anyio.to_thread.run_sync(probe, servers)
    assert "remember" in memory.tools and "cache_stats" in cache.tools
    Tokens(load_settings().data_dir).revoke("owner")
    refused = await anyio.to_thread.run_sync(probe, servers)
    assert [one.fault for one in refused] == ["it answered 401: it wants another token"] * 2


async def test_the_models_of_continue_are_those_of_this_machine(url: str, tmp_path: Path) -> None:
    await setup("continue", "--url", url)
    file = tmp_path / ".continue" / "models" / "ryzanstein.yaml"
    models: list[dict[str, Any]] = yaml.safe_load(file.read_text(encoding="utf-8"))["models"]
    secret = (tmp_path / ".continue" / ".env").read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {secret.removeprefix('RYZANSTEIN_TOKEN=')}"}
    embed = next(one for one in models if one["roles"] == ["embed"])
    body = {"model": embed["model"], "input": ["a heron"]}
    async with httpx2.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{embed['apiBase']}/embeddings", json=body)
        refused = await client.post(
            f"{url}/v1/embeddings", headers={"Authorization": ""}, json=body
        )
    assert answer.status_code == 200 and len(answer.json()["data"][0]["embedding"]) > 10
    assert refused.status_code == 401
