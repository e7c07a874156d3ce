"""Takes a checkpoint's tensors one by one into packed form, checking each shape.

A tensor is packed as soon as it is asked for and its pages of the mapped file are given back, so
that the peak is one packed copy of the model plus one tensor.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import Checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import RawTensor
from ryzanstein.inference.kernels.pack import PackedMatrix, Precision, pack

__all__ = ["Weights"]

_SAMPLE = 4096  # bytes of each tensor that go into the fingerprint


class Weights:
    """The packed weights of one checkpoint.

    Attributes:
        nbytes: what all packed matrices and vectors take.
        read_bytes: what one token reads of them: all matrices, without an untied embedding.
    """

    def __init__(self, checkpoint: Checkpoint, precision: Precision) -> None:
        self._checkpoint = checkpoint
        self._names = set(checkpoint.names())
        self._precision = precision
        self._digest = hashlib.blake2b(digest_size=16)
        self._digest.update(json.dumps([checkpoint.config, precision], default=str).encode())
        self.nbytes = 0
        self.read_bytes = 0

    @property
    def fingerprint(self) -> str:
        """Tells this model in this form from others, by configuration and samples of tensors."""
        return self._digest.hexdigest()

    def matrix(self, name: str, rows: int, cols: int, *, streamed: bool = True) -> PackedMatrix:
        """Packs a matrix; `streamed` says that every token reads all of it.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        raw = self._tensor(name, (rows, cols))
        packed = pack(raw.dtype, raw.data, rows, cols, self._precision)
        self._done(raw)
        self.nbytes += packed.nbytes
        self.read_bytes += packed.nbytes if streamed else 0
        return packed

    def vector(self, name: str, size: int) -> npt.NDArray[np.float32]:
        """Returns a vector as float32.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        raw = self._tensor(name, (size,))
        values = np.array(dequantize(raw), np.float32).reshape(size)
        self._done(raw)
        if not np.isfinite(values).all():
            raise ModelLoadError(f"The tensor {name} holds values that are not finite.")
        self.nbytes += values.nbytes
        return values

    def optional_vector(self, name: str, size: int) -> npt.NDArray[np.float32] | None:
        """Returns a vector, or None where the checkpoint has none of that name."""
        return self.vector(name, size) if name in self._names else None

    def _tensor(self, name: str, shape: tuple[int, ...]) -> RawTensor:
        if name not in self._names:
            raise ModelLoadError(f"The checkpoint has no tensor {name}.")
        raw = self._checkpoint.tensor(name)
        if tuple(raw.shape) != shape:
            raise ModelLoadError(
                f"The tensor {name} has shape {tuple(raw.shape)}, but {shape} was expected."
            )
        self._digest.update(name.encode())
        self._digest.update(raw.data[:_SAMPLE].tobytes())
        return raw

    def _done(self, raw: RawTensor) -> None:
        self._checkpoint.release(raw.name)
