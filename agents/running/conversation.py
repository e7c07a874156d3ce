"""One conversation with the model that only ever grows, and always fits its window.

Every question continues the text before it, so the engine's prefix cache pays for new tokens
alone; and it is asked to keep the state after the system message for the next conversation. Room
is counted in the model's own tokens before anything is said: whoever adds a text asks `fit` for a
share of the room that is left, and a text that is longer is cut in the middle with a mark that says
how much is missing. What is cut is never cut silently.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from ryzanstein.agents.clients.services import Completion, Progress, Services
from ryzanstein.errors import AgentInvocationError, InvalidRequest

__all__ = ["Budget", "Conversation", "OutOfBudget", "clipped"]

# Template marks around a message (role, separators) in every chat template this engine knows.
MESSAGE_OVERHEAD = 12
# Tokens that are kept for the answer to the user; an eighth of a window that is small.
RESERVE = 200
_SHORT = 64


class OutOfBudget(AgentInvocationError):
    """A run used up its tokens, its seconds or the model's window."""


@dataclass
class Budget:
    """What a run may still spend; seconds count from when it is made.

    A run that is gone on with may spend its limits anew; `earlier` is what it had taken before, as
    (tokens, seconds).
    """

    tokens: int
    seconds: float
    spent: int = 0
    earlier: tuple[int, float] = (0, 0.0)

    def __post_init__(self) -> None:
        self.started = monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self.started

    @property
    def all_tokens(self) -> int:
        """Tokens generated from the first beginning of the run on."""
        return self.earlier[0] + self.spent

    @property
    def all_seconds(self) -> float:
        """Seconds of work from the first beginning of the run on."""
        return self.earlier[1] + self.elapsed

    @property
    def tokens_left(self) -> int:
        """Tokens that may still be generated."""
        return max(0, self.tokens - self.spent)

    @property
    def seconds_left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.seconds - self.elapsed)


