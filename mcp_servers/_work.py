"""Blocking work inside an async tool: in a thread, with progress, stopped for real when cancelled.

A cancelled call sets the work's stop event and then waits for the thread to notice, so that
whatever comes next finds the engine free; nothing runs on behind the client's back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from time import monotonic
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp.server.mcpserver import Context

__all__ = ["Ticker", "in_thread"]

log = logging.getLogger("ryzanstein.mcp_servers")

_Result = TypeVar("_Result")
_SECONDS_OF_SILENCE = 2.0  # half of what marks a backend slow
_SECONDS_BETWEEN = 0.1  # progress is for people: ten times a second is as often as anyone looks


class Ticker:
    """Carries progress from a worker thread to the client, not more often than useful.

    Progress only ever grows, as the protocol demands.
    """

    def __init__(self, context: Context[Any, Any] | None, every: float = _SECONDS_BETWEEN) -> None:
        self._context = context
        self._every = every
        self._last = float("-inf")
        self._shown = float("-inf")

    async def beat(self) -> None:
        """Says now and then that the work has begun, until the first report of it.

        Whoever waits for a long prompt to be read then knows that nothing has died.
        """
        beats = 0
        while self._context is not None and self._shown < 1:
            await anyio.sleep(_SECONDS_OF_SILENCE)
            beats += 1
            if self._shown < 1:
                self._shown = 1 - 1 / (1 + beats)
                await self._context.report_progress(self._shown, None, "reads the prompt")

    def __call__(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Reports from the worker thread; skipped when the last report was just now."""
        now = monotonic()
        final = total is not None and done >= total
        if self._context is None or done <= self._shown:
            return
        if now - self._last < self._every and not final:
            return
        self._last, self._shown = now, done
        anyio.from_thread.run(self._context.report_progress, done, total, message)


@dataclass
class _Outcome(Generic[_Result]):
    value: _Result | None = None
    error: BaseException | None = None


async def in_thread(
    work: Callable[[threading.Event], _Result],
    beat: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> _Result:
    """Runs work(stop) in a thread and returns its result.

    Args:
        work: Looks at `stop` often and returns soon after it is set.
        beat: Runs beside it, until it is done.

    Raises:
        Whatever work raises; on cancellation, the cancellation, after the thread has ended.
    """
    stop = threading.Event()
    done = anyio.Event()
    outcome: _Outcome[_Result] = _Outcome()

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            try:
                outcome.value = await anyio.to_thread.run_sync(work, stop)
            except Exception as error:
                outcome.error = error
            finally:
                done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        if beat is not None:
            group.start_soon(beat)
        try:
            await done.wait()
            group.cancel_scope.cancel()
        finally:
            stop.set()
    if outcome.error is not None:
        raise outcome.error
    return outcome.value  # type: ignore[return-value]
