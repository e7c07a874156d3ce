"""Work of a server that goes on behind the request that began it, until the process ends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from ryzanstein.mcp_servers._shared import shared

__all__ = ["begin", "end_all"]

log = logging.getLogger("ryzanstein.mcp_servers")

_Result = TypeVar("_Result")
_UNDER_WAY: set[asyncio.Task[Any]] = set()


def begin(work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
    """Starts work in a task of its own, for the subject and with the store of its request."""

    async def held() -> _Result:
        with shared().held():
            return await work

    task = asyncio.get_running_loop().create_task(held())
    _UNDER_WAY.add(task)
    task.add_done_callback(_ended)
    return task


async def end_all() -> None:
    """Cancels what is under way in this event loop, and waits until it has ended."""
    loop = asyncio.get_running_loop()
    mine = [task for task in _UNDER_WAY if task.get_loop() is loop]
    for task in mine:
        task.cancel()
    if mine:
        await asyncio.wait(mine)


def _ended(task: asyncio.Task[Any]) -> None:
    _UNDER_WAY.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        # Whoever waits for it hears of it; where nobody does, its row says so.
        log.debug("Work behind a request ended with %r", error)
