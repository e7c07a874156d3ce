"""The thread that consolidates: it works, stops at once, and outlives errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from ryzanstein.errors import StorageError, TimedOut
from ryzanstein.memory.background import Background
from ryzanstein.memory.store import MemoryStore

WAIT = 30.0


class Counting:
    """A job that counts its calls, fails as told, and says when it was called often enough."""

    def __init__(self, enough: int, failing: tuple[Exception, ...] = ()) -> None:
        self.calls = 0
        self.seconds: list[float] = []
        self.enough = threading.Event()
        self._wanted = enough
        self._failing = list(failing)

    def __call__(self, seconds: float, stop: Callable[[], bool]) -> None:
        self.calls += 1
        self.seconds.append(seconds)
        if self.calls >= self._wanted:
            self.enough.set()
        if self._failing:
            raise self._failing.pop(0)


def test_what_one_job_does_not_need_the_next_one_has() -> None:
    one, other = Counting(3), Counting(3)
    background = Background([one, other], every=0.001, slice=100.0)
    background.start()
    assert one.enough.wait(WAIT) and other.enough.wait(WAIT)
    background.close()
    assert max(one.seconds) <= 50.0
    assert max(other.seconds) > 50.0


def test_starting_twice_is_starting_once() -> None:
    job = Counting(1)
    background = Background([job], every=0.001)
    background.start()
    first = background._thread
    background.start()
    assert background._thread is first
    background.close()


@pytest.mark.parametrize(
    "error", [StorageError("the disk is full"), TimedOut("locked"), RuntimeError("unforeseen")]
)
def test_it_outlives_errors_and_steps_back(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    job = Counting(4, failing=(error, error))
    background = Background([job], every=0.001)
    background.start()
    assert job.enough.wait(WAIT)
    background.close()
    assert background.failures == 2
    assert not background.running
    assert "waits" in caplog.text


def test_the_pause_doubles_up_to_five_minutes() -> None:
    background = Background([], every=1.0)
    pauses = [1.0]
    for _ in range(12):
        pauses.append(background._longer(pauses[-1]))
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == 300.0


def test_closing_ends_the_work_in_the_middle_of_a_pause() -> None:
    background = Background([Counting(1)], every=3600.0)
    background.start()
    began = time.monotonic()
    background.close()
    assert not background.running
    assert time.monotonic() - began < WAIT


def test_a_job_is_told_to_stop() -> None:
    entered, left = threading.Event(), threading.Event()

    def works_until_told(seconds: float, stop: Callable[[], bool]) -> None:
        entered.set()
        while not stop():
            time.sleep(0.001)
        left.set()

    background = Background([works_until_told], every=0.001)
    background.start()
    assert entered.wait(WAIT)
    background.close()
    assert left.is_set()


def test_a_store_consolidates_by_itself_once_it_is_started(url: str) -> None:
    with MemoryStore(url) as store:
        store.remember("The build takes 25 minutes.")
        store.remember("The build takes really 25 minutes.")
        store.start_background(every=0.01)
        deadline = time.monotonic() + WAIT
        while len(store.list().memories) > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(store.list().memories) == 1
    names = {thread.name for thread in threading.enumerate()}
    assert "memory-background" not in names


def test_plain_use_of_a_store_starts_no_thread(store: MemoryStore) -> None:
    store.remember("The build takes 25 minutes.")
    assert "memory-background" not in {thread.name for thread in threading.enumerate()}
