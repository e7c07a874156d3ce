"""Runs across processes: killed, found interrupted, gone on with, stopped from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from mcp import Client, MCPError, StdioServerParameters

from ryzanstein.mcp_servers import _kept_runs, _running
from ryzanstein.mcp_servers._orchestrator import TASKS
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import Subject, acting
from tests.agents.backend_server import BackendServer
from tests.mcp_servers.tasks_client import Knows, ask, until

Answer = Callable[..., Awaitable[dict[str, Any]]]
Fault = Callable[..., Awaitable[dict[str, str]]]
TASK = "1. Calculate 3 * 4\n2. Calculate 5 * 6"


class Model:
    """Calculates part by part; at the second part it waits until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.expressions: list[str] = []

    def __call__(self, body: Mapping[str, Any]) -> str:
        text = str(body["messages"][-1]["content"])
        if "part of the task: Calculate 5 * 6" in text:
            self.reached.set()
            self.let_go.wait(60)
        said = self._said(text)
        return json.dumps({"answer": said}) if "response_format" in body else said

    def _said(self, text: str) -> str:
        if "exactly one of these lines" in text or "Which tool is needed first" in text:
            return "evaluate_expression"
        if "as one expression" in text:
            self.expressions.append("5 * 6" if "5 * 6" in text else "3 * 4")
            return self.expressions[-1]
        return "answer" if "reply: answer" in text else "The first is 12, the second 30."


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> Iterator[Model]:
    """A stand-in for a model, which the registry of this and of child processes names."""
    said = Model()
    with BackendServer(text=said) as server:
        file = tmp_path / "registry.yaml"
        file.write_text(
            "backends:\n"
            "  - {name: local, kind: local, enabled: false}\n"
            f"  - {{name: stand-in, kind: openai, order: 1, url: {server.url}}}\n"
        )
        monkeypatch.setenv("RYZANSTEIN_REGISTRY_FILE", str(file))
        monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
        monkeypatch.setenv("RYZANSTEIN_ROOTS", str(tmp_path))
        yield said
        said.let_go.set()


