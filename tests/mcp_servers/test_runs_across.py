"""Runs across processes: killed, found interrupted, gone on with, stopped from elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from ryzanstein.mcp_servers._shared import shared
from tests.agents.backend_server import BackendServer

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
