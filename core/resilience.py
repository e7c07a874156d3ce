"""What keeps a failure of one part from becoming a failure of the whole, alike for every party.

A party is whatever answers calls: a backend that runs models, an MCP server.

    call ── Party.require ── retried: 1, 2, 4 s and jitter, where repeating is safe ── Party.watch
            circuit open:    Retry-After is respected                                 too long
            fails at once                                                             without life

Three failures in a row open a party's circuit; after a rest one call may try it again. A call that
gives no sign of life for five seconds marks its party slow, and others are preferred for a while.
The parties of this process outlive connections, so that every run knows what the last one met.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from time import monotonic, time
from typing import TYPE_CHECKING, TypeVar

import anyio

from ryzanstein.errors import RyzansteinError, ServerUnavailable, TimedOut
from ryzanstein.registry_models import Resilience

if TYPE_CHECKING:
    from purgatory.domain.model import Context

__all__ = ["PARTIES", "Busy", "Parties", "Party", "Watch", "retried"]

_Result = TypeVar("_Result")


class Busy(ServerUnavailable):
    """A party asks to be left alone for some seconds."""

    def __init__(self, message: str, *, hint: str = "", seconds: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.seconds = seconds


class Watch:
    """One call under way: when it last showed life, and its longest silence, in seconds."""

    def __init__(self, scope: anyio.CancelScope, silence: float) -> None:
        self._scope = scope
        self._silence = silence
        self.last = monotonic()
        self.longest = 0.0

    def alive(self) -> None:
        """Notes a sign of life: the call may be silent again as long as it might at first."""
        now = monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now
        self._scope.deadline = anyio.current_time() + self._silence


class Party:
    """How one party does; its methods may be called from any thread.

    Args:
        name: Such as `backend:local` or `server:tools`.
        policy: Failures, rest and slowness.
    """

    def __init__(self, name: str, policy: Resilience) -> None:
        self.name = name
        self.policy = policy
        self._circuit = _circuit(name, policy)
        self._watches: set[Watch] = set()
        self._slow_until = 0.0
        self._busy_until = 0.0
        self._seen_ill = False
        self.reason = ""
        self.detail = ""
        self.calls = 0
        self.failures = 0
        self.seconds: float | None = None
        self.checked: float | None = None

    @property
    def rest(self) -> float:
        """Seconds until an open circuit, or a party that asked for peace, may be tried again."""
        opened = self._circuit.opened_at
        circuit = 0.0 if opened is None else opened + self._circuit.ttl - time()
        return max(0.0, circuit, self._busy_until - monotonic())

    @property
    def open(self) -> bool:
        """Whether its circuit is open and it may not be tried yet."""
        opened = self._circuit.opened_at
        return opened is not None and opened + self._circuit.ttl > time()

    @property
    def state(self) -> str:
        """In one word: ok, failing, open, half-open or slow."""
        if self._circuit.opened_at is not None:
            return "open" if self.open else "half-open"
        if self.slow:
            return "slow"
        return "failing" if self._circuit.failure_count else "ok"

    @property
    def slow(self) -> bool:
        """Whether a call was silent for too long lately, or is so now."""
        now = monotonic()
        most = self.policy.slow_seconds
        return now < self._slow_until or any(now - one.last > most for one in [*self._watches])

    def require(self) -> None:
        """Lets a call through.

        Raises:
            ServerUnavailable: It failed too often lately, or asked for peace.
        """
        rest = self.rest
        if rest > 0:
            raise ServerUnavailable(
                f"{self.name} rests for {rest:.0f} s after failures: {self.reason}",
                hint="It is tried again by itself.",
            )
        if self._circuit.opened_at is not None:
            self._circuit.handle_new_request()

    def worked(self, seconds: float | None = None) -> None:
        """Notes a call that did what it should.

        Args:
            seconds: Its longest silence, where that says how fast the party is.
        """
        self.calls += 1
        self._circuit.handle_end_request()
        self._circuit.messages.clear()
        if seconds is not None:
            self.seconds = seconds
            if seconds <= self.policy.slow_seconds:
                self._slow_until = 0.0

    def failed(self, error: Exception) -> None:
        """Notes a call that failed by the party's fault."""
        self.calls += 1
        self.failures += 1
        self._seen_ill = False
        self._count(error)

    def looked(self, found: str | Exception) -> None:
        """Notes what a look at it found: a word on how it does, or why it does not.

        A look that works mends only what looks found: a server may list its models and yet fail.
        """
        self.checked = time()
        if isinstance(found, str):
            self.detail = found
            if self._seen_ill:
                self._seen_ill = False
                self._circuit.handle_end_request()
            return
        self.detail = ""
        if self.rest == 0 and self._circuit.opened_at is not None:
            self._circuit.handle_new_request()
        self._seen_ill = True
        self._count(found)

    def _count(self, error: Exception) -> None:
        self.reason = str(error)
        if isinstance(error, Busy):
            self._busy_until = monotonic() + error.seconds
        if self._circuit.state != "opened":
            self._circuit.handle_exception(error)
        self._circuit.messages.clear()

    @asynccontextmanager
    async def watch(self, silence: float) -> AsyncIterator[Watch]:
        """Bounds a call: it may be silent for so many seconds.

        Raises:
            TimedOut: It was silent for longer.
        """
        with anyio.move_on_after(silence) as scope:
            watch = Watch(scope, silence)
            self._watches.add(watch)
            try:
                yield watch
            finally:
                self._watches.discard(watch)
                watch.longest = max(watch.longest, monotonic() - watch.last)
                if watch.longest > self.policy.slow_seconds:
                    self._slow_until = monotonic() + self.policy.rest_seconds
        if scope.cancelled_caught:
            raise TimedOut(
                f"{self.name} gave no sign of life for {silence:g} s.",
                hint="It may be overloaded or stuck; raise its `seconds` in the registry.",
            )


