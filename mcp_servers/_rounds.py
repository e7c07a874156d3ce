"""Work that asks its client things although the protocol lets no server call a client.

From 2026-07-28 on a tool that needs the client's model or user answers "input required" and is
called again with what was asked for. The work itself goes on in between, in a task of its own:

    call ──> work ── asks ──> parked      result: input required, state = where it is parked
    call with answers ──> the question is answered, work goes on ──> the next question, or the end

A client that does not come back leaves its work to its own limits; one that cancels ends it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mcp.server.mcpserver import Context
from mcp_types import ClientCapabilities, InputRequest, InputRequiredResult
from mcp_types.version import is_version_at_least

from ryzanstein.agents.backends.base import Declined
from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers import _background
from ryzanstein.mcp_servers._subject import Own
from ryzanstein.mcp_servers._task import task_id

__all__ = ["Rounds", "drop", "in_rounds"]

_Result = TypeVar("_Result")

FIRST_VERSION = "2026-07-28"
# Clients follow ten rounds of one call, the last of which must bring the result.
MOST_QUESTIONS = 9
KEEP_SECONDS = 600.0


class Rounds:
    """Stands in for the context of a call, over all its rounds.

    Attributes:
        client_capabilities: What the client offers.
        cancelled: Whether the client cancelled the call; else its work ends with the process only.
    """

    def __init__(self, context: Context[Any, Any]) -> None:
        self.client_capabilities: ClientCapabilities | None = context.client_capabilities
        self._context: Context[Any, Any] | None = context
        self._questions: asyncio.Queue[tuple[str, InputRequest]] = asyncio.Queue()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._asked = 0
        self._task: asyncio.Task[Any] | None = None
        self._in_task = task_id() is not None  # which asks as often as it needs to
        self.cancelled = False
        self.key = secrets.token_urlsafe(24)

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Tells the client, where a round is under way."""
        if self._context is not None:
            await self._context.report_progress(progress, total, message)

    async def ask(self, request: InputRequest) -> Any:
        """Asks the client in the next round and returns its answer.

        Raises:
            Declined: It was asked as often as a client can be in one call.
        """
        if self._asked >= MOST_QUESTIONS and not self._in_task:
            raise Declined(
                f"A client can be asked {MOST_QUESTIONS} times in one call, and was.",
                hint="Enable another backend, or ask for less at once.",
            )
        self._asked += 1
        name = f"question-{self._asked}"
        answer = self._answers[name] = asyncio.get_running_loop().create_future()
        await self._questions.put((name, request))
        try:
            return await answer
        finally:
            del self._answers[name]

    def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Starts the work in a task of its own, which no round ends."""
        self._task = _background.begin(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Keeps the result for a client that comes back late, and not for ever."""
        task.get_loop().call_later(KEEP_SECONDS, _PARKED.pop, self.key, None)

    def cancel(self) -> None:
        """Ends the work, as its client asked."""
        assert self._task is not None
        self.cancelled = True
        _background.cancel(self._task)

    def go_on(self, context: Context[Any, Any]) -> None:
        """Begins another round with what the client answered."""
        self._context = context
        for name, answer in (context.input_responses or {}).items():
            if name in self._answers and not self._answers[name].done():
                self._answers[name].set_result(answer)

    async def round(self) -> Any:
        """Waits for the next question, or for the end, whose result it returns or raises."""
        assert self._task is not None
        question = asyncio.ensure_future(self._questions.get())
        try:
            await asyncio.wait({self._task, question}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.cancelled = True
            await _background.end(self._task)
            raise
        finally:
            self._context = None
            if not question.done():
                question.cancel()
        if self._task.done():
            return self._task.result()
        name, request = question.result()
        _PARKED[self.key] = self
        return InputRequiredResult(input_requests={name: request}, request_state=self.key)


_PARKED: Own[Rounds] = Own()


def drop(state: str | None) -> None:
    """Ends parked work whose client will not come back."""
    rounds = _PARKED.pop(state, None) if state is not None else None
    if rounds is not None:
        rounds.cancel()


async def in_rounds(
    context: Context[Any, Any], work: Callable[[Any], Coroutine[Any, Any, _Result]]
) -> _Result | InputRequiredResult:
    """Does work(context), over several rounds where it asks a client of the newer protocol.

    Raises:
        InvalidRequest: The call goes on with work that has ended.
        Exception: What the work raised.
    """
    if context.request_state is not None:
        rounds = _PARKED.pop(context.request_state, None)
        if rounds is None:
            raise InvalidRequest(
                "What this call goes on with has ended.", hint="get_run says how a run ended."
            )
        rounds.go_on(context)
    elif _needs_rounds(context):
        rounds = Rounds(context)
        rounds.begin(work(rounds))
    else:
        return await work(context)
    found: _Result | InputRequiredResult = await rounds.round()
    return found


def _needs_rounds(context: Context[Any, Any]) -> bool:
    """Whether the client can be asked, and between rounds only."""
    can = context.client_capabilities
    asks = can is not None and (can.sampling is not None or can.elicitation is not None)
    version = context.protocol_version
    return asks and version is not None and is_version_at_least(version, FIRST_VERSION)
