"""Which form a store's own vectors should be kept in, measured on a sample of them.

Queries are vectors of the sample, left out of what is searched; the truth is their exact k
nearest. How many of a scan's best have to be rescored, so that the wanted share of the truth is
among them, is measured twice, on an eighth of the sample and on all of it, and carried on along a
power law to the size of the store:

    needed(rows) = needed(n) * (rows / n) ** growth,   growth = log8(needed(n) / needed(n / 8))

A form qualifies where that stays within forty candidates a result. Of these the one with the fewest
bytes a vector is chosen; of those within an eighth of it, the quickest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, pow
from time import thread_time
from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels import _vectors
from ryzanstein.memory.vectors.form import Form, checked
from ryzanstein.memory.vectors.forms import FORMS, fit_form, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SAMPLE", "Choice", "Measured", "choose", "recalls"]

LEAST = 0.96
SAMPLE = 20_000
QUERIES = 200
MOST = 40  # candidates to rescore for each result
_PART = 8  # of the sample, that is measured first
_SCANNED = 200  # of a scan's best for each result that are looked at
_LEAST_ROWS = 1_000
_EQUAL = 1.125
_TIMED = 50


@dataclass(frozen=True, slots=True)
class Measured:
    """What a form does on a sample.

    Attributes:
        name: Of the form.
        bytes_per_vector: What a vector takes.
        recall: Share of the exact k nearest among the k best of a scan.
        needed: Candidates that keep the recall at the store's size; None where that is unknown.
        milliseconds: Least CPU time of a query on the sample, with the rescoring.
    """

    name: str
    bytes_per_vector: int
    recall: float
    needed: int | None
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen form, and what it was chosen from.

    Attributes:
        form: Ready to encode; its `factor` is what the store's size asks for.
        recall: What it finds on the sample with that.
        table: All forms that were measured, the fewest bytes first.
        why: A sentence for people.
    """

    form: Form
    recall: float
    table: tuple[Measured, ...]
    why: str


def choose(
    vectors: NDArray[np.float32],
    *,
    k: int = 10,
    least: float = LEAST,
    rows: int | None = None,
    names: Sequence[str] = tuple(FORMS),
    seed: int = 0,
) -> Choice:
    """Chooses the cheapest form that keeps the recall; float32 where none other does.

    Args:
        vectors: float32 [n, dimension], unit rows; a sample of 20,000 is drawn where there are
            more. Fewer than 1,000 are kept as they are: nothing can be measured on so few.
        k: Results that count.
        least: Share of the exact k nearest that must be found.
        rows: How many vectors the store has; None means as many as are given.
        names: Forms to try.
        seed: Of the draw.

    Raises:
        InvalidRequest: A name is unknown, a number is out of bounds, or the vectors do not fit.
    """
    if not 0 < least <= 1 or k < 1:
        raise InvalidRequest(f"a recall of {least} at {k} cannot be asked for")
    if vectors.ndim != 2 or not len(vectors):
        raise InvalidRequest(f"vectors are {vectors.shape}, not a matrix with a row")
    drawn = np.random.default_rng(seed).permutation(len(vectors))[: SAMPLE + QUERIES]
    sample = checked(vectors[drawn], vectors.shape[1])
    if len(sample) < max(_LEAST_ROWS, 20 * k):
        whole = fit_form("float32", sample)
        return Choice(whole, 1.0, (), f"float32: {len(sample)} vectors are too few to choose from")
    trial = _Trial(sample, k, least, rows or len(vectors))
    for name in names:
        trial.search(name)
    table = tuple(sorted(trial.measured(), key=lambda one: (one.bytes_per_vector, one.name)))
    kept = [one for one in table if one.needed is not None and one.needed <= MOST * k]
    if not kept:
        exact = fit_form("float32", sample)
        return Choice(exact, 1.0, table, f"float32: no form keeps {least:.0%}")
    equal = [one for one in kept if one.bytes_per_vector <= _EQUAL * kept[0].bytes_per_vector]
    return trial.choice(min(equal, key=lambda one: one.milliseconds), table)


def recalls(
    truth: NDArray[np.int64], found: NDArray[np.int64], counts: Sequence[int]
) -> dict[int, float]:
    """Share of the true rows [queries, k] among the first so many of those found, best first."""
    places = _places(truth, found)
    return {count: float((places < count).mean()) for count in counts}


