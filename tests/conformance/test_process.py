"""A server as a child process: what is on its stdout, from its import to its end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from wire import ENVELOPE, FIXTURE, HELLO, INITIALIZED, Stdio, encoded, request

CLI = (sys.executable, "-m", "ryzanstein.cli")
# What a careless library does: it prints when it is imported, while it works, and at the end.
CARELESS = """
import atexit, sys

class Printing:
    def find_spec(self, name, path=None, target=None):
        if name == "ryzanstein.mcp_servers._cache":
            print("imported")
            atexit.register(print, "the end")

sys.meta_path.insert(0, Printing())
"""


def test_stdout_carries_messages_only_whatever_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CARELESS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Stdio(*CLI, "mcp", "cache", cwd=tmp_path) as server:
        server.initialize().send(request(1, "tools/list"), b"", b"   ")
        assert server.answer(1)["result"]["tools"]
        assert server.end() == 0
    assert [json.loads(line)["jsonrpc"] for line in server.lines] == ["2.0", "2.0"]
    assert "imported" in server.errors and "the end" in server.errors


def test_the_legacy_era_knows_no_probe_and_still_shakes_hands(tmp_path: Path) -> None:
    probe = request(0, "server/discover", {"_meta": ENVELOPE})
    with Stdio(*CLI, "mcp", "cache", "--era", "legacy", cwd=tmp_path) as server:
        server.send(probe, request(1, "initialize", HELLO), INITIALIZED, request(2, "ping"))
        assert server.answer(0)["error"]["code"] == -32601
        assert server.answer(1)["result"]["protocolVersion"] == "2025-11-25"
        assert server.answer(2)["result"] == {}


def test_a_client_that_terminates_it_gets_what_runs_left_in_order(tmp_path: Path) -> None:
    with Stdio(*CLI, "mcp", "cache", cwd=tmp_path) as server:
        server.initialize()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) != 0
    assert "Interrupted" in server.errors and "Traceback" not in server.errors


def test_a_client_that_stops_reading_ends_it(tmp_path: Path) -> None:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*CLI, "mcp", "cache"], cwd=tmp_path, **pipes) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        process.stdin.write(encoded(request(1, "initialize", HELLO)) + b"\n")
        process.stdin.flush()
        assert process.wait(60) == 0
        assert b"Traceback" not in process.stderr.read()


def test_a_closed_stdin_is_named(tmp_path: Path) -> None:
    """Without the command line, which puts an empty file there."""
    with Stdio("/bin/sh", "-c", f'{sys.executable} -c "{FIXTURE}" <&-', cwd=tmp_path) as server:
        assert server.process.wait(60) == 1
    assert "stdin or stdout is closed" in server.errors
