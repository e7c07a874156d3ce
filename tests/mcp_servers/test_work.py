from __future__ import annotations

import threading
import time
from typing import Any, cast

import anyio
import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers import _work
from ryzanstein.mcp_servers._work import Ticker, in_thread


async def test_work_returns_its_result() -> None:
    assert await in_thread(lambda stop: 42) == 42


async def test_work_raises_its_own_error_not_a_group() -> None:
    def work(stop: threading.Event) -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        await in_thread(work)


async def test_cancelling_stops_the_work_and_waits_for_it() -> None:
    started, ended = threading.Event(), threading.Event()

    def work(stop: threading.Event) -> None:
        started.set()
        assert stop.wait(timeout=10)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(in_thread, work)
        await anyio.to_thread.run_sync(started.wait)
        group.cancel_scope.cancel()
    assert ended.is_set()


async def test_work_that_says_nothing_yet_shows_that_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_work, "_SECONDS_OF_SILENCE", 0.02)

    class Client:
        heard: list[float] = []  # noqa: RUF012

        async def report_progress(self, done: float, total: float | None, text: str) -> None:
            self.heard.append(done)

    client = Client()
    tick = Ticker(cast(Any, client))

    def work(stop: threading.Event) -> None:
        time.sleep(0.2)
        tick(1, 2, "1 tokens")

    await in_thread(work, tick.beat)
    assert client.heard[-1] == 1
    assert len(client.heard) > 2
    assert client.heard == sorted(set(client.heard))
