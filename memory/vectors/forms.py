"""The forms of vectors by name, and the exact nearest among a form's candidates.

name            bytes at 256   what is kept
float32         1024           the vectors
int8            256            a byte a dimension, one scale
matryoshka-128  128            the first 128 dimensions in int8
matryoshka-64   64             the first 64
sparse-32       64             the 32 largest coordinates and their places
product         32             for each eight dimensions the nearest of 256 centroids
bits            33             on which side of the mean each coordinate lies, and a factor
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels import _vectors
from ryzanstein.memory.vectors.bits import Bits
from ryzanstein.memory.vectors.float32 import Float32
from ryzanstein.memory.vectors.form import Form, checked
from ryzanstein.memory.vectors.int8 import Int8
from ryzanstein.memory.vectors.product import Product
from ryzanstein.memory.vectors.sparse import Sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMS", "Form", "fit_form", "load_form", "nearest"]

FORMS: dict[str, type[Form]] = {
    "float32": Float32,
    "int8": Int8,
    "matryoshka-128": Int8,
    "matryoshka-64": Int8,
    "sparse-32": Sparse,
    "product": Product,
    "bits": Bits,
}


def fit_form(name: str, sample: NDArray[np.float32]) -> Form:
    """Makes a form for vectors such as the sample's, unit rows [n, dimension].

    Raises:
        InvalidRequest: There is no such form, or the sample is no matrix of finite floats.
    """
    if sample.ndim != 2 or not sample.shape[0]:
        raise InvalidRequest(f"a sample is {sample.shape}, not a matrix with a row")
    return _form(name).fit(name, checked(sample, sample.shape[1]))


def load_form(name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Form:
    """Makes a form from its name and `state`."""
    return _form(name).load(name, dimension, state)


def _form(name: str) -> type[Form]:
    if name not in FORMS:
        raise InvalidRequest(
            f"There is no form of vectors {name!r}.", hint=f"Choose one of {', '.join(FORMS)}."
        )
    return FORMS[name]


def nearest(
    form: Form,
    codes: NDArray[Any],
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    k: int,
    positions: NDArray[np.int64] | None = None,
    *,
    candidates: int | None = None,
    threads: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Scans codes for candidates and returns the k nearest of them by their exact cosines.

    Args:
        form: What made the codes.
        codes: [n, form.width].
        vectors: float32 [n, dimension], contiguous; only candidates are read.
        query: float32 [dimension].
        k: How many.
        positions: Only these rows, where given.
        candidates: How many to rescore; None means what the form says.
        threads: Threads of the scan.

    Returns:
        Positions int64 [k] and cosines float32 [k], best first, equal ones by position.
    """
    wanted = form.candidates(k) if candidates is None else max(candidates, k)
    found, scores = form.scan(codes, query, wanted, positions, threads=threads)
    if form.name == "float32":
        return found[:k], scores[:k]
    return _vectors.top("dot_f32", vectors, checked(query, form.dimension), k, found)
