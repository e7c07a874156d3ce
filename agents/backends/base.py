"""What every backend is, and what the outside of one looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ryzanstein.errors import InferenceError
from ryzanstein.resilience import Watch

__all__ = [
    "Backend",
    "Completion",
    "Declined",
    "Message",
    "Progress",
    "Refused",
    "Rubbish",
    "estimated_tokens",
    "reporting",
]

Message = Mapping[str, str]
# Template marks around a message, where nobody can count them.
_MESSAGE_TOKENS = 8


class Progress(Protocol):
    """Hears how far a call is: done, total where it is known, and a word for people."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Takes one report."""
        ...


@dataclass(frozen=True, slots=True)
class Completion:
    """Text from the model and what it took; prompt_tokens include the cached ones."""

    text: str
    model: str
    prompt_tokens: int
    cached_tokens: int
    tokens: int
    finish_reason: str
    seconds: float


class Rubbish(InferenceError):
    """A backend answered with something that is no answer."""


class Refused(InferenceError):
    """A backend cannot do what it is asked, though another one may."""


class Declined(Refused):
    """Whoever is behind a backend does not want to be asked again in this run."""


class Backend(Protocol):
    """Runs models.

    Attributes:
        name: Its name in the registry.
        seconds: How long it may give no sign of life.
        total_seconds: How long one answer may take.
        available: Whether it can be asked at all.
    """

    name: str
    seconds: float
    total_seconds: float

    @property
    def available(self) -> bool:
        """Whether it can be asked at all, as it is configured."""
        ...

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        watch: Watch,
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion:
        """Continues a conversation.

        Args:
            messages: Roles system, user and assistant.
            watch: Told of every sign of life.
            progress: Told how many tokens there are.
            options: Those of the inference server's `chat`.

        Raises:
            RyzansteinError: What went wrong. An answer that does not have the form asked for is
                never returned.
        """
        ...

    async def count_tokens(self, what: str | Sequence[Message], model: str | None) -> int:
        """Counts the tokens of a text or conversation; an estimate where it cannot be known."""
        ...


def reporting(watch: Watch, to: Progress | None) -> Progress:
    """Returns what takes reports of progress as signs of life and passes them on."""

    async def report(progress: float, total: float | None, message: str | None) -> None:
        watch.alive()
        if to is not None:
            await to(progress, total, message)

    return report


def estimated_tokens(what: str | Sequence[Message]) -> int:
    """Tokens of a text or conversation, rather too many: three bytes a token."""
    if isinstance(what, str):
        return -(-len(what.encode(errors="replace")) // 3)
    return sum(estimated_tokens(one["content"]) + _MESSAGE_TOKENS for one in what)
