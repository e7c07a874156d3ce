"""Runs of ternary products whose times can be compared, on a machine that is never quiet.

A run of one token is shared by all threads and goes on where the last one stopped, in more memory
than the caches hold: so do a model's layers. A run of many tokens is one thread's, in the cache, as
each thread of prefill has tokens of its own. Time is a thread's own where the system counts it,
without what other processes take; runs to compare take turns, and medians of their ratios count.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ryzanstein.inference.kernels import _linear
from ryzanstein.inference.kernels._linear import TERNARY, PackedMatrix
from ryzanstein.inference.kernels._program import aligned
from ryzanstein.inference.kernels.choices import Shape

__all__ = ["BLOCK", "Crew", "Run", "ShapeTimer", "crew_of", "medians", "stream", "take_turns"]

BLOCK: Final = 128  # tokens that a thread of prefill takes at a time
RUN_SECONDS: Final = 0.0015
_MOST_SECONDS: Final = 0.005
_BLOCK_PANELS: Final = 108  # panels of a gated operator that it takes at a time
_BLOCK_TOKENS: Final = 32  # a thread, from which each takes all panels, and tokens of its own
_LEAST_PANELS: Final = 8
_WINDOWS: Final = 4  # parts of the memory that are read in turns
_LEAST_ROUNDS: Final = 3
_FINE: Final = time.get_clock_info("thread_time").resolution <= 1e-6
_clock: Final = time.thread_time if _FINE else time.perf_counter

Run = Callable[[], float]  # seconds of one run
Bytes = npt.NDArray[np.uint8]


def take_turns(runs: Sequence[Run], rounds: int, deadline: float) -> list[list[float]]:
    """Returns the seconds of every run in each round; fewer rounds after the deadline."""
    table = []
    for turn in range(rounds):
        order = range(len(runs)) if turn % 2 == 0 else range(len(runs) - 1, -1, -1)
        times = {index: runs[index]() for index in order}
        table.append([times[index] for index in range(len(runs))])
        if turn + 1 >= _LEAST_ROUNDS and time.perf_counter() > deadline:
            break
    return table


def medians(table: Sequence[Sequence[float]]) -> tuple[list[float], float]:
    """Returns each run's time as a multiple of the first one's, and that one's."""
    ratios = [
        statistics.median(row[index] / row[0] for row in table) for index in range(len(table[0]))
    ]
    return ratios, statistics.median(row[0] for row in table)


def stream(nbytes: int, cols: Sequence[int], threads: int) -> Bytes:
    """Returns memory of random bytes, enough for matrices of so many columns.

    Every byte is a code of some weights in every form.
    """
    panels = max(_WINDOWS * threads, _BLOCK_PANELS)
    least = max(PackedMatrix(TERNARY[0], "tensor", 1, one).nbytes for one in cols) * panels
    block = np.random.default_rng(0).integers(0, 256, 1 << 20, np.uint8)
    memory = aligned(-(-max(nbytes, least) // block.size) * block.size)
    memory.reshape(-1, block.size)[:] = block
    return memory


@dataclass(frozen=True, slots=True)
class Crew:
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
def crew_of(threads: int) -> Iterator[Crew]:
    """Threads for as long as the context lasts."""
    with ThreadPoolExecutor(max(threads - 1, 1)) as pool:
        yield Crew(threads, pool)


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


class ShapeTimer:
    """Makes runs of one shape.

    Attributes:
        crew: Threads of a run of one token.
        window: Panels of a run of one token.
    """

    def __init__(self, shape: Shape, crew: Crew, memory: Bytes, form: str) -> None:
        """Prepares runs that are about as long as is wanted in `form`."""
        self._rows, self._cols = shape
        self.crew, self._memory = crew, memory
        self._tokens = _Activations.random(BLOCK, self._cols)
        self._one = self._tokens.first(1)
        # Many matrices of the shape, one behind the other, as the layers of a model are.
        self._stacked = memory.size // PackedMatrix(TERNARY[0], "tensor", 1, self._cols).nbytes
        self._out = np.zeros((1, self._stacked * 32), np.float32)
        self._turns = itertools.count()
        self.window = self._stacked // _WINDOWS
        self._most = _BLOCK_PANELS
        self._calibrate(form)

    def matrix(self, form: str, panels: int) -> PackedMatrix:
        """So many panels of random weights; all matrices look at the same memory."""
        size = panels * PackedMatrix(form, "tensor", 1, self._cols).nbytes
        return PackedMatrix(form, "tensor", panels * 32, self._cols, codes=self._memory[:size])

    def _calibrate(self, form: str) -> None:
        """Makes runs about as long as is wanted, on slow kernels too."""
        run = self.vector(form, 0)
        seconds = min(run() for _ in range(2))
        window = round(self.window * RUN_SECONDS / max(seconds, 1e-9))
        self.window = min(max(window, self.crew.threads), self._stacked // _WINDOWS)
        self._most = _LEAST_PANELS
        seconds = self.many(form, 0, BLOCK)() / self.panels(BLOCK)
        self._most = max(min(round(_MOST_SECONDS / seconds), _BLOCK_PANELS), _LEAST_PANELS)

    def panels(self, tokens: int) -> int:
        """Panels of a run of so many tokens: as many as a thread would take at once."""
        share = self.crew.threads if tokens < _BLOCK_TOKENS else 1
        return min(-(-self._rows // 32 // share), self._most)

    def vector(self, form: str, prefetch: int, threads: int | None = None) -> Run:
        """A run of one token over the next part of the memory, by all threads."""
        matrix, count = self.matrix(form, self._stacked), threads or self.crew.threads
        matrix.tune(prefetch=prefetch, lookup=0)

        def run() -> float:
            window = self.window
            start = next(self._turns) * window % (self._stacked - window + 1)
            cuts = [start + window * index // count for index in range(count + 1)]
            seconds = self.crew.run(
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

    def many(self, form: str, lookup: int, tokens: int) -> Run:
        """A run of many tokens on one thread."""
        panels = self.panels(tokens)
        matrix = self.matrix(form, panels)
        matrix.tune(lookup=lookup)
        acts = self._tokens.first(tokens)
        out = np.zeros((tokens, matrix.rows), np.float32)

        def run() -> float:
            start = _clock()
            acts.multiply(matrix, out, 0, panels, repeats)
            return (_clock() - start) / repeats

        repeats = 1
        first = run()
        if first < _MOST_SECONDS:
            repeats = min(max(round(RUN_SECONDS / max(first, 1e-9)), 2), 64)
        return run
