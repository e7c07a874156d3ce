"""The file of tool calls when it is full, with several processes writing to it."""

from __future__ import annotations

import threading
from pathlib import Path

import filelock
import pytest

from ryzanstein.mcp_servers import _audit
from ryzanstein.tools.context import CallRecord


def record(tool: str) -> CallRecord:
    return CallRecord(
        tool=tool,
        arguments={"text": "x" * 300},
        ok=True,
        code=None,
        message="",
        seconds=0.0,
        changes=False,
        agent="",
        run_id="",
    )


def test_a_full_file_is_put_aside_once_though_two_processes_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_audit, "_LARGEST", 500)
    one, other = _audit.Audit(tmp_path), _audit.Audit(tmp_path)
    for number in range(2):
        one.keep(record(f"old_{number}"))
    full = (tmp_path / "tool_calls.jsonl").read_bytes()
    with filelock.FileLock(tmp_path / "tool_calls.lock"):
        waiting = threading.Thread(target=other.keep, args=(record("new_1"),))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        # What the process that holds the lock does, and then its next call.
        (tmp_path / "tool_calls.jsonl").replace(tmp_path / "tool_calls.1.jsonl")
        (tmp_path / "tool_calls.jsonl").write_bytes(full[:400] + b"\n")
    waiting.join()
    assert (tmp_path / "tool_calls.1.jsonl").read_bytes() == full
    assert {found["tool"] for found in other.read()} >= {"old_0", "old_1", "new_1"}
