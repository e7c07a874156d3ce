"""Which form a store's own vectors should be kept in, measured on a sample of them.

Queries are vectors of the sample, left out of what is searched; the truth is their exact k
nearest. A form counts with so many candidates rescored, the fewest of a few numbers that keep the
recall that is wanted. Of the forms that do, the one with the fewest bytes a vector is chosen, of
equal ones the quickest.

A sample is smaller than the store, and candidates that suffice there may not suffice among more
vectors, so their number grows with the store:

    candidates(n) = candidates(sample) * (n / sample) ** growth
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import thread_time
from typing import TYPE_CHECKING

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels import _vectors
from ryzanstein.memory.vectors.form import Form, checked
from ryzanstein.memory.vectors.forms import FORMS, fit_form, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Choice", "Measured", "choose", "recalls"]

LEAST = 0.96
SAMPLE = 20_000
QUERIES = 200
# Candidates for each result that is wanted.
FACTORS = (1, 3, 10, 20, 40)
# Measured between 10,000 and 1,000,000 vectors of real texts.
_GROWTH = 0.2
_TIMED = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """What a form does on a sample.

    Attributes:
        name: Of the form.
        bytes_per_vector: What a vector takes.
        recall: Share of the exact k nearest found, by candidates rescored for each result.
        factor: The fewest of these that keep what is wanted; None where none do.
        milliseconds: CPU time of a query on the sample, with the rescoring.
    """

    name: str
    bytes_per_vector: int
    recall: dict[int, float]
    factor: int | None
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen form, and what it was chosen from.

    Attributes:
        form: Ready to encode; its `factor` is what the store's size asks for.
        recall: What it found on the sample.
        table: All forms that were measured, the cheapest first.
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
    if len(sample) < max(1_000, 20 * k):
        whole = fit_form("float32", sample)
        return Choice(whole, 1.0, (), f"float32: {len(sample)} vectors are too few to choose from")
    queries, stored = sample[:QUERIES], sample[QUERIES:]
    truth, _ = _vectors.top("dot_f32", stored, queries, k)
    tried = [_measure(fit_form(name, stored), stored, queries, truth, least) for name in names]
    tried.sort(key=lambda one: (one[1].bytes_per_vector, one[1].milliseconds))
    table = tuple(measured for _, measured in tried)
    for form, measured in tried:
        if measured.factor is not None:
            grown = measured.factor * max((rows or len(vectors)) / len(stored), 1) ** _GROWTH
            form.factor = measured.factor if measured.factor == 1 else int(np.ceil(grown))
            recall = measured.recall[measured.factor]
            return Choice(form, recall, table, _reason(form, measured, k, least, len(stored)))
    return Choice(fit_form("float32", stored), 1.0, table, f"float32: no form keeps {least:.0%}")


def recalls(
    truth: NDArray[np.int64], found: NDArray[np.int64], counts: Sequence[int]
) -> dict[int, float]:
    """Share of the true rows [queries, k] among the first so many of those found, best first."""
    result = {}
    for count in counts:
        pairs = zip(truth, found[:, :count], strict=True)
        result[count] = float(np.mean([np.isin(*pair).mean() for pair in pairs]))
    return result


def _measure(
    form: Form,
    stored: NDArray[np.float32],
    queries: NDArray[np.float32],
    truth: NDArray[np.int64],
    least: float,
) -> tuple[Form, Measured]:
    k = truth.shape[1]
    codes = form.encode(stored)
    found, _ = form.scan(codes, queries, FACTORS[-1] * k)
    recall = recalls(truth, found, [factor * k for factor in FACTORS])
    by_factor = {factor: recall[factor * k] for factor in FACTORS}
    factor = next((factor for factor in FACTORS if by_factor[factor] >= least), None)
    count = (factor or FACTORS[-1]) * k
    milliseconds = _milliseconds(
        lambda query: nearest(form, codes, stored, query, k, candidates=count), queries
    )
    return form, Measured(form.name, form.bytes_per_vector, by_factor, factor, milliseconds)


def _milliseconds(
    search: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]
) -> float:
    """Median CPU time of a query."""
    taken = []
    for query in queries[:_TIMED]:
        start = thread_time()
        search(query)
        taken.append(thread_time() - start)
    return 1e3 * float(np.median(taken))


def _reason(form: Form, measured: Measured, k: int, least: float, rows: int) -> str:
    factor = measured.factor or 1
    rescored = f"{factor * k} rescored" if factor > 1 else "none rescored"
    return (
        f"{form.name}: {measured.bytes_per_vector} bytes a vector and recall@{k} of "
        f"{measured.recall[factor]:.3f} with {rescored} on a sample of {rows}, "
        f"the cheapest form that keeps {least:.0%}"
    )
