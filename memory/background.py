"""Consolidation while nobody waits: a thread that works in short slices and steps back on errors.

Only long-lived servers start it. Each second it works for at most 50 ms, at a lower priority where
the system gives threads one, writing use counts and settling tiers first, then consolidating and
distilling. With nothing to do that is a few questions to the database. When the disk is full or the
database locked it waits, up to five minutes, and goes on where it was; closing ends it after the
few memories it is at.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ryzanstein.errors import RyzansteinError

__all__ = ["Background", "Job"]

_LOG = logging.getLogger(__name__)
_SLICE = 0.05
_LONGEST_PAUSE = 300.0
_NICENESS = 10
_JOINING = 5.0


class Job(Protocol):
    """Something to do a little of."""

    def __call__(self, seconds: float, stop: Callable[[], bool]) -> object:
        """Works for at most that long, and less when `stop` says so."""


class Background:
    """Runs jobs in turn, a slice at a time.

    Args:
        jobs: What to do, in this order.
        every: Seconds between two slices.
        slice: Seconds of work in one.
    """

    def __init__(self, jobs: Sequence[Job], *, every: float = 1.0, slice: float = _SLICE) -> None:
        self._jobs = jobs
        self._every = every
        self._slice = slice
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.failures = 0
        self.slices = 0

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread; a second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, name="memory-background", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Ends the work soon; one that waits for a locked database is left behind after 5 s."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_JOINING)

    def _work(self) -> None:
        _lower_priority()
        pause = self._every
        while not self._stopping.wait(pause):
            try:
                self._do_slice()
                pause = self._every
                self.slices += 1
            except RyzansteinError as error:
                pause = self._longer(pause)
                _LOG.warning("Consolidation waits %.0f s: %s", pause, error)
            except Exception:
                # Nobody is there to see it, and the server must go on without this thread's work.
                pause = self._longer(pause)
                _LOG.exception("Consolidation failed; it waits %.0f s", pause)

    def _do_slice(self) -> None:
        """Gives each job its part of what is left: what one does not need the next one has."""
        deadline = time.monotonic() + self._slice
        for done, job in enumerate(self._jobs):
            if not self._stopping.is_set():
                left = max(deadline - time.monotonic(), 0.0)
                job(left / (len(self._jobs) - done), self._stopping.is_set)

    def _longer(self, pause: float) -> float:
        self.failures += 1
        return min(pause * 2, _LONGEST_PAUSE)


def _lower_priority() -> None:
    # On Linux a thread has a niceness of its own; elsewhere this would slow the whole process.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
