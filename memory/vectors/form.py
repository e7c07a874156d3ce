"""What a form of vectors is: codes of fewer bytes, and a scan of them for a float query.

A scan's scores are estimates of cosines, good for choosing candidates; whoever wants the answer
measures those with the float32 vectors (`forms.nearest`). Codes are rows of one C-contiguous array,
so they can be appended to, sliced, mapped from a file and scanned in blocks. What a form learned
from a sample is its state: small arrays that go into a file with the codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels import _vectors

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ryzanstein.inference.kernels._vectors import Measure

__all__ = ["Form", "checked", "quantized"]

_LEAST_CANDIDATES = 30


def checked(vectors: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    """Returns float32 [..., dimension], contiguous.

    Raises:
        InvalidRequest: They have another dimension or type, or numbers that are not finite.
    """
    if vectors.ndim < 1 or vectors.shape[-1] != dimension:
        raise InvalidRequest(
            f"vectors are {vectors.shape}, not of {dimension} dimensions",
            hint="They come from another embedding model.",
        )
    if vectors.dtype.kind != "f":
        raise InvalidRequest(f"vectors are {vectors.dtype}, not float32")
    if not np.isfinite(vectors).all():
        raise InvalidRequest(
            "vectors have numbers that are not finite",
            hint="The embedding model gave NaN or infinity; embed the text again.",
        )
    return np.ascontiguousarray(vectors, dtype=np.float32)


def quantized(query: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns int8 queries [..., d] and their scales [..., 1]: query = codes * scale."""
    scale = np.abs(query).max(axis=-1, keepdims=True) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(query / scale).astype(np.int8), scale


class Form(ABC):
    """One way to keep vectors of a dimension.

    Attributes:
        name: By which `forms` finds it.
        dimension: Of the vectors that come in.
        width: Elements of a row of codes.
        factor: Candidates to rescore for each result that is wanted.
    """

    measure: ClassVar[Measure]
    dtype: ClassVar[DTypeLike]

    def __init__(self, name: str, dimension: int, width: int, factor: int) -> None:
        self.name, self.dimension, self.width, self.factor = name, dimension, width, factor

    @classmethod
    @abstractmethod
    def fit(cls, name: str, sample: NDArray[np.float32]) -> Self:
        """Makes a form for vectors such as the sample's, unit rows [n, dimension]."""

    @classmethod
    @abstractmethod
    def load(cls, name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Self:
        """Makes the form that had this state."""

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """What it learned, for a file; no objects inside."""
        return {}

    @property
    def bytes_per_vector(self) -> int:
        """What a vector takes, and what a scan reads of it."""
        return self.width * np.dtype(self.dtype).itemsize

    def candidates(self, k: int) -> int:
        """How many of a scan's best hold the k nearest, by experience or by `choose`."""
        return max(self.factor * k, _LEAST_CANDIDATES) if self.factor > 1 else k

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Returns codes [n, width] of vectors [n, dimension].

        Raises:
            InvalidRequest: They have another dimension or type, or numbers that are not finite.
        """
        vectors = checked(vectors, self.dimension)
        if vectors.ndim != 2:
            raise InvalidRequest(f"vectors are {vectors.shape}, not a matrix")
        return self._encode(vectors)

    def scan(
        self,
        codes: NDArray[Any],
        query: NDArray[np.float32],
        k: int,
        positions: NDArray[np.int64] | None = None,
        *,
        threads: int = 1,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Finds the k rows of codes that seem nearest; the GIL is released.

        Args:
            codes: [n, width], as `encode` gave them.
            query: float32 [dimension], or [queries, dimension] for one pass over the codes.
            k: How many; fewer come where there are fewer rows.
            positions: Only these rows, where given, in any order.
            threads: Threads to share the rows; small scans take fewer.

        Returns:
            Positions int64 [k] and estimated cosines float32 [k], best first, equal ones by
            position; [queries, k] for several queries.

        Raises:
            InvalidRequest: The query, the codes or a position do not fit.
        """
        prepared, scale, offset = self._prepare(checked(query, self.dimension))
        found, values = _vectors.top(self.measure, codes, prepared, k, positions, threads=threads)
        return found, values.astype(np.float32, copy=False) * scale + offset

    @abstractmethod
    def _encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Returns codes of checked vectors."""

    @abstractmethod
    def _prepare(
        self, query: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32] | float, NDArray[np.float32] | float]:
        """Returns what the measure takes; its values times [..., 1] plus [..., 1] are cosines."""
