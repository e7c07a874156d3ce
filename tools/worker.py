"""A helper process for work that cannot be stopped in this one; it is killed when it is late.

    value = await call("evaluate", {"expression": "2**100"}, seconds=10)

Symbolic mathematics and HTML parsing may run for ever or eat all memory on unlucky input, and a
thread cannot be stopped. So they run in a child (`worker_main.py`) that is kept between calls,
since importing sympy takes half a second. One JSON document a line goes each way.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

import anyio.to_thread

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import ToolTimeout

__all__ = ["call", "close_workers"]

_idle: list[_Worker] = []
_lock = threading.Lock()
_MOST_IDLE = 2


class _Worker:
    """One child and the pipes to it."""

    def __init__(self) -> None:
        # -P: a file of that name in the current directory must not be imported in its place.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ryzanstein.tools.worker_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.timed_out = False

    def call(self, request: bytes, seconds: float) -> bytes:
        """Returns the answer's line, or nothing where the child died or was killed."""
        assert self._process.stdin is not None and self._process.stdout is not None
        alarm = threading.Timer(seconds, self._expire)
        alarm.daemon = True
        alarm.start()
        try:
            self._process.stdin.write(request + b"\n")
            self._process.stdin.flush()
            return self._process.stdout.readline()
        except OSError:
            return b""
        finally:
            alarm.cancel()

    @property
    def alive(self) -> bool:
        """Whether the child is still there: the system may kill an idle one for want of memory."""
        return self._process.poll() is None

    def _expire(self) -> None:
        self.timed_out = True
        self._process.kill()

    def close(self) -> None:
        """Ends the child and reaps it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What was not written yet cannot be written any more.
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()


async def call(function: str, arguments: Mapping[str, Any], *, seconds: float) -> Any:
    """Calls one of the functions that `worker_main.py` offers.

    Raises:
        ToolTimeout: It took longer than that many seconds and was killed.
        ToolError: It refused, or the child died, as for want of memory.
    """
    request = json.dumps({"function": function, "arguments": dict(arguments)}).encode("utf-8")
    answer = await anyio.to_thread.run_sync(_exchange, request, seconds, abandon_on_cancel=True)
    if "error" in answer:
        raise ToolError(answer["error"], hint=answer["hint"])
    return answer["value"]


def _exchange(request: bytes, seconds: float) -> dict[str, Any]:
    worker = _taken() or _Worker()
    line = worker.call(request, seconds)
    if not line.endswith(b"\n"):
        worker.close()
        if worker.timed_out:
            raise ToolTimeout(
                f"This took longer than {seconds:g} s and was stopped.",
                hint="Ask for something smaller or simpler.",
            )
        raise ToolError(
            "This needed too much memory and was stopped.",
            hint="Ask for something smaller or simpler.",
        )
    answer: dict[str, Any] = json.loads(line)
    _keep(worker, last=answer["last"])
    return answer


def _taken() -> _Worker | None:
    """An idle worker; those that died meanwhile are reaped."""
    while True:
        with _lock:
            if not _idle:
                return None
            worker = _idle.pop()
        if worker.alive:
            return worker
        worker.close()


def _keep(worker: _Worker, *, last: bool) -> None:
    with _lock:
        if len(_idle) < _MOST_IDLE and not worker.timed_out and not last:
            _idle.append(worker)
            return
    worker.close()


def close_workers() -> None:
    """Ends the idle children; the next call starts a new one."""
    with _lock:
        workers = [*_idle]
        _idle.clear()
    for worker in workers:
        worker.close()


atexit.register(close_workers)
