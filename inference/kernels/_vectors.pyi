"""Types of the compiled module."""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

Measure = Literal["dot_i8", "dot_f32", "hamming", "bits_dot", "bits_scaled", "lookup", "sparse_dot"]
Positions = NDArray[np.int64]
Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

MEASURES: tuple[Measure, ...]
MOST_DIMENSIONS: int

def dot_i8(
    codes: NDArray[np.int8],
    query: NDArray[np.int8],
    positions: Positions | None = None,
    *,
    isa: str | None = None,
) -> Ints: ...
def dot_f32(
    codes: Floats, query: Floats, positions: Positions | None = None, *, isa: str | None = None
) -> Floats: ...
def hamming(
    codes: NDArray[np.uint8],
    query: NDArray[np.uint8],
    positions: Positions | None = None,
    *,
    isa: str | None = None,
) -> Ints: ...
def bits_dot(
    codes: NDArray[np.uint8],
    query: NDArray[np.int8],
    positions: Positions | None = None,
    *,
    isa: str | None = None,
) -> Ints: ...
def bits_scaled(
    codes: NDArray[np.uint8],
    query: NDArray[np.int8],
    positions: Positions | None = None,
    *,
    isa: str | None = None,
) -> Ints: ...
def lookup(
    codes: NDArray[np.uint8],
    tables: NDArray[np.int16],
    positions: Positions | None = None,
    *,
    isa: str | None = None,
) -> Ints: ...
def sparse_dot(
    codes: NDArray[np.uint8],
    query: NDArray[np.int8],
    positions: Positions | None = None,
    *,
    isa: str | None = None,
) -> Ints: ...
@overload
def top(
    measure: Literal["dot_f32"],
    codes: Floats,
    query: Floats,
    k: int,
    positions: Positions | None = None,
    *,
    threads: int = 1,
    isa: str | None = None,
) -> tuple[Positions, Floats]: ...
@overload
def top(
    measure: Literal["dot_i8", "hamming", "bits_dot", "bits_scaled", "lookup", "sparse_dot"],
    codes: NDArray[Any],
    query: NDArray[Any],
    k: int,
    positions: Positions | None = None,
    *,
    threads: int = 1,
    isa: str | None = None,
) -> tuple[Positions, Ints]: ...
