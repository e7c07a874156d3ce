"""Calls that take long: they say that they are at work, and stop when they are cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from mcp import Client
from mcp.server.mcpserver import Context

from ryzanstein.errors import InferenceError
from ryzanstein.inference.bench.throughput import bench_inference
from ryzanstein.inference.engine import Engine
from ryzanstein.mcp_servers import _progress
from ryzanstein.mcp_servers._factory import Reply, make_server
from ryzanstein.mcp_servers._shared import shared
from tests.mcp_servers.tasks_client import Knows, begin, until

Answer = Callable[..., Awaitable[dict[str, Any]]]


class Said(Reply):
    """A number."""

    number: int


async def test_a_silent_call_says_that_it_is_at_work_and_progress_only_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_progress, "SILENT_SECONDS", 0.05)
    server = make_server("trial", "Trial", "For tests.")

    @server.tool()
    async def count(context: Context[Any, Any]) -> Said:
        """Count, silently."""
        await anyio.sleep(0.2)
        for number in (1, 2, 2):
            await context.report_progress(number, 3, f"at {number}")
            await anyio.sleep(0.2)
        return Said(number=3)

    @server.tool()
    def sleep() -> Said:
        """Sleep in a thread."""
        time.sleep(0.3)
        return Said(number=1)

    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with Client(server, mode="legacy") as client:
        await client.call_tool("count", {}, progress_callback=hear)
        values = [value for value, _ in told]
        assert values == sorted(set(values)) and len(values) >= 5
        assert told[0][1] == "is at work" and {1, 2} < set(values)
        assert told[-1][1] == "at 2" and 2 < told[-1][0] < 3
        told.clear()
        await client.call_tool("sleep", {}, progress_callback=hear)
        assert told and all(message == "is at work" for _, message in told)
        heard = len(told)
        await anyio.sleep(0.2)
        assert len(told) == heard
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.1):
                await client.call_tool("count", {}, progress_callback=hear)


def test_a_load_ends_between_two_tensors(smollm2: Path) -> None:
    engine, cancel = Engine(shared().settings, shared().registry), threading.Event()
    read: list[tuple[int, int]] = []

    def watch(done: int, of: int) -> None:
        read.append((done, of))
        if done == 3:
            cancel.set()

    with pytest.raises(InferenceError, match="cancelled"):
        engine.get("smollm2-135m", cancel=cancel, watch=watch)
    assert [done for done, _ in read] == [0, 1, 2, 3] and read[0][1] > 100
    assert engine.loaded() == []
    asked = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "hi"}]}
    for call in (
        lambda: engine.score("smollm2-135m", "to be or not", cancel=cancel),
        lambda: engine.chat(asked, cancel=cancel),
    ):
        with pytest.raises(InferenceError, match="cancelled"):
            call()
    assert engine.get("smollm2-135m").name == "smollm2-135m"
    with pytest.raises(InferenceError, match="cancelled"):
        engine.score("smollm2-135m", "to be or not", cancel=cancel)
    engine.close()


def test_a_cancelled_benchmark_leaves_no_process(smollm2: Path) -> None:
    cancel = threading.Event()
    threading.Timer(0.5, cancel.set).start()
    with pytest.raises(InferenceError, match="ended with status"):
        bench_inference("smollm2-135m", settings=shared().settings, new_tokens=1000, cancel=cancel)
    assert not [one for one in psutil.Process().children() if "bench.worker" in str(one.cmdline())]


async def test_a_load_says_how_far_it_is_and_can_be_a_task(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ryzanstein.mcp_servers import _tasks
    from ryzanstein.mcp_servers._model import mcp

    monkeypatch.setattr(_tasks, "GRACE_SECONDS", 0.0)
    async with Client(mcp, extensions=[Knows()]) as client:
        made = await begin(client, "load_model", name="smollm2-135m")
        done = await until(client, made["taskId"])
        assert done["status"] == "completed" and done["statusMessage"] == "reads smollm2-135m"
        assert done["result"]["structuredContent"]["name"] == "smollm2-135m"
        wrong = await begin(client, "load_model", name="no-such-model")
        failed = await until(client, wrong["taskId"])
        assert failed["result"]["isError"] and "no-such-model" in str(failed["result"]["content"])


def test_consolidation_stops_when_it_is_told(answer: Answer) -> None:
    store = shared().store
    for number in range(20):
        store.remember(f"The cat number {number} sleeps on the red sofa.")
    assert not store.consolidate(seconds=30, stop=lambda: True).done
    assert store.consolidate(seconds=30).done
