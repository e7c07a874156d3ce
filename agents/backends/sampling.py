"""The client's own model: asked through MCP sampling, where the client lets us.

The client shows its user what is asked and answers with text; it knows no grammar, so the form of
an answer is asked for in words, read, and asked for again where it does not fit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.backends.base import (
    Completion,
    Declined,
    Message,
    Progress,
    estimated_tokens,
    reporting,
)
from ryzanstein.agents.backends.form import Form, Misfit
from ryzanstein.errors import InferenceError, ServerUnavailable
from ryzanstein.resilience import Watch

if TYPE_CHECKING:
    from ryzanstein.registry import BackendSpec

__all__ = ["Question", "Sampled", "Sampler", "SamplingBackend"]

ASKS = 3
_DEFAULT_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Question:
    """What the client's model is asked: messages of user and assistant behind a system text."""

    messages: tuple[Message, ...]
    system: str
    max_tokens: int
    temperature: float | None
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the client's model answered."""

    text: str
    model: str
    finish_reason: str = "stop"


Sampler = Callable[[Question], Awaitable[Sampled]]


class SamplingBackend:
    """The model of the client that the run is for.

    Args:
        spec: Its name and limits.
        sampler: Finds how to ask the client of the moment; None where it cannot be asked.
    """

    def __init__(self, spec: BackendSpec, sampler: Callable[[], Sampler | None]) -> None:
        self.name = spec.name
        self.seconds = spec.seconds
        self.total_seconds = spec.total_seconds
        self._sampler = sampler
        self._declined = False

    @property
    def available(self) -> bool:
        """Whether there is a client that can be asked, and has not said no."""
        return self._sampler() is not None and not self._declined

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        watch: Watch,
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion:
        """Continues a conversation.

        Raises:
            ServerUnavailable: There is no client to ask.
            Declined: The client's user said no.
            InferenceError: It kept answering in another form than it was asked for.
        """
        sampler = self._sampler()
        if sampler is None:
            raise ServerUnavailable("This client does not lend its model.")
        form = Form.of(options)
        started = monotonic()
        asked = form.asked(messages)
        most = int(options.get("max_tokens") or _DEFAULT_TOKENS)
        report, spent = reporting(watch, progress), 0
        fault: Misfit | None = None
        for _ in range(ASKS):
            try:
                found = await sampler(_question(asked, form, most, options.get("temperature")))
            except Declined:
                self._declined = True
                raise
            tokens = estimated_tokens(found.text)
            spent += tokens
            await report(min(spent, most), most, f"{spent} tokens")
            try:
                text = form.read(found.text)
            except Misfit as error:
                fault = error
                again = {"role": "user", "content": f"{error}\n\n{form.instruction}"}
                asked = [*asked, {"role": "assistant", "content": found.text}, again]
                continue
            seconds = round(monotonic() - started, 6)
            prompt = estimated_tokens(asked)
            return Completion(text, found.model, prompt, 0, spent, found.finish_reason, seconds)
        raise InferenceError(
            f"The client's model answered {ASKS} times in another form than asked for. {fault}"
        )

    async def count_tokens(self, what: str | Sequence[Message], model: str | None) -> int:
        """An estimate: the client does not say."""
        return estimated_tokens(what)


def _question(
    messages: Sequence[Message], form: Form, most: int, temperature: float | None
) -> Question:
    system = "\n\n".join(one["content"] for one in messages if one["role"] == "system")
    turns = tuple(one for one in messages if one["role"] in {"user", "assistant"})
    stop = () if form.prefix or form.constrained else tuple(form.stop)
    return Question(turns, system, most, temperature, stop)
