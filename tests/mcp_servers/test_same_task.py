"""One task through every way in: in this process, over stdio and over HTTP, on the real model."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters

from ryzanstein.errors import ERROR_META
from ryzanstein.mcp_servers._shared import shared

TASK = "What is 12 times 12? Answer with the number."
ARGUMENTS = {"task": TASK, "model": "smollm2-135m", "max_steps": 1, "max_tokens": 120}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")


async def run(target: Any, mode: str = "auto") -> tuple[dict[str, Any], list[str]]:
    told: list[str] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async with Client(target, mode=mode) as client:
        result = await client.call_tool("run_task", ARGUMENTS, progress_callback=note)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content), told


def same(result: dict[str, Any], told: list[str]) -> None:
    assert set(result) == {
        "run_id",
        "agent",
        "answer",
        "verified",
        "checks",
        "steps",
        "experiences",
        "failures",
        "parts",
        "tokens",
        "seconds",
        "model",
        "status",
    }
    assert result["model"] == "smollm2-135m"
    assert result["answer"] and result["tokens"] > 0
    stages = [message.partition(":")[0] for message in told]
    assert stages[0] == "start"
    assert {"route", "recall", "answer", "remember"} <= set(stages)


async def test_in_process_the_run_is_kept_found_again_and_rated(
    server: Callable[[str], Any], answer: Callable[..., Awaitable[dict[str, Any]]]
) -> None:
    first, told = await run(server("orchestrator"))
    same(first, told)
    state = await answer("orchestrator", "get_run", run_id=first["run_id"])
    assert state["status"] == "done" and state["result"]["answer"] == first["answer"]
    assert state["events"][0]["stage"] == "route"
    rated = await answer("orchestrator", "rate_run", run_id=first["run_id"], rating=1.0)
    second, _ = await run(server("orchestrator"))
    assert rated["experience_id"] in [one["id"] for one in second["experiences"]]


async def test_over_stdio(tmp_path: Path) -> None:
    child = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ryzanstein.cli", "mcp"],
        env=dict(os.environ),
        cwd=tmp_path,
    )
    same(*await run(child, mode="legacy"))


async def test_over_http(base_url: str) -> None:
    same(*await run(f"{base_url}/mcp/orchestrator"))


async def test_a_named_agent_without_tools_answers(
    answer: Callable[..., Awaitable[dict[str, Any]]],
) -> None:
    found = await answer(
        "orchestrator",
        "run_agent",
        codename="apex",
        task="Say hello.",
        tools=False,
        max_tokens=64,
    )
    assert found["agent"] == "APEX" and found["steps"] == []


async def test_a_cancelled_run_ends_and_is_kept_as_cancelled(
    server: Callable[[str], Any], answer: Callable[..., Awaitable[dict[str, Any]]]
) -> None:
    started = anyio.Event()

    async def note(done: float, total: float | None, message: str | None) -> None:
        if (message or "").startswith("start: "):
            ids.append((message or "").removeprefix("start: "))
        elif (message or "").startswith("generate"):
            started.set()

    ids: list[str] = []
    results: list[Any] = []
    async with anyio.create_task_group() as group, Client(server("orchestrator")) as client:

        async def work() -> None:
            arguments = {"task": "Write a long story.", "tools": False}
            results.append(await client.call_tool("run_task", arguments, progress_callback=note))

        group.start_soon(work)
        await started.wait()
        assert (await answer("orchestrator", "get_run", run_id=ids[0]))["status"] == "running"
        stopped = await answer("orchestrator", "cancel_run", run_id=ids[0])
        assert stopped["cancelled"] is True
        with anyio.fail_after(20):
            while not results:
                await anyio.sleep(0.01)
    assert results[0].is_error
    assert results[0].meta[ERROR_META]["code"] == "AGENT_INVOCATION_FAILED"
    assert (await answer("orchestrator", "get_run", run_id=ids[0]))["status"] == "cancelled"
    assert shared().store.stats().experiences == 0


async def test_a_client_that_goes_away_ends_its_run(server: Callable[[str], Any]) -> None:
    started = anyio.Event()

    async def note(done: float, total: float | None, message: str | None) -> None:
        if (message or "").startswith("generate"):
            started.set()

    async with Client(server("orchestrator")) as client, anyio.create_task_group() as group:

        async def work() -> None:
            arguments = {"task": "Write a long story.", "tools": False}
            await client.call_tool("run_task", arguments, progress_callback=note)

        group.start_soon(work)
        await started.wait()
        group.cancel_scope.cancel()
    assert [run.status for run in shared().runs.list()] == ["cancelled"]


async def test_a_failed_run_is_kept_with_its_error(
    call: Callable[..., Awaitable[Any]],
) -> None:
    result = await call("orchestrator", "run_task", task="Say hello.", model="no-such-model")
    assert result.meta[ERROR_META]["code"] == "MODEL_NOT_FOUND"
    kept = shared().runs.list()[0]
    assert (kept.status, kept.result["error"]["code"]) == ("failed", "MODEL_NOT_FOUND")
