from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import Client

from ryzanstein.mcp_servers._shared import shared

Answer = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def runs() -> list[str]:
    table = shared().runs
    first = table.save("sum two numbers", id="run-1", agent="AXIOM")
    table.update(first.id, status="done", result={"verified": True, "tokens": 10, "answer": "3"})
    second = table.save("draw a cat", id="run-2", agent="CANVAS")
    table.update(second.id, status="failed", result={"error": {"message": "no"}})
    return [first.id, second.id]


async def test_runs_are_listed_newest_first_and_described(answer: Answer, runs: list[str]) -> None:
    found = await answer("analytics", "list_runs")
    assert [run["run_id"] for run in found["runs"]] == ["run-2", "run-1"]
    done = await answer("analytics", "list_runs", status="done", agent="axiom")
    assert [run["run_id"] for run in done["runs"]] == ["run-1"]
    described = await answer("analytics", "describe_run", run_id="run-1")
    assert described["result"]["answer"] == "3"


async def test_usage_is_summed_by_agent_and_by_status(answer: Answer, runs: list[str]) -> None:
    by_agent = await answer("analytics", "summarize_usage")
    assert [(group["key"], group["tokens"]) for group in by_agent["groups"]] == [
        ("AXIOM", 10),
        ("CANVAS", 0),
    ]
    by_status = await answer("analytics", "summarize_usage", by="status")
    assert {group["key"]: group["failed"] for group in by_status["groups"]} == {
        "done": 0,
        "failed": 1,
    }


async def test_a_missing_run_is_refused(
    fault: Callable[..., Awaitable[dict[str, str]]],
) -> None:
    assert (await fault("analytics", "describe_run", run_id="run-9"))["code"] == "INVALID_REQUEST"


async def test_calls_are_counted(answer: Answer) -> None:
    before = await answer("analytics", "query_metrics", tool="memory_stats")
    await answer("memory", "memory_stats")
    after = await answer("analytics", "query_metrics", tool="memory_stats")
    calls = [sum(tool["calls"] for tool in one["tools"]) for one in (before, after)]
    assert calls[1] == calls[0] + 1


async def test_health_looks_at_everything_a_run_needs(answer: Answer) -> None:
    found = await answer("analytics", "system_health")
    names = [check["name"] for check in found["checks"]]
    assert names[:2] == ["processor", "memory"] and "database" in names
    assert all(check["detail"] for check in found["checks"])


async def test_the_dashboard_is_json(server: Callable[[str], Any], runs: list[str]) -> None:
    async with Client(server("analytics")) as client:
        read = await client.read_resource("analytics://dashboard")
    assert len(json.loads(read.contents[0].text)["runs"]["runs"]) == 2  # type: ignore[union-attr]
