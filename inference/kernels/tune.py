"""Chooses how ternary matrices are stored and multiplied on this CPU, by measuring it.

For each shape, beside the usual choice (two bits, the kernels' own constants):

    form       two bits, 1.6 bits, or indices for tables
    prefetch   how far ahead a matrix-vector product asks for memory
    lookup     from how many tokens on sums are looked up in tables (AVX-512 VNNI)
    threads    whether fewer of them are faster

Matrix-vector products are timed with as many threads as the model will use, over memory that no
cache holds; products of many tokens on one thread and in the cache, as a thread of prefill runs.
Other processes and the memory's own moods change every time by more than the choices do. So the
candidates take turns, what counts is the median of their ratios within a turn, and what seems
better has to prove it again: the usual choice is left only for a clear gain.

All sums are exact integers: no choice changes a result.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.kernels import _linear
from ryzanstein.inference.kernels._linear import TERNARY, PackedMatrix
from ryzanstein.inference.kernels._program import aligned
from ryzanstein.inference.kernels.choices import FormChoice, Machine, Shape, ShapeChoice, Tuning

__all__ = ["tune"]

SECONDS: Final = 5.0
STREAM_BYTES: Final = 128 << 20
PREFETCH: Final = (1024, 2048, 8192, 16384)
LOOKUP: Final = (7, 10, 14, 18, 22, 28, 36, 64, 128)
WHOLE_BLOCK: Final = 3  # times as many tokens come in whole blocks
PROMPT: Final = 4  # tokens read for each one made, where a form is better at one of the two
CLEAR: Final = 0.97  # at most so much of the usual time has to be left
# What a moment's mood of the machine could suggest has to be better by more: a form for one shape
# alone, one that is slow with several tokens, fewer threads.
CLEARER: Final = 0.9
_CLEAR_GAINS: Final = 0.2  # the same for the sum of LOOKUP's gains, each with its error
_RUN_SECONDS: Final = 0.0015
_MOST_SECONDS: Final = 0.005
_BLOCK: Final = 128  # tokens a thread of prefill takes at a time
_BLOCK_PANELS: Final = 48  # panels that show how all of them do
_SLICE_PANELS: Final = 16  # of a gated operator at a time
_LEAST_PANELS: Final = 4
_WINDOWS: Final = 4  # parts of the memory that are read in turns
_ROUNDS: Final = 5
_LEAST_ROUNDS: Final = 3

# A thread's own time, where the system counts it finely: without what other processes take of it.
_FINE: Final = time.get_clock_info("thread_time").resolution <= 1e-6
_clock: Final = time.thread_time if _FINE else time.perf_counter
Run = Callable[[], float]  # seconds of one run


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
    memory = _memory(max(stream_bytes, *(_least_bytes(cols, threads) for _, cols in shapes)))
    measured: dict[Shape, ShapeChoice] = {}
    with _crew(threads) as crew:
        for index, shape in enumerate(shapes):
            deadline = start + seconds * (index + 1) / len(shapes)
            wanted = TERNARY if forms is None else (forms[shape],)
            measured[shape] = _Bench(shape, crew, memory, deadline).choose(wanted)
    if forms is None:
        measured = _settle(measured, shapes)
    took = round(time.perf_counter() - start, 2)
    return Tuning(Machine.here(threads), took, measured)


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


def _least_bytes(cols: int, threads: int) -> int:
    panels = max(_WINDOWS * threads, _BLOCK_PANELS)
    return panels * PackedMatrix(TERNARY[0], "tensor", 32, cols).nbytes


def _memory(nbytes: int) -> npt.NDArray[np.uint8]:
    """Random bytes: every one of them is codes of some weights."""
    block = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    memory = aligned(-(-nbytes // block.size) * block.size)
    memory.reshape(-1, block.size)[:] = block
    return memory


@dataclass(frozen=True, slots=True)
class _Crew:
    """Threads that run something together."""

    threads: int
    pool: ThreadPoolExecutor

    def run(self, work: Callable[[int], None], threads: int) -> float:
        """Returns the seconds of the slowest, its start left out."""

        def timed(index: int) -> float:
            start = _clock()
            work(index)
            return _clock() - start

        others = [self.pool.submit(timed, index) for index in range(1, threads)]
        return max(timed(0), *(other.result() for other in others), 0.0)


@contextmanager
def _crew(threads: int) -> Iterator[_Crew]:
    with ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        yield _Crew(threads, pool)


@dataclass(frozen=True, slots=True)
class _Activations:
    """Quantised tokens, as a kernel reads them."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    sums: npt.NDArray[np.int32]
    dense: npt.NDArray[np.float32]

    @staticmethod
    def random(tokens: int, cols: int) -> _Activations:
        x = np.random.default_rng(1).standard_normal((tokens, cols), np.float32)
        codes, scales, sums = _linear.quantize_activations(x, per_token=True)
        return _Activations(codes, scales, sums, np.zeros(codes.shape, np.float32))

    def first(self, tokens: int) -> _Activations:
        return _Activations(
            self.codes[:tokens], self.scales[:tokens], self.sums[:tokens], self.dense[:tokens]
        )

    def multiply(
        self,
        matrix: PackedMatrix,
        out: npt.NDArray[np.float32],
        first: int,
        last: int,
        repeats: int,
    ) -> None:
        """The product with panels [first, last), so many times."""
        acts = (self.codes, self.scales, self.sums, self.dense)
        _linear.time_linear(matrix, *acts, out, first, last, repeats)


