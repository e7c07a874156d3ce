"""The token loop: prompt in, text out, token by token.

    prefill what the state lacks
    repeat  the tokens the grammar forces, else one sampled under its mask
            end token, finished grammar, stop string or limit  ->  done
            one forward pass over the new tokens

Text is given out as soon as it is certain: whole characters, and nothing that may still become a
stop string.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ryzanstein.inference.model import Cancel, ForwardCancelled
from ryzanstein.inference.sample import Sampler, Sampling
from ryzanstein.inference.stops import StopFilter

if TYPE_CHECKING:
    from ryzanstein.inference.constrain import Matcher
    from ryzanstein.inference.model import Model, State
    from ryzanstein.inference.tokenizer import Tokenizer

__all__ = ["Cancel", "FinishReason", "Generation", "Plan"]

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to generate and when to end.

    Attributes:
        max_tokens: At most so many tokens, forced ones included.
        sampling: How each is chosen.
        stops: Texts that end the answer and are not part of it.
        matcher: The grammar, freshly made, or None.
        on_text: Called with each piece of text that has become certain.
        cancel: Looked at between any two tokens and within the prefill.
    """

    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stops: Sequence[str] = ()
    matcher: Matcher | None = None
    on_text: Callable[[str], None] | None = None
    cancel: Cancel | None = None

    @property
    def greedy(self) -> bool:
        """Says whether every token is the likeliest one, whatever came before."""
        return self.matcher is None and self.sampling.plain


class Generation:
    """One answer in the making.

    Attributes:
        ids: Prompt and answer so far; the state holds the first `state.length` of them.
        text: The answer so far.
        finish_reason: Why it ended.
        prefill_seconds: Time until the first token could be chosen.
        seconds: Time altogether.
        kept: Copies of the state at the points that were passed.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        state: State,
        prompt: Sequence[int],
        points: Iterable[int] = (),
    ) -> None:
        """Prepares an answer to `prompt`, of which `state` may hold a beginning, but not all.

        Args:
            model: Runs the tokens.
            tokenizer: Makes text of them.
            state: Moved on with every token.
            prompt: At least one token more than the state holds.
            points: Lengths, up to the prompt's own, at which the state is to be copied.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._state = state
        self._prompt_tokens = len(prompt)
        self._points = sorted(point for point in set(points) if point > state.length)
        self.kept: list[State] = []
        self.ids = list(prompt)
        self.text = ""
        self.finish_reason: FinishReason = "cancelled"
        self.prefill_seconds = 0.0
        self.seconds = 0.0

    @property
    def tokens(self) -> int:
        """Number of tokens generated."""
        return len(self.ids) - self._prompt_tokens

    def run(self, plan: Plan) -> None:
        """Generates until an end is reached.

        Raises:
            InferenceError: the model's logits are unusable, or the grammar cannot be followed.
        """
        started = time.perf_counter()
        out = _Text(self._tokenizer, plan)
        try:
            self.finish_reason = self._run(plan, out, started)
        except ForwardCancelled:
            self.finish_reason = "cancelled"
        out.finish(self.finish_reason)
        self.text = out.text
        self.seconds = time.perf_counter() - started

    def _run(self, plan: Plan, out: _Text, started: float) -> FinishReason:
        sampler = Sampler(plan.sampling, self.ids)
        step = self._likeliest if plan.greedy else self._chosen
        self._pass_points(plan.cancel)
        new = step(plan, sampler)
        self._keep()
        self.prefill_seconds = time.perf_counter() - started
        while True:
            if plan.cancel is not None and plan.cancel.is_set():
                return "cancelled"
            ended = self._accept(new, plan, sampler, out)
            if ended is not None:
                return ended
            new = step(plan, sampler)

    def _pass_points(self, cancel: Cancel | None) -> None:
        """Feeds the prompt up to each point within it, and copies the state there."""
        while self._points and self._points[0] < len(self.ids):
            self._model.feed(self.ids[self._state.length : self._points[0]], self._state, cancel)
            self._keep()

    def _keep(self) -> None:
        if self._points and self._state.length == self._points[0]:
            self.kept.append(self._state.copy())
            del self._points[0]

    def _likeliest(self, plan: Plan, _: Sampler) -> list[int]:
        """Feeds what the state lacks; returns the likeliest token that exists."""
        pending = self.ids[self._state.length :]
        below = min(self._tokenizer.vocab_size, self._model.vocabulary)
        return [self._model.next_token(pending, self._state, below=below, cancel=plan.cancel).token]

    def _chosen(self, plan: Plan, sampler: Sampler) -> list[int]:
        """Feeds what the state lacks; returns tokens that are forced, or one that is drawn."""
        pending = self.ids[self._state.length :]
        logits = self._model.forward(pending, self._state, cancel=plan.cancel)
        logits = logits[0, : self._tokenizer.vocab_size]
        if plan.matcher is None:
            return [sampler.choose(logits)]
        left = min(plan.max_tokens - self.tokens, self._state.capacity - len(self.ids))
        forced = plan.matcher.forced()
        return forced or [sampler.choose(logits, plan.matcher.allowed(left))]

    def _accept(
        self, new: Sequence[int], plan: Plan, sampler: Sampler, out: _Text
    ) -> FinishReason | None:
        """Takes new tokens one by one; says why the answer ends, or None."""
        for token in new:
            if self.tokens >= plan.max_tokens:
                return "length"
            if token in self._tokenizer.end_ids:
                return "stop"
            if plan.matcher is not None:
                plan.matcher.accept(token)
            sampler.accept(token)
            self.ids.append(token)
            out.push(token)
            if out.stopped:
                return "stop"
        if plan.matcher is not None and plan.matcher.finished:
            return "length" if plan.matcher.led else "stop"
        full = len(self.ids) >= self._state.capacity
        return "length" if full or self.tokens >= plan.max_tokens else None


class _Text:
    """The answer's text: decoded, cut at stop strings, passed on piece by piece."""

    def __init__(self, tokenizer: Tokenizer, plan: Plan) -> None:
        self._stream = tokenizer.stream()
        self._filter = StopFilter(plan.stops)
        self._on_text = plan.on_text
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def stopped(self) -> bool:
        return self._filter.stopped

    def push(self, token: int) -> None:
        self._show(self._filter.push(self._stream.push(token)))

    def finish(self, reason: FinishReason) -> None:
        """Shows what was held back; half a character only where the model itself ended there."""
        rest = self._stream.finish()
        if reason == "stop":
            self._show(self._filter.push(rest))
        if not self.stopped:
            self._show(self._filter.finish())

    def _show(self, text: str) -> None:
        if text:
            self._pieces.append(text)
            if self._on_text is not None:
                self._on_text(text)