class Parties:
    """Every party that this process has called, by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parties: dict[str, Party] = {}

    def get(self, name: str, policy: Resilience) -> Party:
        """Returns the party of a name, made by the first caller."""
        with self._lock:
            return self._parties.setdefault(name, Party(name, policy))

    def __iter__(self) -> Iterator[Party]:
        with self._lock:
            return iter([party for _, party in sorted(self._parties.items())])

    def clear(self) -> None:
        """Forgets them all."""
        with self._lock:
            self._parties.clear()


PARTIES = Parties()


async def retried(
    call: Callable[[], Awaitable[_Result]],
    policy: Resilience,
    *,
    safe: Callable[[Exception], bool],
    on_retry: Callable[[Exception], Awaitable[None]],
) -> _Result:
    """Makes a call, and again after the policy's waits where that is safe.

    Args:
        call: Makes it.
        policy: How often, and how long to wait between.
        safe: Says of an error whether the call may be made again.
        on_retry: Hears of every error that is not the last one.

    Raises:
        Whatever the last call raised.
    """
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    # Its own hook may print to stdout, which belongs to the protocol of a server over stdio.
    set_on_retry_hooks([])

    def again(error: Exception) -> bool | float:
        if not isinstance(error, RyzansteinError) or not safe(error):
            return False
        if isinstance(error, Busy) and error.seconds:
            return error.seconds if error.seconds <= policy.longest_wait else False
        return True

    attempts = stamina.retry_context(
        on=again,
        attempts=policy.retries + 1,
        timeout=None,
        wait_initial=policy.first_wait,
        wait_max=policy.longest_wait,
        wait_jitter=policy.jitter,
    )
    async for attempt in attempts:
        with attempt:
            try:
                return await call()
            except RyzansteinError as error:
                if attempt.num <= policy.retries and again(error):
                    await on_retry(error)
                raise
    raise AssertionError("a retried call ends by its result or its error")


def _circuit(name: str, policy: Resilience) -> Context:
    # The domain model by itself: its context managers take a cancelled call for a failure, or
    # for a success that closes the circuit, and it is neither.
    from purgatory.domain.model import Context

    return Context(name, threshold=policy.failures, ttl=policy.rest_seconds)
