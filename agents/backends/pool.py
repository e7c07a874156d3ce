"""The backends in their order of fallback: the first that is well answers.

    order in the registry ── open circuits left out, slow ones last ── tried in turn

A backend that gives no sign of life for some seconds keeps its call, and the next one that is well
is asked beside it: the first answer is taken. What asks the user is never asked so.

A failure that is the backend's own has its reason told, counts against the backend, is tried again
where that may help, and then leads to the next one. A fault of the caller ends the call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import anyio

from ryzanstein.agents.backends.base import (
    Backend,
    Completion,
    Message,
    Progress,
    Refused,
    estimated_tokens,
)
from ryzanstein.agents.backends.local import LocalBackend
from ryzanstein.agents.backends.sampling import SamplingBackend
from ryzanstein.errors import (
    ConfigError,
    InferenceError,
    InvalidRequest,
    MemoryLimitError,
    ModelLoadError,
    ModelNotFound,
    RyzansteinError,
    ServerUnavailable,
    TimedOut,
    ValidationError,
)
from ryzanstein.registry_models import Resilience
from ryzanstein.resilience import Parties, Party, retried

__all__ = ["Nothing", "Pool"]

Hook = Callable[[str], Awaitable[None]]

# So many empty answers in a row are a backend that has nothing to say.
MOST_EMPTY = 3
_CALLERS_FAULT = (InvalidRequest, ValidationError)
# Says nothing of how the backend does.
_NOT_COUNTED = (*_CALLERS_FAULT, Refused, ModelNotFound, ModelLoadError, MemoryLimitError)
# To ask once more brings the same.
_FINAL = (*_NOT_COUNTED, ConfigError, TimedOut)


_LOOK_SECONDS = 0.25

_Pair = tuple[Backend, Party]
_Ask = Callable[..., Awaitable[Completion]]


class Nothing(InferenceError):
    """A model answered with no text, again and again."""


class Pool:
    """Asks one backend after another.

    Args:
        backends: In their order of fallback.
        policy: When to try again, and when to leave one alone.
        parties: What is known of each.
        on_failure: Hears the reason of every failure.
    """

    def __init__(
        self, backends: Sequence[Backend], policy: Resilience, parties: Parties, on_failure: Hook
    ) -> None:
        self._backends = tuple(backends)
        self._policy = policy
        self._parties = parties
        self._on_failure = on_failure
        # How this run's client does says nothing of the client of another.
        self._own = Parties()
        self._empty: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The backends that would be asked, in order; none where every one rests."""
        return tuple(backend.name for backend, _ in self._usable())

    def on_this_engine(self, *, first: bool) -> bool:
        """Whether our own engine can be asked, and as the first one where that matters."""
        usable = [backend for backend, _ in self._usable()]
        return any(isinstance(one, LocalBackend) for one in (usable[:1] if first else usable))

    def has_other_than(self, name: str) -> bool:
        """Whether a backend beside the one of this name can be asked."""
        return any(one.name != name and one.available for one in self._backends)

    def party(self, backend: Backend) -> Party:
        """What is known of a backend."""
        known = self._own if isinstance(backend, SamplingBackend) else self._parties
        return known.get(f"backend:{backend.name}", self._policy)

    async def chat(
        self, messages: Sequence[Message], *, progress: Progress | None = None, **options: Any
    ) -> Completion:
        """Continues a conversation on the first backend that can.

        Raises:
            RyzansteinError: None could; where there is only one, its own error.
        """
        failures: dict[str, RyzansteinError] = {}
        last: Completion | None = None
        order = self._order()
        for backend, party in order:
            if backend.name in failures:
                continue
            others = [pair for pair in order if pair[0].name not in {backend.name, *failures}]
            ask = partial(self._asked, messages=messages, options=options)
            for asked, its, found in await self._raced((backend, party), others, ask, progress):
                if isinstance(found, RyzansteinError):
                    if isinstance(found, _CALLERS_FAULT):
                        raise found
                    failures[asked.name] = found
                    await self._on_failure(f"{asked.name}: {found}")
                    continue
                if found.text.strip():
                    self._empty[asked.name] = 0
                    return found
                failures[asked.name] = await self._nothing(asked, its)
                last = found if self._empty[asked.name] < MOST_EMPTY else None
            if last is not None and options.get("stop"):
                break  # an answer that stops at once may be meant so
        if last is not None:
            return last
        raise self._all_failed([*failures.items()])

    async def _raced(
        self, first: _Pair, others: Sequence[_Pair], ask: _Ask, progress: Progress | None
    ) -> list[tuple[Backend, Party, Completion | RyzansteinError]]:
        """Asks a backend, and beside it another one when it has been silent for too long.

        Returns:
            What came of each, up to the first answer with text.
        """
        ended: list[tuple[Backend, Party, Completion | RyzansteinError]] = []

        async def run(pair: _Pair, progress: Progress | None) -> None:
            found: Completion | RyzansteinError
            try:
                found = await ask(*pair, progress=progress)
            except RyzansteinError as error:
                found = error
            ended.append((*pair, found))
            if isinstance(found, Completion) and found.text.strip():
                group.cancel_scope.cancel()
            elif len(ended) == started:
                group.cancel_scope.cancel()

        started = 1
        silence = self._policy.slow_seconds
        async with anyio.create_task_group() as group:
            group.start_soon(run, first, progress)
            while not first[1].slow:
                await anyio.sleep(min(_LOOK_SECONDS, silence / 4))
            spare = next((pair for pair in others if _may_be_asked_beside(*pair)), None)
            if spare is not None:
                started = 2
                said = f"no sign of life for {silence:g} s; {spare[0].name} is asked beside it."
                await self._on_failure(f"{first[0].name}: {said}")
                group.start_soon(run, spare, None)
        return ended

    async def _nothing(self, backend: Backend, party: Party) -> Nothing:
        """Counts an empty answer."""
        count = self._empty[backend.name] = self._empty.get(backend.name, 0) + 1
        error = Nothing(f"The model answered with nothing, {count} times in a row.")
        if count >= MOST_EMPTY:
            party.failed(error)
        await self._on_failure(f"{backend.name}: {error}")
        return error

    async def _asked(
        self,
        backend: Backend,
        party: Party,
        *,
        messages: Sequence[Message],
        progress: Progress | None,
        options: dict[str, Any],
    ) -> Completion:
        """Asks one backend, and again where that may help."""

        async def once() -> Completion:
            party.require()
            try:
                with anyio.fail_after(backend.total_seconds):
                    async with party.watch(backend.seconds) as watch:
                        found = await backend.chat(
                            messages, watch=watch, progress=progress, **options
                        )
            except TimeoutError:
                late = TimedOut(f"{backend.name} took longer than {backend.total_seconds:g} s.")
                party.failed(late)
                raise late from None
            except RyzansteinError as error:
                if not isinstance(error, _NOT_COUNTED):
                    party.failed(error)
                raise
            party.worked(watch.longest)
            return found

        async def told(error: Exception) -> None:
            await self._on_failure(f"{backend.name}: {error} It is asked again.")

        def safe(error: Exception) -> bool:
            return not isinstance(error, _FINAL) and not party.open

        return await retried(once, self._policy, safe=safe, on_retry=told)

    async def count_tokens(self, what: str | Sequence[Message], model: str | None) -> int:
        """Counts as the backend that would be asked does; estimates where that fails.

        Raises:
            InvalidRequest: The text cannot be counted.
            ModelNotFound: There is no such model, nor another backend.
        """
        order = self._order()
        for backend, _ in order:
            try:
                # Not watched: the first count loads the model, which says nothing of slowness.
                with anyio.fail_after(backend.seconds):
                    return await backend.count_tokens(what, model)
            except TimeoutError:
                await self._on_failure(f"{backend.name}: counting tokens took too long.")
            except _CALLERS_FAULT:
                raise
            except RyzansteinError as error:
                if len(order) == 1:
                    raise
                await self._on_failure(f"{backend.name}: {error}")
        return estimated_tokens(what)

    def _order(self) -> list[tuple[Backend, Party]]:
        """Whom to ask, in turn.

        Raises:
            ServerUnavailable: Nobody can be asked.
        """
        found = self._usable()
        if found:
            return found
        able = [backend for backend in self._backends if backend.available]
        if not able:
            raise ServerUnavailable(
                "There is no backend that could run a model.",
                hint="Enable one under `backends` in the registry.",
            )
        rests = [
            f"{one.name}, {self.party(one).rest:.0f} s: {self.party(one).reason}" for one in able
        ]
        raise ServerUnavailable(
            f"Every backend rests after failures. {' '.join(rests)}",
            hint="They are tried again by themselves; `ryzanstein doctor` shows how they are.",
        )

    def _usable(self) -> list[tuple[Backend, Party]]:
        able = [(one, self.party(one)) for one in self._backends if one.available]
        found = [(backend, party) for backend, party in able if party.rest == 0]
        return sorted(found, key=lambda pair: pair[1].slow)

    def _all_failed(self, failures: Sequence[tuple[str, RyzansteinError]]) -> RyzansteinError:
        if len(failures) == 1:
            return failures[0][1]
        reasons = " ".join(f"{name}: {error}" for name, error in failures)
        return ServerUnavailable(
            f"No backend could answer. {reasons}",
            hint="`ryzanstein doctor` shows how they are.",
        )


def _may_be_asked_beside(backend: Backend, party: Party) -> bool:
    return not party.slow and not isinstance(backend, SamplingBackend)
