"""Runs a trusted program with limits on time and output, and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.abc

from ryzanstein.tools.context import ToolTimeout

__all__ = ["Done", "kill_group", "read_limited", "run_limited"]


@dataclass(frozen=True, slots=True)
class Done:
    """A program that has ended.

    Attributes:
        exit_code: As the system gives it, minus the signal where one ended it.
        stdout: Decoded, damaged bytes replaced, cut at the limit.
        stderr: The same.
    """

    exit_code: int
    stdout: str
    stderr: str


async def run_limited(
    line: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    seconds: float,
    output_bytes: int,
) -> Done:
    """Runs a program without input, in a session of its own, and kills its group at the end.

    Raises:
        ToolTimeout: It took longer than that many seconds.
    """
    output = (bytearray(), bytearray())
    exit_code = 0
    process = await anyio.open_process(
        line, stdin=subprocess.DEVNULL, cwd=cwd, env=dict(env), start_new_session=True
    )
    try:
        with anyio.move_on_after(seconds) as scope:
            async with anyio.create_task_group() as readers:
                readers.start_soon(read_limited, process.stdout, output[0], output_bytes)
                readers.start_soon(read_limited, process.stderr, output[1], 65536)
                exit_code = await process.wait()
                # What it left behind would keep the pipes open.
                kill_group(process)
    finally:
        kill_group(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()
    if scope.cancelled_caught:
        raise ToolTimeout(
            f"{Path(line[0]).name} took longer than {seconds:g} s.", hint="Ask for less."
        )
    stdout, stderr = (bytes(part).decode("utf-8", "replace") for part in output)
    return Done(exit_code, stdout, stderr)


async def read_limited(
    stream: anyio.abc.ByteReceiveStream | None, into: bytearray, limit: int
) -> None:
    """Reads to the end, keeping the first bytes, so that the writer never waits."""
    if stream is None:
        return
    with contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError):
        while True:
            chunk = await stream.receive(65536)
            into.extend(chunk[: limit - len(into)])


def kill_group(process: anyio.abc.Process) -> None:
    """Kills a process that was started in a session of its own, and what it left of its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
