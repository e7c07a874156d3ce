"""Ctrl-C at moments that differ: one line, 130, nothing lost, nothing left running."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.messages import INITIALIZE, INITIALIZED

FACT = "The harbour closes at nine."
STORY = "Tell a long story about a harbour. "
FOREVER = {"name": "run_python", "arguments": {"code": "while True: pass"}}
REQUESTS: list[dict[str, Any]] = [
    INITIALIZE,
    INITIALIZED,
    {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "call_tool", "arguments": FOREVER},
    },
]

Child = subprocess.Popen[bytes]


def mapped(child: Child, part: str) -> bool:
    """Says whether a process has mapped a file whose path holds this part."""
    try:
        return part in Path(f"/proc/{child.pid}/maps").read_text(encoding="utf-8")
    except OSError:
        return False


def until(condition: Callable[[], bool], child: Child) -> None:
    """Looks again and again until a condition holds, which must be before the child's end."""
    pause = threading.Event()
    while not condition():
        assert child.poll() is None, child.communicate()
        pause.wait(0.002)


def importing(child: Child) -> None:
    until(lambda: mapped(child, "_pydantic_core"), child)


def loading(child: Child) -> None:
    until(lambda: mapped(child, "SmolLM2"), child)


def prefilling(child: Child) -> None:
    """The task's 1,800 tokens take a second of the processor, which the load before does not."""
    loading(child)
    process = psutil.Process(child.pid)
    enough = process.cpu_times().user + 0.8
    until(lambda: process.cpu_times().user > enough, child)


def decoding(child: Child) -> None:
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith(b"answer"):
            return
    raise AssertionError("it ended before it had answered")


MOMENTS = {"import": importing, "load": loading, "prefill": prefilling, "decode": decoding}


@pytest.fixture(scope="module")
def used_place(make_place: Callable[..., Any], smollm2: Path) -> Any:
    place = make_place(smollm2.parent.parent, RYZANSTEIN_DEFAULT_MODEL="smollm2-135m")
    assert place.run("memory", "add", FACT).code == 0
    return place


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_is_one_line_and_nothing_is_lost(used_place: Any, moment: str) -> None:
    task = STORY * (240 if moment == "prefill" else 1)
    command = ("ask", "-", "--no-tools", "--tokens", "2000", "--json")
    with used_place.start(*command) as child:
        child.stdin.write(task.encode())
        child.stdin.close()
        MOMENTS[moment](child)
        child.send_signal(signal.SIGINT)
        out, err = child.stdout.read(), child.stderr.read()
    assert child.returncode == 130
    assert json.loads(out) == {
        "error": {"code": "INTERNAL_ERROR", "message": "Interrupted.", "hint": ""}
    }
    assert err.endswith(b"ryzanstein: Interrupted.\n")
    assert err.count(b"ryzanstein: ") == 1 and b"Traceback" not in err
    assert used_place.remembered() == [FACT]
    assert set(used_place.runs()) <= {"cancelled"}


def test_an_interrupt_in_the_middle_of_a_download_keeps_no_file(used_place: Any) -> None:
    place = type(used_place)(
        used_place.folder, used_place.folder / "models", {"PIP_INDEX_URL": "http://127.0.0.1:9"}
    )
    with place.start("models", "pull", "smollm2-135m", "--json") as child:
        pip: list[psutil.Process] = []
        process = psutil.Process(child.pid)
        until(lambda: bool(pip.extend(process.children()) or pip), child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()
    assert child.returncode == 130
    assert json.loads(out)["error"]["message"] == "Interrupted."
    assert err.endswith(b"ryzanstein: Interrupted.\n") and b"Traceback" not in err
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in pip)
    assert not list(place.models.rglob("*.gguf"))


def test_an_interrupt_ends_what_runs_in_the_sandbox(used_place: Any) -> None:
    with used_place.start("mcp", "tools") as child:
        child.stdin.write("".join(f"{json.dumps(one)}\n" for one in REQUESTS).encode())
        child.stdin.flush()
        process = psutil.Process(child.pid)
        running: list[psutil.Process] = []

        def started() -> bool:
            running[:] = process.children(recursive=True)
            return len(running) > 2

        until(started, child)
        child.send_signal(signal.SIGINT)
        err = child.stderr.read()
        child.stdin.close()
    assert child.returncode == 130
    assert err == b"ryzanstein: Interrupted.\n"
    _, alive = psutil.wait_procs(running, timeout=10)
    assert not alive
