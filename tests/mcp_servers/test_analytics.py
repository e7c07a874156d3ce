from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import CallToolResult

from ryzanstein.mcp_servers import _traces
from ryzanstein.mcp_servers._advice import likely
from ryzanstein.mcp_servers._shared import shared

Answer = Callable[..., Awaitable[dict[str, Any]]]
Call = Callable[..., Awaitable[CallToolResult]]
Fault = Callable[..., Awaitable[dict[str, str]]]


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
    assert len(json.loads(read.contents[0].text)["runs"]) == 2  # type: ignore[union-attr]


def ran(id: str, model: str, verified: bool | None = True, **more: Any) -> None:
    result = {"verified": verified, "tokens": 100, "seconds": 2.0, **more}
    shared().runs.save(f"task {id}", id=id, agent="APEX", model=model)
    shared().runs.update(id, status="failed" if "error" in more else "done", result=result)


async def test_models_are_compared_by_their_runs(answer: Answer, fault: Fault) -> None:
    for number in range(6):
        ran(f"good-{number}", "large")
        ran(f"bad-{number}", "small", verified=number == 0)
    found = (await answer("analytics", "compare_models"))["models"]
    assert [one["key"] for one in found] == ["large", "small"]
    assert (found[0]["verified"], found[0]["checked"]) == (6, 6)
    assert found[0]["low"] > found[1]["high"] > found[1]["low"] >= 0
    assert (found[0]["seconds"], found[0]["tokens_per_second"]) == (2.0, 50.0)
    (one,) = (await answer("analytics", "compare_models", models=["small"]))["models"]
    assert one == found[1]
    error = await fault("analytics", "compare_models", models=["none"])
    assert error["hint"] == "There are: large, small."


@pytest.mark.parametrize(("passed", "of"), [(0, 0), (0, 1), (5, 10), (10, 10)])
def test_the_interval_of_a_share_holds_it(passed: int, of: int) -> None:
    low, high = likely(passed, of)
    assert 0 <= low <= (passed / of if of else 0.5) <= high <= 1


async def test_what_stands_out_is_suggested_and_nothing_else(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await answer("analytics", "suggest_optimizations"))["suggestions"] == []
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "small")
    shared().reset()
    for number in range(6):
        ran(f"good-{number}", "large")
        ran(f"bad-{number}", "small", verified=False)
        ran(f"late-{number}", "small", verified=None, error={"code": "TIMEOUT", "message": "x"})
        shared().runs.save("say hello", id=f"same-{number}", agent="LINGUA", status="done")
    shared().runs.save("half done", id="left", status="interrupted")
    found = (await answer("analytics", "suggest_optimizations", limit=20))["suggestions"]
    areas = [one["area"] for one in found]
    assert areas[0] == "model" and "large" in found[0]["action"]
    assert sorted(areas[1:]) == ["cache", "runs", "runs"]
    actions = " ".join(one["action"] for one in found)
    assert "max_seconds" in actions and "run_id=left" in actions and "lookup_response" in actions
    (first,) = (await answer("analytics", "suggest_optimizations", limit=1))["suggestions"]
    assert first == found[0]


async def test_runs_are_exported_as_traces(call: Call, server: Callable[[str], Any]) -> None:
    events = [
        {"stage": "route", "message": "APEX fits", "at": 1e9},
        {"stage": "failure", "message": "no", "at": 4e9},
        {"stage": "late"},
    ]
    ran("one", "large", events=events)
    ran("two", "large", error={"code": "TIMEOUT", "message": "too late"})
    result = await call("analytics", "export_traces")
    told, link = result.structured_content, result.content[1]
    assert told is not None and (told["runs"], told["spans"]) == (2, 4)
    async with Client(server("analytics")) as client:
        read = await client.read_resource(link.uri)  # type: ignore[union-attr]
        with pytest.raises(MCPError, match="There are no traces"):
            await client.read_resource("traces://nothing")
    text = read.contents[0].text  # type: ignore[union-attr]
    assert Path(told["path"]).read_text(encoding="utf-8") == text
    spans = json.loads(text)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    failed, done, route, failure = spans
    assert failed["status"] == {"code": 2, "message": "too late"}
    assert {len(failed["traceId"]), len(done["traceId"])} == {32} and len(done["spanId"]) == 16
    assert failed["traceId"] != done["traceId"] == route["traceId"]
    assert route["parentSpanId"] == failure["parentSpanId"] == done["spanId"]
    assert failure["status"]["code"] == 2 and route["name"] == "route"
    assert int(done["endTimeUnixNano"]) >= int(done["startTimeUnixNano"])
    keys = {one["key"]: one["value"] for one in done["attributes"]}
    assert keys["gen_ai.request.model"] == {"stringValue": "large"}
    assert keys["gen_ai.usage.output_tokens"] == {"intValue": "100"}
    assert keys["ryzanstein.run.verified"] == {"boolValue": True}
    again = await call("analytics", "export_traces")
    assert again.structured_content == told


def test_what_was_just_written_stays_although_the_clock_went_back(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    for number in range(_traces.MOST_FILES):
        later = folder / f"{number}.json"
        later.write_text("{}", encoding="utf-8")
        os.utime(later, (4e9, 4e9))
    assert _traces.keep(folder, _traces.trace([])).is_file()
    assert len(list(folder.iterdir())) == _traces.MOST_FILES


async def test_only_the_latest_traces_are_kept(answer: Answer) -> None:
    ran("one", "large")
    for number in range(_traces.MOST_FILES + 2):
        ran(f"run-{number}", "large")
        found = await answer("analytics", "export_traces", run_id=f"run-{number}")
        assert found["runs"] == 1
    assert len(list(Path(found["path"]).parent.iterdir())) == _traces.MOST_FILES


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("export_traces", {}, "There are no runs of the last 7 days."),
        ("export_traces", {"run_id": "run-9"}, "There is no run run-9."),
        ("export_traces", {"limit": 1001}, "export_traces: limit: Input should be less"),
        ("suggest_optimizations", {"days": 0}, "suggest_optimizations: days: Input should be gr"),
        ("summarize_usage", {"cursor": "x"}, "Unknown cursor 'x'."),
    ],
)
async def test_wrong_arguments_are_refused(
    fault: Fault, tool: str, arguments: dict[str, Any], message: str
) -> None:
    error = await fault("analytics", tool, **arguments)
    assert error["code"] == "INVALID_REQUEST" and error["message"].startswith(message)


async def test_usage_is_told_in_pages(answer: Answer, runs: list[str]) -> None:
    first = await answer("analytics", "summarize_usage", limit=1)
    second = await answer("analytics", "summarize_usage", limit=1, cursor=first["next_cursor"])
    keys = [one["groups"][0]["key"] for one in (first, second)]
    assert keys == ["AXIOM", "CANVAS"] and second["next_cursor"] is None
