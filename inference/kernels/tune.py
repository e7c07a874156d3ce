"""Chooses how ternary matrices are stored and multiplied on this CPU, by measuring it.

For each shape, beside the usual choice (two bits, the kernels' own constants):

    form       two bits, 1.6 bits, or indices for tables
    prefetch   how far ahead a matrix-vector product asks for memory
    lookup     from how many tokens on sums are looked up in tables (AVX-512 VNNI)
    threads    whether fewer of them are faster

Other processes and the memory's own moods change every time by more than the choices do (timing.py
says what helps): the usual choice is left only for a clear gain, and what seems better has to prove
it again. All sums are exact integers, so no choice changes a result.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from ryzanstein.inference.kernels._linear import TERNARY, chosen_isa
from ryzanstein.inference.kernels.choices import FormChoice, Machine, Shape, ShapeChoice, Tuning
from ryzanstein.inference.kernels.timing import (
    BLOCK,
    Run,
    ShapeTimer,
    crew_of,
    medians,
    stream,
    take_turns,
)

__all__ = ["tune"]

SECONDS: Final = 5.0
STREAM_BYTES: Final = 128 << 20
# Less than 4 KB gains 5 % at one minute and loses a third at another, on the same machine.
PREFETCH: Final = (8192, 16384)
LOOKUP: Final = (7, 10, 14, 18, 22, 28, 36, 64, BLOCK)
WHOLE_BLOCK: Final = 3  # times as many tokens come in whole blocks
PROMPT: Final = 4  # tokens read for each one made, where a form is better at one of the two
CLEAR: Final = 0.97  # at most so much of the usual time has to be left
# What a moment's mood of the machine could suggest has to be better by more: a form for one shape
# alone, one that is slow with several tokens, fewer threads.
CLEARER: Final = 0.9
_CLEAR_GAINS: Final = 0.2  # the same for the sum of LOOKUP's gains, each with its error
_ROUNDS: Final = 5
_PASSES: Final = 4  # over all shapes, to compare forms: the memory is fast or slow for seconds


def tune(
    shapes: Mapping[Shape, int],
    threads: int,
    *,
    forms: Mapping[Shape, str] | None = None,
    seconds: float = SECONDS,
    stream_bytes: int = STREAM_BYTES,
) -> Tuning:
    """Measures and chooses.

    Args:
        shapes: (rows, columns) of a model's ternary matrices, and how many of each it has.
        threads: Of its forward pass.
        forms: The form of each shape where that is not to be chosen any more.
        seconds: To take at most, about.
        stream_bytes: Of memory to read in turns: more than the caches hold.

    Returns:
        The choices for this machine.
    """
    start = time.perf_counter()
    deadline = start + seconds
    memory = stream(stream_bytes, [cols for _, cols in shapes], threads)
    with crew_of(threads) as crew:
        benches = []
        for index, shape in enumerate(shapes):
            wanted = _candidates() if forms is None else (forms[shape],)
            timer = ShapeTimer(shape, crew, memory, wanted[0])
            share = start + 0.7 * seconds * (index + 1) / len(shapes)
            benches.append(_Bench(shape, timer, wanted, share))
        for done in range(_PASSES):
            for bench in benches:
                bench.compare_forms(deadline)
            if done and time.perf_counter() > deadline:
                break
        measured = {bench.shape: bench.choice() for bench in benches}
    if forms is None:
        measured = _settle(measured, shapes)
    took = round(time.perf_counter() - start, 2)
    return Tuning(Machine.here(threads), took, measured)


def _candidates() -> tuple[str, ...]:
    """The forms to compare: without AVX-512 tables are looked up one weight at a time."""
    return TERNARY if chosen_isa().startswith("avx512") else TERNARY[:2]


def _settle(
    measured: Mapping[Shape, ShapeChoice], shapes: Mapping[Shape, int]
) -> dict[Shape, ShapeChoice]:
    """Gives every shape the form that is best for all together, or one that is clearly better.

    Shapes of one model rarely differ in earnest, and the sum of all is surer than each.
    """
    total: defaultdict[str, float] = defaultdict(float)
    for (rows, cols), choice in measured.items():
        for one in choice.forms:
            total[one.form] += rows * cols * shapes[rows, cols] * one.cost
    usual = _best(total, TERNARY[0], CLEAR)
    return {
        shape: replace(
            choice, form=_best({one.form: one.cost for one in choice.forms}, usual, CLEARER)
        )
        for shape, choice in measured.items()
    }


def _best(costs: Mapping[str, float], usual: str, clear: float) -> str:
    """The cheapest form, where it is clearly cheaper than the usual one."""
    worth = {
        form: cost / (min(clear, CLEARER) if form == TERNARY[2] else clear)
        for form, cost in costs.items()
        if form != usual
    }
    best = min(worth, key=worth.__getitem__, default=usual)
    return best if best != usual and worth[best] < costs[usual] else usual


def _threshold(gains: Mapping[int, float], usual: int) -> int:
    """Tokens from which tables gain most, of all that they gain and lose from there on; 0: never.

    Args:
        gains: What they gain with as many tokens, as shares of the time.
        usual: The threshold to keep where no other is clearly better.
    """

    def total(start: int) -> float:
        return sum(gain for tokens, gain in gains.items() if tokens >= start > 0)

    best = max((*gains, 0), key=total)
    return best if total(best) - total(usual) > _CLEAR_GAINS else usual


class _Bench:
    """Measures one shape: first how each form is best multiplied, then the forms."""

    def __init__(
        self, shape: Shape, timer: ShapeTimer, forms: Sequence[str], deadline: float
    ) -> None:
        self.shape, self._timer, self._deadline = shape, timer, deadline
        self._knobs = [(form, self._best_prefetch(form), self._best_lookup(form)) for form in forms]
        self._threads = self._best_threads(*self._knobs[0][:2])
        self._vector = [timer.vector(form, prefetch) for form, prefetch, _ in self._knobs]
        self._many = [timer.many(form, lookup, BLOCK) for form, _, lookup in self._knobs]
        self._decode: list[list[float]] = []
        self._prefill: list[list[float]] = []

    def compare_forms(self, deadline: float) -> None:
        """Adds some rounds of every form."""
        self._decode += take_turns(self._vector, _ROUNDS, deadline)
        self._prefill += take_turns(self._many, 1, deadline)

    def choice(self) -> ShapeChoice:
        """What was measured; which form is best is left open."""
        found = []
        for knobs, decode, prefill in zip(
            self._knobs,
            _seconds(self._decode, self._timer.window),
            _seconds(self._prefill, self._timer.panels(BLOCK)),
            strict=True,
        ):
            cost = decode + PROMPT * prefill / BLOCK / self._timer.crew.threads
            nbytes = self._timer.matrix(knobs[0], 1).nbytes
            macs = 32 * self.shape[1] * BLOCK
            rates = round(nbytes / decode / 1e9, 2), round(macs / prefill / 1e9, 1)
            found.append(FormChoice(*knobs, *rates, cost))
        forms = tuple(replace(one, cost=round(one.cost / found[0].cost, 4)) for one in found)
        return ShapeChoice(*self.shape, forms[0].form, self._threads, forms)

    def _compare(self, runs: Sequence[Run]) -> list[float]:
        return medians(take_turns(runs, _ROUNDS, self._deadline))[0]

    def _is_better(self, usual: Run, other: Run) -> bool:
        return self._compare([usual, other])[1] < CLEAR

    def _best_prefetch(self, form: str) -> int:
        if form == TERNARY[2]:
            return 0  # its kernel has a distance of its own
        usual = self._timer.vector(form, 0)
        runs = [self._timer.vector(form, distance) for distance in PREFETCH]
        ratios = self._compare([usual, *runs])
        best = min(range(len(runs)), key=lambda index: ratios[index + 1])
        better = ratios[best + 1] < CLEAR and self._is_better(usual, runs[best])
        return PREFETCH[best] if better else 0

    def _best_lookup(self, form: str) -> int:
        """The threshold with which tokens of all numbers, together, take least time."""
        usual = self._timer.matrix(form, 1).lookup
        if usual == 0 or chosen_isa() != "avx512vnni":
            return usual
        gains = {}
        for tokens in LOOKUP:
            runs = [self._timer.many(form, lookup, tokens) for lookup in (0, 1)]
            ratio = self._compare(runs)[1]
            gains[tokens] = (1 - ratio) * (WHOLE_BLOCK if tokens == BLOCK else 1)
        return _threshold(gains, usual)

    def _best_threads(self, form: str, prefetch: int) -> int:
        """Returns fewer than all where they are clearly faster, each at its best.

        A CPU that another process takes away for a moment says nothing about the machine.
        """
        best = self._timer.crew.threads
        while best > 1:
            runs = [self._timer.vector(form, prefetch, count) for count in (best, best // 2)]
            times = [min(run() for _ in range(_ROUNDS)) for run in runs]
            if times[1] > CLEARER * times[0]:
                break
            best //= 2
        return best


def _seconds(table: Sequence[Sequence[float]], panels: int) -> list[float]:
    """Seconds of one panel in every form."""
    ratios, first = medians(table)
    return [first * ratio / panels for ratio in ratios]
