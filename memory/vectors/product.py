"""Product quantisation: a byte for every few dimensions, the number of the nearest centroid.

Each part of a vector has 256 centroids of its own, learned by k-means from a sample; a query is
multiplied with all of them once, and a row's score is a sum of what its bytes find in these tables
(Jegou, Douze and Schmid 2011, Product quantization for nearest neighbor search).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ryzanstein.memory.vectors.form import Form

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from ryzanstein.inference.kernels._vectors import Measure

__all__ = ["Product"]

_FACTOR = 40
_PART = 8  # dimensions a byte
_CENTROIDS = 256
_SAMPLE = 8_192  # 32 vectors a centroid
_ROUNDS = 8
_SECONDS = 10.0  # of training; parts that are late keep the centroids they have
_SLICE = 4096
_MOST = 32_767


class Product(Form):
    """A byte for eight dimensions, learned from a sample."""

    measure: ClassVar[Measure] = "lookup"
    dtype: ClassVar[DTypeLike] = np.uint8

    def __init__(self, name: str, dimension: int, centroids: NDArray[np.float32]) -> None:
        super().__init__(name, dimension, len(centroids), _FACTOR)
        self._centroids = centroids  # [parts, 256, dimensions of a part]

    @classmethod
    def fit(cls, name: str, sample: NDArray[np.float32]) -> Self:
        """Learns from at most 8,192 vectors of the sample, in at most ten seconds or so."""
        chooser = np.random.default_rng(0)
        chosen = sample[chooser.permutation(len(sample))[:_SAMPLE]]
        ends = monotonic() + _SECONDS
        parts = [_k_means(part, ends) for part in np.moveaxis(_parts(chosen), 1, 0)]
        return cls(name, sample.shape[1], np.stack(parts))

    @classmethod
    def load(cls, name: str, dimension: int, state: dict[str, NDArray[Any]]) -> Self:
        """Makes the form that had this state."""
        return cls(name, dimension, state["centroids"])

    @property
    def state(self) -> dict[str, NDArray[Any]]:
        """The centroids, float32 [parts, 256, 8]."""
        return {"centroids": self._centroids}

    def _encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        codes = np.empty((len(vectors), self.width), np.uint8)
        for start in range(0, len(vectors), _SLICE):
            parts = _parts(vectors[start : start + _SLICE])
            for number, centroids in enumerate(self._centroids):
                codes[start : start + _SLICE, number] = _closest(parts[:, number], centroids)
        return codes

    def _prepare(
        self, query: NDArray[np.float32]
    ) -> tuple[NDArray[Any], NDArray[np.float32], float]:
        tables = np.einsum("...pd,pcd->...pc", _parts(query), self._centroids)
        scale = np.abs(tables).max(axis=(-2, -1), keepdims=True) / np.float32(_MOST)
        scale[scale == 0] = 1
        return np.rint(tables / scale).astype(np.int16), scale[..., 0], 0.0


def _parts(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors [..., d] as [..., parts, 8], filled up with zeros."""
    count = -(-vectors.shape[-1] // _PART)
    missing = count * _PART - vectors.shape[-1]
    if missing:
        ends = [(0, 0)] * (vectors.ndim - 1) + [(0, missing)]
        vectors = np.pad(vectors, ends)
    return vectors.reshape(*vectors.shape[:-1], count, _PART)


def _closest(points: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Number of the nearest centroid of each point."""
    halves = 0.5 * np.einsum("cd,cd->c", centroids, centroids)
    numbers: NDArray[np.int64] = np.argmax(points @ centroids.T - halves, axis=1)
    return numbers


def _k_means(points: NDArray[np.float32], ends: float) -> NDArray[np.float32]:
    """256 centroids of points [n, d], by Lloyd's rounds from points among them."""
    first = np.linspace(0, len(points) - 1, _CENTROIDS).astype(np.int64)
    centroids = points[first].copy()
    for _ in range(_ROUNDS):
        if monotonic() > ends:
            break
        owners = _closest(points, centroids)
        counts = np.bincount(owners, minlength=_CENTROIDS)
        sums = [np.bincount(owners, points[:, axis], _CENTROIDS) for axis in range(points.shape[1])]
        means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
        # A centroid that nobody is nearest to stays where it is.
        centroids = np.where(counts[:, None] > 0, means, centroids).astype(np.float32)
    return centroids
