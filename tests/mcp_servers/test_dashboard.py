"""The dashboard: its text, its page in a host, and that what runs say is never run by it."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID

from ryzanstein.mcp_servers._dashboard import URI, look
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import Subject, acting

PAGE = Path(__file__).parent / "dashboard_page.mjs"
TASK = "<img src=x onerror=alert(1)> sum two numbers"


def ran() -> None:
    runs = shared().runs
    done = {"tokens": 100, "seconds": 4.0, "verified": True}
    runs.save(TASK, id="run-1", status="done", agent="AXIOM", model="tiny", result=done)
    runs.save("draw", id="run-2", status="failed", agent="CANVAS", result={"tokens": "many"})
    shared().store.remember("Herons wait.")


def analytics(**options: Any) -> Client:
    return Client(importlib.import_module("ryzanstein.mcp_servers.analytics").mcp, **options)


async def test_the_tool_names_its_page_and_the_page_needs_nothing_from_elsewhere() -> None:
    async with analytics() as client:
        assert EXTENSION_ID in (client.server_capabilities.extensions or {})
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert (tools["show_dashboard"].meta or {})["ui"]["resourceUri"] == URI
        (page,) = (await client.read_resource(URI)).contents
    html = str(getattr(page, "text", ""))
    assert page.mime_type == APP_MIME_TYPE
    assert not re.search(r"(src|href)=|https?://|@import|innerHTML|\beval\b|fetch\(", html)


async def test_hosts_without_apps_get_it_as_text() -> None:
    ran()
    async with analytics(mode="legacy") as client:
        result = await client.call_tool("show_dashboard", {})
    text = str(getattr(result.content[0], "text", ""))
    assert "2 runs" in text and "1 verified" in text and "1 failed" in text
    assert "tiny: 25.0 tokens/s" in text and "1 memories" in text
    assert "run-1 done, AXIOM" in text


async def test_the_page_shows_it_in_a_host_and_asks_again(
    node_modules: Path, node_environment: dict[str, str]
) -> None:
    ran()
    first = look().to_result().model_dump(mode="json", by_alias=True, exclude_none=True)
    failed = {"isError": True, "content": [{"type": "text", "text": "The store is locked."}]}
    async with analytics() as client:
        html = str(getattr((await client.read_resource(URI)).contents[0], "text", ""))
    given = {"html": html, "results": [first, failed], "serverTools": True}
    node = str(shutil.which("node", path=node_environment["PATH"]))
    done = await anyio.run_process(
        [node, str(PAGE), str(node_modules)],
        input=json.dumps(given).encode(),
        env=node_environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    shown = said["first"]
    assert said["faults"] == [] and said["sizes"] > 0
    assert shown["tiles"][:5] == ["2runs", "0under way", "1verified", "1failed", "100tokens"]
    assert shown["bars"][0] == "tiny25.0"
    assert shown["rows"][1] == [TASK, "AXIOM", "done, verified", "100", "4"]
    assert shown["elements"] == 0, "a run's text became part of the page"
    assert (shown["scheme"], shown["colour"]) == ("dark", "#123456")
    assert not shown["hidden"] and shown["button"]
    assert said["calls"] == [{"name": "show_dashboard", "arguments": {}}]
    assert said["second"]["at"] == "The store is locked."
    assert said["second"]["rows"] == shown["rows"]
    assert said["teardown"] == {}


async def test_each_sees_what_is_its_own() -> None:
    ran()
    with acting(Subject("ann")):
        seen = look()
    assert seen.runs == [] and seen.memory["memories"] == 0
    assert look().totals["runs"] == 2