class _Bench:
    """Measures one shape."""

    def __init__(
        self, shape: Shape, crew: _Crew, memory: npt.NDArray[np.uint8], deadline: float
    ) -> None:
        self._rows, self._cols = shape
        self._crew, self._memory, self._deadline = crew, memory, deadline
        self._tokens = _Activations.random(_BLOCK, self._cols)
        self._one = self._tokens.first(1)
        # Many matrices of the shape, one behind the other, as the layers of a model are.
        self._stacked = memory.size // PackedMatrix(TERNARY[0], "tensor", 1, self._cols).nbytes
        self._out = np.zeros((1, self._stacked * 32), np.float32)
        self._window = self._stacked // _WINDOWS
        self._turns = itertools.count()
        # Of prefill: a gated operator (its matrices are the ones with more rows) works in slices.
        most = _SLICE_PANELS if self._rows > self._cols else _BLOCK_PANELS
        self._panels = min(-(-self._rows // 32), most)

    def choose(self, forms: Sequence[str]) -> ShapeChoice:
        """Measures every form; which of several is best is left open."""
        usual = forms[0]
        self._calibrate(usual)
        knobs = [(form, self._best_prefetch(form), self._best_lookup(form)) for form in forms]
        vector, seconds = self._compare([self._vector(*one[:2]) for one in knobs])
        decode = [seconds / self._window * ratio for ratio in vector]
        many, seconds = self._compare([self._many(form, look, _BLOCK) for form, _, look in knobs])
        prefill = [seconds / self._panels * ratio for ratio in many]
        found = tuple(
            FormChoice(*knob, *self._rates(knob[0], one, block), self._cost(one, block))
            for knob, one, block in zip(knobs, decode, prefill, strict=True)
        )
        found = tuple(replace(one, cost=round(one.cost / found[0].cost, 4)) for one in found)
        threads = self._best_threads(usual, found[0].prefetch)
        return ShapeChoice(self._rows, self._cols, usual, threads, found)

    def _rates(self, form: str, decode: float, prefill: float) -> tuple[float, float]:
        """GB and GMAC a second, of seconds a panel."""
        nbytes = self._matrix(form, 1).nbytes
        macs = 32 * self._cols * _BLOCK
        return round(nbytes / decode / 1e9, 2), round(macs / prefill / 1e9, 1)

    def _cost(self, decode: float, prefill: float) -> float:
        return decode + PROMPT * prefill / _BLOCK / self._crew.threads

    def _matrix(self, form: str, panels: int) -> PackedMatrix:
        """So many panels of random weights; all matrices look at the same memory."""
        size = panels * PackedMatrix(form, "tensor", 1, self._cols).nbytes
        return PackedMatrix(form, "tensor", panels * 32, self._cols, codes=self._memory[:size])

    def _calibrate(self, form: str) -> None:
        """Makes runs about as long as is wanted, on slow kernels too."""
        run = self._vector(form, 0)
        seconds = min(run() for _ in range(2))
        window = round(self._window * _RUN_SECONDS / max(seconds, 1e-9))
        self._window = min(max(window, self._crew.threads), self._stacked // _WINDOWS)
        if self._panels > _LEAST_PANELS:
            seconds = self._many(form, 0, _BLOCK)()
            panels = round(self._panels * _MOST_SECONDS / max(seconds, 1e-9))
            self._panels = max(min(panels, self._panels), _LEAST_PANELS)

    def _vector(self, form: str, prefetch: int, threads: int | None = None) -> Run:
        """A run of one token over the next part of the memory, by all threads."""
        matrix, count = self._matrix(form, self._stacked), threads or self._crew.threads
        matrix.tune(prefetch=prefetch, lookup=0)

        def run() -> float:
            window = self._window
            start = next(self._turns) * window % (self._stacked - window + 1)
            cuts = [start + window * index // count for index in range(count + 1)]
            seconds = self._crew.run(
                lambda index: self._one.multiply(
                    matrix, self._out, cuts[index], cuts[index + 1], 1
                ),
                count,
            )
            return seconds + self._tables(matrix) * window * 32 / self._rows

        return run

    def _tables(self, matrix: PackedMatrix) -> float:
        """Seconds in which the tables of a matrix of indices are made, which each product does.

        A run makes them once for what are many matrices.
        """
        if matrix.form != TERNARY[2]:
            return 0.0
        start = _clock()
        self._one.multiply(matrix, self._out, 0, 0, 4)
        return (_clock() - start) / 4

    def _many(self, form: str, lookup: int, tokens: int) -> Run:
        """A run of many tokens on one thread."""
        matrix = self._matrix(form, self._panels)
        matrix.tune(lookup=lookup)
        acts = self._tokens.first(tokens)
        out = np.zeros((tokens, matrix.rows), np.float32)

        def run() -> float:
            start = _clock()
            acts.multiply(matrix, out, 0, self._panels, repeats)
            return (_clock() - start) / repeats

        repeats = 1
        first = run()
        if first < _MOST_SECONDS:
            repeats = min(max(round(_RUN_SECONDS / max(first, 1e-9)), 2), 64)
        return run

    def _compare(self, runs: Sequence[Run]) -> tuple[list[float], float]:
        """Lets runs take turns; returns their times as multiples of the first's, and that one's."""
        table = []
        for turn in range(_ROUNDS):
            order = range(len(runs)) if turn % 2 == 0 else range(len(runs) - 1, -1, -1)
            times = {index: runs[index]() for index in order}
            table.append([times[index] for index in range(len(runs))])
            if turn + 1 >= _LEAST_ROUNDS and time.perf_counter() > self._deadline:
                break
        ratios = [
            statistics.median(row[index] / row[0] for row in table) for index in range(len(runs))
        ]
        return ratios, statistics.median(row[0] for row in table)

    def _is_better(self, usual: Run, other: Run) -> bool:
        return self._compare([usual, other])[0][1] < CLEAR

    def _best_prefetch(self, form: str) -> int:
        if form == TERNARY[2]:
            return 0  # its kernel has a distance of its own
        usual = self._vector(form, 0)
        runs = [self._vector(form, distance) for distance in PREFETCH]
        ratios, _ = self._compare([usual, *runs])
        best = min(range(len(runs)), key=lambda index: ratios[index + 1])
        better = ratios[best + 1] < CLEAR and self._is_better(usual, runs[best])
        return PREFETCH[best] if better else 0

    def _best_lookup(self, form: str) -> int:
        """The threshold with which tokens of all numbers, together, take least time."""
        usual = self._matrix(form, 1).lookup
        if usual == 0 or _linear.chosen_isa() != "avx512vnni":
            return usual
        gains = {}
        for tokens in LOOKUP:
            runs = [self._many(form, lookup, tokens) for lookup in (0, 1)]
            ratio = self._compare(runs)[0][1]
            gains[tokens] = (1 - ratio) * (WHOLE_BLOCK if tokens == _BLOCK else 1)
        return _threshold(gains, usual)

    def _best_threads(self, form: str, prefetch: int) -> int:
        """Returns fewer than all where they are clearly faster, each at its best.

        A CPU that another process takes away for a moment says nothing about the machine.
        """
        best = self._crew.threads
        while best > 1:
            runs = [self._vector(form, prefetch, count) for count in (best, best // 2)]
            times = [min(run() for _ in range(_ROUNDS)) for run in runs]
            if times[1] > CLEARER * times[0]:
                break
            best //= 2
        return best
