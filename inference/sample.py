"""Choosing the next token from logits: the likeliest, or a draw under the usual cuts.

The order is that of Hugging Face: bias and penalties, temperature, top-k, top-p, min-p. A
vocabulary has 150,000 entries and sorting it takes milliseconds, so candidates are found by the
maxima of blocks: if the k-th largest block maximum is t, then at least k entries reach t and the k
largest are among those that do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import InferenceError

__all__ = ["Sampler", "Sampling"]

_BLOCK: Final = 64
_FIRST_CANDIDATES: Final = 1024

_Floats = npt.NDArray[np.float32]
_Ids = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose; the defaults choose the likeliest token.

    Attributes:
        temperature: 0 is greedy; logits are divided by it.
        top_k: Keep the k likeliest; 0 keeps all.
        top_p: Keep the likeliest that together reach this probability; 1 keeps all.
        min_p: Keep what has at least this share of the likeliest one's probability; 0 keeps all.
        repetition_penalty: Divide positive logits of tokens seen in prompt or answer, multiply
        negative ones.
        frequency_penalty: Subtract this for each time a token was generated.
        presence_penalty: Subtract this once from tokens that were generated.
        logit_bias: Added to the logits of single tokens; -inf forbids one.
        seed: Of the draw; None takes one from the operating system.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    @property
    def plain(self) -> bool:
        """Says whether it is always the token with the largest logit."""
        return not (
            self.temperature > 0
            or self.repetition_penalty != 1.0
            or self.frequency_penalty
            or self.presence_penalty
            or self.logit_bias
        )


class Sampler:
    """Chooses the tokens of one sequence and remembers which it has seen."""

    def __init__(self, options: Sampling, prompt: Iterable[int] = ()) -> None:
        """Begins a sequence; the prompt counts for the repetition penalty only."""
        self._options = options
        self._random = np.random.default_rng(options.seed)
        self._seen = set(prompt) if options.repetition_penalty != 1.0 else set()
        self._generated: Counter[int] = Counter()
        self._bias_ids = np.fromiter(options.logit_bias.keys(), np.intp)
        self._bias = np.fromiter(options.logit_bias.values(), np.float32)

    def accept(self, token: int) -> None:
        """Tells of a token that has become part of the sequence, chosen here or not."""
        self._generated[token] += 1
        if self._options.repetition_penalty != 1.0:
            self._seen.add(token)

    def choose(self, logits: _Floats, allowed: npt.NDArray[np.bool_] | None = None) -> int:
        """Returns the next token's id.

        Args:
            logits: float32 [vocabulary]; not changed.
            allowed: bool [at most vocabulary], False for tokens that must not be chosen; None
            allows all.

        Raises:
            InferenceError: a logit is not a number, or no token is allowed.
        """
        values = self._adjusted(logits)
        ids: _Ids | None = None
        if allowed is not None:
            ids = np.flatnonzero(allowed)
            values = values[ids]
        best = int(values.argmax()) if values.size else -1
        top = values[best] if best >= 0 else np.float32(-np.inf)
        if np.isnan(top) or top == np.inf:
            raise InferenceError("The model's logits are not finite numbers.")
        if top == -np.inf:
            raise InferenceError("No token is allowed at this place.")
        if self._options.temperature > 0:
            best = self._draw(values, float(top))
        return int(ids[best]) if ids is not None else best

    def _adjusted(self, logits: _Floats) -> _Floats:
        """The logits after bias and penalties; a copy only where there are any."""
        options = self._options
        penalised = options.frequency_penalty or options.presence_penalty
        if not (self._bias_ids.size or self._seen or (penalised and self._generated)):
            return logits
        values = logits.copy()
        values[self._bias_ids] += self._bias
        if self._seen:
            ids = np.fromiter(self._seen, np.intp)
            penalty = np.float32(options.repetition_penalty)
            seen = values[ids]
            values[ids] = np.where(seen > 0, seen / penalty, seen * penalty)
        if penalised and self._generated:
            ids = np.fromiter(self._generated.keys(), np.intp)
            counts = np.fromiter(self._generated.values(), np.float32)
            values[ids] -= options.frequency_penalty * counts + options.presence_penalty
        return values

    def _draw(self, values: _Floats, top: float) -> int:
        """Draws an index of `values`, whose maximum is `top`."""
        options = self._options
        kept: _Ids | None = None
        if 0 < options.top_k < values.size:
            kept = _largest(values, options.top_k)[: options.top_k]
            values = values[kept]
        weights = np.exp((values - np.float32(top)) / np.float32(options.temperature))
        if options.top_p < 1.0:
            nucleus = _nucleus(weights, options.top_p)
            weights = weights[nucleus]
            kept = nucleus if kept is None else kept[nucleus]
        if options.min_p > 0.0:
            # The largest weight is exp(0) = 1, so shares of it are the weights themselves.
            weights = np.where(weights >= options.min_p, weights, np.float32(0))
        index = _pick(weights, self._random.random())
        return int(kept[index]) if kept is not None else index


def _largest(values: _Floats, count: int) -> _Ids:
    """Indices of at least the `count` largest values, largest first."""
    whole = values.size // _BLOCK
    if count < whole:
        maxima = values[: whole * _BLOCK].reshape(whole, _BLOCK).max(axis=1)
        threshold = np.partition(maxima, whole - count)[whole - count]
        found = np.flatnonzero(values >= threshold)
    else:
        found = np.arange(values.size)
    return found[np.argsort(-values[found])]


def _nucleus(weights: _Floats, share: float) -> _Ids:
    """The fewest indices that together have the given share of the weight (more where some tie)."""
    wanted = share * float(weights.sum(dtype=np.float64))
    order = _largest(weights, min(_FIRST_CANDIDATES, weights.size))
    sums = np.cumsum(weights[order], dtype=np.float64)
    if sums[-1] >= wanted or order.size == weights.size:
        return order[: int(np.searchsorted(sums, wanted)) + 1]
    # A flat distribution: sorting the weights alone is far faster than sorting their indices.
    heaviest = np.sort(weights)[::-1]
    sums = np.cumsum(heaviest, dtype=np.float64)
    last = min(int(np.searchsorted(sums, wanted)), heaviest.size - 1)
    return np.flatnonzero(weights >= heaviest[last])


def _pick(weights: _Floats, uniform: float) -> int:
    """The index at which the running sum of weights passes a share `uniform` of the whole."""
    if weights.size > _BLOCK * _BLOCK:
        # Blocks first: a float64 running sum over the whole vocabulary takes two milliseconds.
        blocks = np.add.reduceat(weights, np.arange(0, weights.size, _BLOCK), dtype=np.float64)
        sums = np.cumsum(blocks)
        point = uniform * sums[-1]
        block = min(int(np.searchsorted(sums, point, side="right")), sums.size - 1)
        first = block * _BLOCK
        point -= sums[block] - blocks[block]
        return first + _within(weights[first : first + _BLOCK], point)
    return _within(weights, uniform * float(weights.sum(dtype=np.float64)))


def _within(weights: _Floats, point: float) -> int:
    """Like _pick for few weights, with the point in their own unit; never an index of weight 0."""
    sums = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(sums, point, side="right"))
    # Rounding may put the point past the last positive weight.
    return min(index, int(np.flatnonzero(weights)[-1]))