def _places(truth: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each true row [queries, k] is among those found; where it is not, their number."""
    result = np.full(truth.shape, found.shape[1], np.int64)
    for places, true, some in zip(result, truth, found, strict=True):
        _, among_true, among_found = np.intersect1d(true, some, return_indices=True)
        places[among_true] = among_found
    return result


@dataclass(frozen=True, slots=True)
class _Searched:
    """A form, the sample's codes, the best of a scan of them, and how many candidates it needs."""

    form: Form
    codes: NDArray[Any]
    found: NDArray[np.int64]
    needed: int | None


class _Trial:
    """A sample, with queries taken out of it, in which forms are measured."""

    def __init__(self, sample: NDArray[np.float32], k: int, least: float, rows: int) -> None:
        self._queries, self._stored = sample[:QUERIES], sample[QUERIES:]
        self._k, self._least, self._rows = k, least, rows
        whole = len(self._stored)
        self._sizes = (max(whole // _PART, _LEAST_ROWS // 2), whole)
        self._truths = [
            _vectors.top("dot_f32", self._stored[:size], self._queries, k)[0]
            for size in self._sizes
        ]
        self._searched: dict[str, _Searched] = {}

    def search(self, name: str) -> None:
        """Fits a form and searches in both sizes with it."""
        form = fit_form(name, self._stored)
        codes = form.encode(self._stored)
        found = [
            form.scan(codes[:size], self._queries, _SCANNED * self._k)[0] for size in self._sizes
        ]
        needed = self._carried_on(*map(self._needed, self._truths, found))
        self._searched[name] = _Searched(form, codes, found[1], needed)

    def measured(self) -> list[Measured]:
        """What all forms that were searched with do."""
        times = self._milliseconds()
        return [
            Measured(
                name,
                one.form.bytes_per_vector,
                recalls(self._truths[1], one.found, [self._k])[self._k],
                one.needed,
                times[name],
            )
            for name, one in self._searched.items()
        ]

    def choice(self, best: Measured, table: tuple[Measured, ...]) -> Choice:
        """Makes the choice of a form that qualifies."""
        form, found = self._searched[best.name].form, self._searched[best.name].found
        form.factor = ceil((best.needed or self._k) / self._k)
        count = form.candidates(self._k)
        recall = recalls(self._truths[1], found, [count])[count]
        rescored = f"the best {count} rescored" if form.factor > 1 else "none rescored"
        why = (
            f"{best.name}: {best.bytes_per_vector} bytes a vector and a recall@{self._k} of "
            f"{recall:.3f} with {rescored}, measured on {len(found)} queries among "
            f"{self._sizes[1]:,} vectors; the cheapest form that keeps {self._least:.0%} among "
            f"{self._rows:,}"
        )
        return Choice(form, recall, table, why)

    def _needed(self, truth: NDArray[np.int64], found: NDArray[np.int64]) -> int | None:
        """How many of those found hold the wanted share of the truth; None where all do not."""
        places = np.sort(_places(truth, found), axis=None)
        last = int(places[ceil(self._least * places.size) - 1])
        return max(last + 1, self._k) if last < found.shape[1] else None

    def _carried_on(self, part: int | None, whole: int | None) -> int | None:
        """Candidates at the store's size, from those of a part of the sample and of all of it."""
        if part is None or whole is None:
            return None
        growth = log(max(whole / part, 1)) / log(self._sizes[1] / self._sizes[0])
        times = max(self._rows / self._sizes[1], 1.0)
        return ceil(whole * pow(times, growth))

    def _milliseconds(self) -> dict[str, float]:
        """Least time of a query of each form; forms take turns, as busy moments hit some only."""
        most = MOST * self._k
        taken: dict[str, list[float]] = {name: [] for name in self._searched}
        for query in self._queries[:_TIMED]:
            for name, one in self._searched.items():
                count = min(one.needed or most, most)
                start = thread_time()
                nearest(one.form, one.codes, self._stored, query, self._k, candidates=count)
                taken[name].append(thread_time() - start)
        return {name: 1e3 * min(times) for name, times in taken.items()}
