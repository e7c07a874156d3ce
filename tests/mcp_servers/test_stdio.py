"""Servers as child processes, as clients start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from tests.messages import HELLO, INITIALIZE, INITIALIZED

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
START_SECONDS = 2.0
HANDSHAKE: list[dict[str, Any]] = [
    INITIALIZE,
    INITIALIZED,
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
]


def talk(
    command: list[str],
    folder: Path,
    answers: int = 2,
    messages: list[dict[str, Any]] = HANDSHAKE,
    environment: dict[str, str] | None = None,
) -> tuple[list[str], str, float]:
    """Sends messages, reads their answers, ends the input; returns stdout, stderr, seconds."""
    started = perf_counter()
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(answers)]
        seconds = perf_counter() - started
        process.stdin.close()
        lines += process.stdout.readlines()
        errors = process.stderr.read()
    assert process.returncode == 0, errors
    return lines, errors, seconds


def processor_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_a_server_lists_its_tools_within_two_seconds_and_stdout_stays_clean(
    server_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = processor_seconds()
    lines, errors, seconds = talk(
        [sys.executable, "-m", "ryzanstein.cli", "mcp", server_name], tmp_path
    )
    spent = processor_seconds() - before
    with capsys.disabled():
        print(f"\n{server_name}: {seconds:.2f} s, of processor time {spent:.2f} s")
    # On a machine that others use as well, the wall says more about them.
    assert min(seconds, spent) < START_SECONDS
    assert [json.loads(line)["id"] for line in lines] == [1, 2]
    assert errors == ""


def test_mcp_run_serves_the_file_from_any_directory(server_name: str, tmp_path: Path) -> None:
    file = ROOT / "mcp_servers" / f"{server_name}.py"
    lines, _, _ = talk([str(SCRIPTS / "mcp"), "run", str(file)], tmp_path)
    answers = [json.loads(line) for line in lines]
    assert answers[0]["result"]["serverInfo"]["name"] == f"ryzanstein-{server_name}"
    assert answers[1]["result"]["tools"]


def test_a_run_whose_client_leaves_while_it_is_asked_is_left_in_order(tmp_path: Path) -> None:
    first = tmp_path / "client first.yaml"
    first.write_text("backends:\n  - {name: local, kind: local, order: 95}\n", encoding="utf-8")
    of_2026 = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": HELLO["clientInfo"],
        "io.modelcontextprotocol/clientCapabilities": {"sampling": {}},
    }
    arguments = {"codename": "SCRIBE", "task": "Name a colour.", "tools": False}
    params = {"name": "run_agent", "arguments": arguments, "_meta": of_2026}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    command = [sys.executable, "-m", "ryzanstein.cli", "mcp", "orchestrator"]
    environment = {**os.environ, "RYZANSTEIN_REGISTRY_FILE": str(first)}
    lines, errors, _ = talk(command, tmp_path, 1, [call], environment)
    assert json.loads(lines[0])["result"]["resultType"] == "input_required"
    assert errors == ""
    listed = [sys.executable, "-m", "ryzanstein.cli", "runs", "list", "--json"]
    runs = json.loads(subprocess.run(listed, check=True, capture_output=True, text=True).stdout)
    assert [one["status"] for one in runs] == ["interrupted"]


def test_a_toolset_is_shown_over_stdio(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ryzanstein.cli", "mcp", "tools", "--toolset", "files,git"]
    lines, _, _ = talk(command, tmp_path)
    names = [tool["name"] for tool in json.loads(lines[1])["result"]["tools"]]
    assert "read_file" in names and "git_inspect" in names
