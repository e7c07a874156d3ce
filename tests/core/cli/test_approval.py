"""A person at a terminal is asked before something is lost; nobody else is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-P", "-m", "ryzanstein.cli", "tools", "call", "delete_file"]
DELETE = [*COMMAND, '{"path": "old.txt"}']


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "place" / "old.txt"
    path.parent.mkdir()
    path.write_text("kept", encoding="utf-8")
    return path


def at_terminal(folder: Path, answer: bytes) -> tuple[int, str]:
    """Runs the command on a terminal of its own, and types an answer to its question."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(DELETE[0], DELETE)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, answer)
    while True:
        try:
            said += os.read(terminal, 4096)
        except OSError:  # the terminal is gone with its process
            break
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), said.decode("utf-8", "replace")


@pytest.mark.parametrize(("answer", "code", "there"), [(b"y\n", 0, False), (b"\n", 1, True)])
def test_the_person_at_the_terminal_decides(
    old: Path, answer: bytes, code: int, there: bool
) -> None:
    status, said = at_terminal(old.parent, answer)
    assert "old.txt" in said
    assert status == code, said
    assert old.exists() is there


def test_an_interrupt_at_the_question_ends_the_command_and_changes_nothing(old: Path) -> None:
    status, _ = at_terminal(old.parent, b"\x03")
    assert status in {130, -2}
    assert old.exists()


def test_without_a_terminal_it_is_refused_with_what_would_allow_it(old: Path) -> None:
    done = subprocess.run(
        DELETE, cwd=old.parent, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "needs approval" in done.stderr
    assert old.exists()