class Conversation:
    """Messages to one model, and how full its window is.

    Args:
        services: Reaches the inference server.
        budget: Generated tokens are charged to it.
        window: Tokens that prompt and answer may take together.
        model: Name or path; None is the server's default.
        progress: Hears of every generated token.

    Attributes:
        answered_by: The model that gave the last answer; another backend may have another one.
    """

    def __init__(
        self,
        services: Services,
        budget: Budget,
        *,
        window: int,
        model: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._services = services
        self._progress = progress
        self._messages: list[dict[str, str]] = []
        self._heard = ""
        self._waiting = 0
        self.budget = budget
        self.window = window
        self.model = model
        self.answered_by = ""
        self.used = 0
        self.reserve = min(RESERVE, window // 8)
        self.closing = self.reserve

    @property
    def room(self) -> int:
        """Tokens that are left for new messages and their answers."""
        return self.window - self.used - self._waiting

    @property
    def spare(self) -> int:
        """Tokens that a step may take, so that enough is left to ask for the answer and give it."""
        kept = min(self.reserve, self.budget.tokens // 4)
        return min(self.budget.tokens_left - kept, self.room - self.reserve - self.closing)

    def to_json(self) -> dict[str, Any]:
        """What was said so far."""
        return {
            "messages": self._messages,
            "heard": self._heard,
            "waiting": self._waiting,
            "used": self.used,
            "closing": self.closing,
            "answered_by": self.answered_by,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Goes on from what was said before."""
        self._messages = [dict(one) for one in kept["messages"]]
        self._heard, self._waiting = str(kept["heard"]), int(kept["waiting"])
        self.used, self.closing = int(kept["used"]), int(kept["closing"])
        self.answered_by = str(kept.get("answered_by", ""))

    def branch(self) -> Conversation:
        """A conversation that goes on from here by itself, on the same budget."""
        other = Conversation(
            self._services,
            self.budget,
            window=self.window,
            model=self.model,
            progress=self._progress,
        )
        other.restore(self.to_json())
        return other

    def adopt(self, branch: Conversation) -> None:
        """Goes on from where a branch has come to."""
        self.restore(branch.to_json())
        self.model = branch.model

    async def count(self, text: str) -> int:
        """Tokens of a text; short texts are bounded by their bytes without asking."""
        size = len(text.encode("utf-8"))
        if size <= _SHORT:
            return size
        return await self._services.count_tokens(text, model=self.model)

    async def fit(self, text: str, tokens: int) -> str:
        """Returns the text within so many tokens, with a mark in the middle where it was cut."""
        return await clipped(text, tokens, self.count)

    async def system(self, text: str) -> None:
        """Opens the conversation with what holds throughout."""
        self._messages = [{"role": "system", "content": text}]
        self.used = await self.count(text) + MESSAGE_OVERHEAD

    async def hear(self, text: str) -> None:
        """Puts a text before the next thing that is said."""
        self._heard = f"{self._heard}{text}\n\n"
        self._waiting = await self.count(self._heard)

    async def ask(
        self, text: str, *, max_tokens: int, prefix: str = "", final: bool = False, **options: Any
    ) -> Completion:
        """Says something and returns how the model answers; both stay in the conversation.

        Args:
            text: The user's turn.
            max_tokens: At most so many tokens of answer; fewer where the budget ends first.
            prefix: What the answer starts with; kept in the conversation, not in the result.
            final: It is the answer to the user, for which tokens and room are kept back.
            options: Of the inference server's `chat`: choices, regex, json_schema, stop, ...

        Raises:
            OutOfBudget: No tokens, no seconds or no room are left.
        """
        asks = await self.count(text) + await self.count(prefix) + 2 * MESSAGE_OVERHEAD
        free = self.budget.tokens_left if final else self.spare
        limit = min(max_tokens, free, self.room - asks)
        self._require(
            limit, self.room - (asks if final else max(asks, self.reserve + self.closing))
        )
        text = self._heard + text
        asked = [*self._messages, {"role": "user", "content": text}]
        found = await self._services.chat(
            asked,
            progress=self._progress,
            model=self.model,
            max_tokens=limit,
            answer_prefix=prefix or None,
            keep_system=True,
            **options,
        )
        self._messages = [*asked, {"role": "assistant", "content": closed(prefix + found.text)}]
        self._heard, self._waiting = "", 0
        self.budget.spent += found.tokens
        self.used = found.prompt_tokens + found.tokens + MESSAGE_OVERHEAD
        self.answered_by = found.model
        self.model = found.model if self.model is None else self.model
        return found

    def _require(self, limit: int, room: int) -> None:
        """Raises what leaves no tokens for an answer: time, the window, or the budget."""
        if self.budget.seconds_left <= 0:
            raise OutOfBudget(
                f"The run took longer than its {self.budget.seconds:g} seconds.",
                hint="Raise the agent's limit of seconds, or ask for less at once.",
            )
        if limit <= 0 < room:
            raise OutOfBudget(
                f"The run used up its {self.budget.tokens} tokens.",
                hint="Raise the agent's limit of tokens, or ask for less at once.",
            )
        if limit <= 0:
            raise OutOfBudget(
                f"The model's window of {self.window} tokens is full.",
                hint="Ask for less at once, or choose a model with a larger window.",
            )


def closed(text: str) -> str:
    """An assistant's turn with its code fence closed, as the stop string took the closing one."""
    return f"{text.rstrip()}\n```" if text.count("```") % 2 else text


async def clipped(text: str, tokens: int, count: Callable[[str], Awaitable[int]]) -> str:
    """Cuts the middle out of a text until it has at most so many tokens; says how much is missing.

    Raises:
        InvalidRequest: Not even the mark fits.
    """
    have = await count(text)
    share = 0.95
    while have > tokens:
        keep = int(len(text) * tokens / have * share)
        if keep < 1:
            raise InvalidRequest(
                f"A text of {len(text)} characters does not fit into {tokens} tokens.",
                hint="Put it into a file, or choose a model with a larger window.",
            )
        head, tail = text[: keep * 2 // 3], text[len(text) - keep // 3 :]
        missing = len(text) - len(head) - len(tail)
        candidate = f"{head}\n[... {missing} characters left out ...]\n{tail}"
        if await count(candidate) <= tokens:
            return candidate
        share *= 0.8
    return text