@pytest.fixture
def asking(model: Model) -> Iterator[subprocess.Popen[bytes]]:
    """Another process at the task, in the middle of it."""
    line = [sys.executable, "-P", "-m", "ryzanstein.cli", "ask", TASK, "--agent", "OMNISCIENT"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not model.reached.wait(0.1):
        assert process.poll() is None, process.communicate()
    yield process
    process.kill()
    process.communicate()


def only_run() -> str:
    (run,) = shared().runs.list()
    return run.id


async def test_a_killed_run_is_interrupted_and_gone_on_with_behind_its_last_step(
    asking: subprocess.Popen[bytes], model: Model, answer: Answer, fault: Fault
) -> None:
    run_id = only_run()
    state = await answer("orchestrator", "get_run", run_id=run_id)
    assert state["status"] == "running" and state["events"]
    refused = await fault("orchestrator", "run_task", run_id=run_id)
    assert "is under way" in refused["message"]

    os.kill(asking.pid, signal.SIGKILL)
    asking.wait(20)
    state = await answer("orchestrator", "get_run", run_id=run_id)
    assert state["status"] == "interrupted"
    assert f"ryzanstein runs resume {run_id}" in state["hint"]
    assert model.expressions == ["3 * 4"]

    model.let_go.set()
    for bad in ({"task": "Something else"}, {"codename": "APEX"}):
        tool = "run_agent" if "codename" in bad else "run_task"
        assert (
            "is of another" in (await fault("orchestrator", tool, run_id=run_id, **bad))["message"]
        )
    result = await answer("orchestrator", "run_task", run_id=run_id)
    assert result["answer"] == "The first is 12, the second 30."
    assert [made["tool"] for made in result["steps"]] == ["evaluate_expression"] * 2
    assert model.expressions == ["3 * 4", "5 * 6"]
    assert result["run_id"] == run_id and result["agent"] == "OMNISCIENT"

    state = await answer("orchestrator", "get_run", run_id=run_id)
    assert state["status"] == "done" and state["hint"] == "" and "error" not in state["result"]
    refused = await fault("orchestrator", "run_task", run_id=run_id)
    assert refused["message"] == f"The run {run_id} is done."


async def test_a_run_of_another_process_is_stopped_and_can_be_gone_on_with(
    asking: subprocess.Popen[bytes], model: Model, answer: Answer
) -> None:
    run_id = only_run()
    assert (await answer("orchestrator", "cancel_run", run_id=run_id))["cancelled"]
    with anyio.fail_after(30):
        _, told = await anyio.to_thread.run_sync(asking.communicate)
    assert asking.returncode == 1
    assert "was cancelled" in told.decode()
    state = await answer("orchestrator", "get_run", run_id=run_id)
    assert state["status"] == "cancelled"
    assert not (await answer("orchestrator", "cancel_run", run_id=run_id))["cancelled"]
    model.let_go.set()
    result = await answer("orchestrator", "run_task", run_id=run_id)
    assert len(result["steps"]) == 2 and model.expressions == ["3 * 4", "5 * 6"]


async def test_a_run_that_left_nothing_cannot_be_gone_on_with(fault: Fault) -> None:
    shared().runs.save("say hello", id="run-old", status="failed")
    error = await fault("orchestrator", "run_task", run_id="run-old")
    assert "left nothing to go on from" in error["message"]
    error = await fault("orchestrator", "run_task", run_id="run-none")
    assert "There is no run" in error["message"]


async def test_a_task_whose_process_is_gone_is_gone_on_with_by_whoever_asks_for_it(
    model: Model, server: Callable[[str], Any], answer: Answer
) -> None:
    given = {"task": TASK, "codename": "OMNISCIENT"}
    run_id = (await answer("orchestrator", "run_agent", wait=False, **given))["run_id"]
    assert await anyio.to_thread.run_sync(model.reached.wait, 60)
    async with Client(server("orchestrator"), extensions=[Knows()]) as client:
        working = await ask(client, "tasks/get", run_id)
        assert (working["status"], working["ttlMs"]) == ("working", None)
        await _running.hand_back()
        model.let_go.set()
        assert (await ask(client, "tasks/get", run_id))["status"] == "working"
        done = await until(client, run_id)
        assert done["status"] == "completed"
        result = done["result"]["structuredContent"]
        assert (result["run_id"], result["answer"]) == (run_id, "The first is 12, the second 30.")
        TASKS._tasks.clear()  # as after a while: it is found in the table of runs
        again = await ask(client, "tasks/get", run_id)
        assert again["result"]["structuredContent"]["answer"] == result["answer"]
        await ask(client, "tasks/cancel", run_id)
        await ask(client, "tasks/update", run_id, inputResponses={})
        with acting(Subject("another", "another")), pytest.raises(MCPError, match="no such task"):
            await ask(client, "tasks/get", run_id)
    assert model.expressions == ["3 * 4", "5 * 6"]


async def test_a_run_that_nobody_waits_for_is_watched_cancelled_and_gone_on_with(
    model: Model, answer: Answer
) -> None:
    given = {"task": TASK, "codename": "OMNISCIENT", "wait": False}
    begun = await answer("orchestrator", "run_agent", **given)
    run_id = begun["run_id"]
    assert (begun["status"], begun["answer"]) == ("running", "")
    assert await anyio.to_thread.run_sync(model.reached.wait, 60)
    state = await answer("orchestrator", "get_run", run_id=run_id, wait=0.1)
    assert state["status"] == "running" and state["events"]
    assert (await answer("orchestrator", "cancel_run", run_id=run_id))["cancelled"]
    model.let_go.set()
    state = await answer("orchestrator", "get_run", run_id=run_id, wait=60)
    assert state["status"] == "cancelled"
    begun = await answer("orchestrator", "run_task", run_id=run_id, wait=False, max_tokens=5000)
    assert begun["run_id"] == run_id
    state = await answer("orchestrator", "get_run", run_id=run_id, wait=60)
    assert state["status"] == "done"
    assert state["result"]["answer"] == "The first is 12, the second 30."
    assert shared().runs.checkpoint(run_id)["asked"]["limits"] == {"tokens": 5000}


async def test_a_server_that_stops_hands_its_runs_back(model: Model, answer: Answer) -> None:
    given = {"task": TASK, "codename": "OMNISCIENT"}
    run_id = (await answer("orchestrator", "run_agent", wait=False, **given))["run_id"]
    assert await anyio.to_thread.run_sync(model.reached.wait, 60)
    model.let_go.set()
    await _running.hand_back()
    state = await answer("orchestrator", "get_run", run_id=run_id)
    assert state["status"] == "interrupted" and "runs resume" in state["hint"]
    result = await answer("orchestrator", "run_task", run_id=run_id)
    assert result["answer"] == "The first is 12, the second 30."


@pytest.mark.parametrize(
    "left",
    [
        {},
        {"asked": None, "state": None},
        {"asked": {"limits": 7}, "state": None},
        {"asked": {"task": "x"}},
        {"asked": {"task": "x"}, "state": [1]},
    ],
)
async def test_a_run_whose_state_is_damaged_stays_as_it_was(
    fault: Fault, left: dict[str, Any]
) -> None:
    shared().runs.save("say hello", id="run-bad", status="failed", checkpoint=left)
    error = await fault("orchestrator", "run_task", run_id="run-bad")
    assert error["code"] == "INVALID_REQUEST" and "is damaged" in error["message"]
    assert shared().runs.get("run-bad").status == "failed"


@pytest.mark.parametrize(
    ("owner", "status"),
    [
        ("elsewhere:1:2.0", "running"),  # of another machine, and heard of just now
        (f"{socket.gethostname()}:1:0.00", "interrupted"),  # its number is another process's now
        (f"{socket.gethostname()}:abc", "running"),  # what nobody can read counts by its silence
        ("", "running"),
    ],
)
def test_who_is_gone_is_found_out(owner: str, status: str) -> None:
    kept = shared().runs.save("say hello", id="run-1", owner=owner)
    assert _kept_runs.settled(kept if owner else replace(kept, seen=kept.created)).status == status


async def test_a_run_that_another_process_took_over_ends_here(
    model: Model,
    answer: Answer,
    call: Callable[..., Awaitable[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_running, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(_running, "BEAT_SECONDS", 0.05)
    given = {"task": TASK, "codename": "OMNISCIENT"}
    run_id = (await answer("orchestrator", "run_agent", wait=False, **given))["run_id"]
    assert await anyio.to_thread.run_sync(model.reached.wait, 60)
    runs = shared().runs
    runs.interrupt(run_id, _kept_runs.owner(), result={})
    taken = runs.claim(run_id, "elsewhere:1:2.0")
    live = _running._LIVE[run_id]
    model.let_go.set()
    with anyio.fail_after(30):
        await live.over.wait()
    assert live.why == "taken" and "another process" in str(live.ended())
    kept = runs.get(run_id)
    assert (kept.status, kept.owner) == ("running", taken.owner) and "answer" not in kept.result


async def test_a_run_that_nobody_waits_for_survives_the_end_of_its_server(
    model: Model, answer: Answer
) -> None:
    line = ["-P", "-m", "ryzanstein.cli", "mcp", "orchestrator"]
    child = StdioServerParameters(command=sys.executable, args=line, env=dict(os.environ))
    async with Client(child) as client:
        given = {"task": TASK, "codename": "OMNISCIENT", "wait": False}
        begun = (await client.call_tool("run_agent", given)).structured_content or {}
        assert await anyio.to_thread.run_sync(model.reached.wait, 60)
    model.let_go.set()
    state = await answer("orchestrator", "get_run", run_id=begun["run_id"])
    assert state["status"] == "interrupted" and "runs resume" in state["hint"]
    result = await answer("orchestrator", "run_task", run_id=begun["run_id"])
    assert result["answer"] == "The first is 12, the second 30."
    assert model.expressions == ["3 * 4", "5 * 6"]


async def test_a_task_that_another_process_goes_on_with_first_ends_as_it_does_there(
    server: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, claimed = shared().runs, _kept_runs.claimed
    left = {"asked": {"task": "Say hello"}, "state": None}
    gone = _kept_runs.owner().rsplit(":", 1)[0] + ":1.00"
    runs.save("Say hello", id="run-1", owner=gone, checkpoint=left)

    def late(run_id: str) -> Any:
        runs.claim(run_id, "elsewhere:1:2.0")
        return claimed(run_id)

    monkeypatch.setattr(_kept_runs, "claimed", late)
    async with Client(server("orchestrator"), extensions=[Knows()]) as client:
        assert (await ask(client, "tasks/get", "run-1"))["status"] == "working"
        await anyio.sleep(0.3)
        assert (await ask(client, "tasks/get", "run-1"))["status"] == "working"
        runs.update("run-1", status="done", result={"agent": "APEX", "answer": "Hello."})
        done = await until(client, "run-1")
    assert done["status"] == "completed" and not done["result"].get("isError")
    assert done["result"]["structuredContent"]["answer"] == "Hello."
