"""Work behind a request: however it is cancelled, what it writes of itself is written."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import anyio
import anyio.lowlevel

from ryzanstein.mcp_servers import _background, _running
from ryzanstein.mcp_servers._asking import Nobody
from ryzanstein.mcp_servers._running import Asked
from ryzanstein.mcp_servers._shared import shared


@contextmanager
def locked() -> Iterator[None]:
    """The database while another process is in the middle of a long write."""
    file = shared().settings.data_dir / "ryzanstein.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_run_that_is_cancelled_while_its_row_is_written_does_not_stay_under_way() -> None:
    assert shared().runs.list() == []
    with locked():
        work = _background.begin(_running.run(Nobody(), Asked("Say hello.", agent="SCRIBE")))
        await asyncio.sleep(0.05)  # its row waits for the lock
        _background.cancel(work)
        _background.cancel(work)
        await asyncio.sleep(0)
        assert not work.done()
    await asyncio.wait({work})
    assert work.cancelled()
    assert [run.status for run in shared().runs.list()] == ["cancelled"]


async def test_whoever_ends_work_waits_for_its_end_although_he_is_cancelled_himself() -> None:
    begun, written = anyio.Event(), []

    async def work() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                written.append("end")

    task = _background.begin(work())
    await begun.wait()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await _background.end(task)
        assert written == ["end"]
    assert task.cancelled()
