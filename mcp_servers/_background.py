"""Work of a server that goes on behind the request that began it, until the process ends it.

It is cancelled by a scope of its own and never as a task: a task's cancellation goes through
shields, and what a run writes of its beginning and its end must be written.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from ryzanstein.mcp_servers._shared import shared

__all__ = ["begin", "cancel", "end", "end_all", "hand_back"]

log = logging.getLogger("ryzanstein.mcp_servers")

_Result = TypeVar("_Result")
_UNDER_WAY: dict[asyncio.Future[Any], anyio.CancelScope] = {}
# Work that listens to nobody is left to the end of the process.
_SECONDS_TO_END = 10.0


def begin(work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
    """Starts work in a task of its own, for the subject and with the store of its request."""
    scope = anyio.CancelScope()

    async def held() -> _Result:
        with shared().held(), scope:
            return await work
        raise asyncio.CancelledError

    task = asyncio.get_running_loop().create_task(held())
    _UNDER_WAY[task] = scope
    task.add_done_callback(_ended)
    return task


def cancel(work: asyncio.Future[Any]) -> None:
    """Asks work to end, if it is under way."""
    scope = _UNDER_WAY.get(work)
    if scope is not None:
        scope.cancel()


async def end(*works: asyncio.Future[Any]) -> None:
    """Cancels work and waits until it has ended, also where whoever waits is cancelled too."""
    for work in works:
        cancel(work)
    if works:
        with anyio.move_on_after(_SECONDS_TO_END, shield=True):
            await asyncio.wait(works)


async def end_all() -> None:
    """Cancels what is under way in this event loop, and waits until it has ended."""
    loop = asyncio.get_running_loop()
    await end(*(work for work in _UNDER_WAY if work.get_loop() is loop))


async def hand_back() -> None:
    """Leaves every run of this process where another one can go on with it."""
    running = sys.modules.get("ryzanstein.mcp_servers._running")
    if running is not None:  # what was never loaded runs nothing, and takes a second to load
        await running.hand_back()


def _ended(task: asyncio.Task[Any]) -> None:
    _UNDER_WAY.pop(task, None)
    if not task.cancelled() and (error := task.exception()) is not None:
        # Whoever waits for it hears of it; where nobody does, its row says so.
        log.debug("Work behind a request ended with %r", error)
