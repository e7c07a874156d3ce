"""Takes a checkpoint's tensors one by one into packed form, checking each shape.

A tensor is packed as soon as it is asked for and its pages of the mapped file are given back, so
that the peak is one packed copy of the model plus one tensor. With a shelf (packed_file.py) the
packed matrices come from there, or go there too; vectors are small and always the checkpoint's.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError, QuantizationError
from ryzanstein.inference.formats.adapt import piece, reshaped
from ryzanstein.inference.formats.checkpoint import Checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import RawTensor
from ryzanstein.inference.kernels.choices import Plan
from ryzanstein.inference.kernels.pack import (
    Head,
    PackedMatrix,
    Precision,
    is_int8,
    pack,
    pack_absmean,
    pack_ternary,
)
from ryzanstein.inference.packed_file import Request, Shelf

__all__ = ["Weights"]

_SAMPLE = 4096  # bytes of each tensor that go into the fingerprint
_FLOATS = ("F32", "F16", "BF16")


class Weights:
    """The packed weights of one checkpoint.

    Attributes:
        nbytes: what all packed matrices and vectors take.
        read_bytes: what a greedy token reads of them: all of them without an untied embedding,
            half of a scanned head.
        layouts: weights and bytes of these matrices in each form, "ternary2/tensor" and so on.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: Precision,
        shelf: Shelf | None = None,
        *,
        plan: Plan | None = None,
        head: Head = "auto",
    ) -> None:
        """Prepares to pack.

        Args:
            checkpoint: an open one.
            precision: of all matrices that are not a BitNet's ternary ones.
            shelf: where packed matrices come from or go to.
            plan: forms of the ternary ones, and how they are multiplied.
            head: of the output matrix, and of the embedding where they are one.
        """
        self._checkpoint = checkpoint
        self._shelf = shelf
        self._names = set(checkpoint.names())
        self._precision = precision
        self._head = head
        self._digest = hashlib.blake2b(digest_size=16)
        self._digest.update(json.dumps(checkpoint.config, default=str).encode())
        self._plan = plan or Plan()
        self.nbytes = 0
        self.read_bytes = 0
        self.layouts: dict[str, tuple[int, int]] = {}

    @property
    def fingerprint(self) -> str:
        """Tells this model from others, by configuration and samples of tensors."""
        return self._digest.hexdigest()

    @property
    def form(self) -> str:
        """Tells the forms apart that these weights were asked for in: "auto", "int8 head-scan"."""
        head = "" if self._head == "auto" else f" head-{self._head}"
        return f"{self._precision}{head}"

    @property
    def name(self) -> str:
        """Name of the checkpoint's file or directory."""
        return self._checkpoint.path.name

    def matrix(self, name: str, rows: int, cols: int, *, streamed: bool = True) -> PackedMatrix:
        """Packs a matrix; `streamed` says that every token reads all of it.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        raw, how = self._tensor(name, (rows, cols)), self._precision
        if how != "ternary":
            return self._take(raw, how, lambda: _dense(raw, rows, cols, how), streamed)
        if not streamed:
            return self._take(raw, "int8", lambda: _dense(raw, rows, cols, "int8"), streamed)
        form = self._plan.form(rows, cols)
        packed = self._take(raw, form, lambda: _rounded(raw, rows, cols, form), streamed)
        self._plan.apply(packed)
        return packed

    def small_matrix(
        self, name: str, rows: int, cols: int, *, part: tuple[int, tuple[int, ...]] | None = None
    ) -> PackedMatrix:
        """Packs a matrix of low rank: in eight bits where the others are to have fewer.

        Args:
            name: of the tensor.
            rows: length of the output.
            cols: length of the dot product.
            part: which of several matrices in the tensor, and the shape of all; by default it is
                the only one.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        how: Precision = "int8" if self._precision in ("int4", "ternary") else self._precision
        if part is None:
            raw, label = self._tensor(name, (rows, cols)), str(how)
        else:
            index, shape = part
            stacked = (math.prod(shape) // (rows * cols), rows, cols)
            raw = piece(reshaped(self._tensor(name, shape), stacked), index)
            label = f"{how} {index}"
        return self._take(raw, label, lambda: _dense(raw, rows, cols, how), True)

    def small_matrices(self, name: str, rows: Sequence[int], cols: int) -> list[PackedMatrix]:
        """Packs a matrix of low rank as several, with so many rows each.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        whole = self._tensor(name, (sum(rows), cols))
        how: Precision = "int8" if self._precision in ("int4", "ternary") else self._precision
        row_bytes, packed = whole.data.size // sum(rows), []
        for index, count in enumerate(rows):
            first = sum(rows[:index])
            data = whole.data[first * row_bytes : (first + count) * row_bytes]
            raw = replace(whole, shape=(count, cols), data=data)
            make = partial(_dense, raw, count, cols, how)
            packed.append(self._take(raw, f"{how} from row {first}", make, True))
        return packed

    def head(self, name: str, rows: int, cols: int) -> PackedMatrix:
        """Packs the output matrix in the form it is to have.

        By default that of the other matrices, but scanned where it would be int8: the same numbers,
        of which a greedy token reads half the bytes, and all logits take no longer.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        raw = self._tensor(name, (rows, cols))
        usual = "int8" if self._precision == "ternary" else self._precision
        form = usual if self._head == "auto" else self._head
        if self._head == "auto" and is_int8(raw.dtype, form):
            form = "scan"
        return self._take(raw, form, lambda: _dense(raw, rows, cols, form), True)

    def ternary(self, name: str, rows: int, cols: int) -> PackedMatrix:
        """Packs a matrix of a BitNet, whatever the precision: its weights are -1, 0 and 1.

        Master weights are quantised by absmean where config["bitnet"] says so. A matrix whose
        blocks have several scales (a GGUF file made of another model's weights) is packed as dense.

        Raises:
            ModelLoadError: it is missing, has another shape, or is not ternary.
        """
        raw = self._tensor(name, (rows, cols))
        masters = self._checkpoint.config["bitnet"]["weights"] == "absmean"
        absmean, form = masters and raw.dtype in _FLOATS, self._plan.form(rows, cols)

        def make() -> PackedMatrix:
            try:
                if absmean:
                    return pack_absmean(raw.dtype, raw.data, rows, cols, form)
                packed = pack_ternary(raw.dtype, raw.data, rows, cols, raw.scale, form)
            except QuantizationError as error:
                raise ModelLoadError(f"The tensor {name} cannot be packed: {error}") from error
            return packed or _dense(raw, rows, cols, self._precision)

        how = f"{form} {'absmean' if absmean else 'as it is'} or {self._precision}"
        packed = self._take(raw, how, make, True)
        self._plan.apply(packed)
        return packed

    def _take(
        self, raw: RawTensor, how: str, make: Callable[[], PackedMatrix], streamed: bool
    ) -> PackedMatrix:
        """Makes a matrix, or takes it from the shelf; `how` says all that decides its bytes."""
        if self._shelf is None:
            packed = make()
        else:
            rows, cols = raw.shape
            packed = self._shelf.matrix(Request(raw.name, rows, cols, f"{raw.dtype} {how}"), make)
        self._done(raw)
        self.nbytes += packed.nbytes
        if streamed:
            self._count(packed)
        return packed

    def _count(self, packed: PackedMatrix) -> None:
        layout = f"{packed.form}/{packed.scale}"
        weights, size = self.layouts.get(layout, (0, 0))
        weights += packed.rows * packed.cols
        self.layouts[layout] = weights, size + packed.nbytes
        self.read_bytes += packed.greedy_bytes

    def vector(self, name: str, size: int) -> npt.NDArray[np.float32]:
        """Returns a vector as float32.

        Raises:
            ModelLoadError: it is missing or has another shape.
        """
        return self.array(name, (size,))

    def array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Returns a tensor of any rank as float32.

        Raises:
            ModelLoadError: it is missing, has another shape, or values that are not finite.
        """
        raw = self._tensor(name, shape)
        values = np.array(dequantize(raw), np.float32).reshape(shape)
        self._done(raw)
        if not np.isfinite(values).all():
            raise ModelLoadError(f"The tensor {name} holds values that are not finite.")
        self.nbytes += values.nbytes
        self.read_bytes += values.nbytes
        return values

    def has(self, name: str) -> bool:
        """Says whether the checkpoint has a tensor of that name."""
        return name in self._names

    def optional_vector(self, name: str, size: int) -> npt.NDArray[np.float32] | None:
        """Returns a vector, or None where the checkpoint has none of that name."""
        return self.vector(name, size) if self.has(name) else None

    def _tensor(self, name: str, shape: tuple[int, ...]) -> RawTensor:
        if name not in self._names:
            raise ModelLoadError(f"The checkpoint has no tensor {name}.")
        raw = self._checkpoint.tensor(name)
        if tuple(raw.shape) != shape:
            raise ModelLoadError(
                f"The tensor {name} has shape {tuple(raw.shape)}, but {shape} was expected."
            )
        self._digest.update(f"{name} {raw.dtype} {raw.scale!r}".encode())
        self._digest.update(raw.data[:_SAMPLE].tobytes())
        return raw

    def _done(self, raw: RawTensor) -> None:
        self._checkpoint.release(raw.name)


def _rounded(raw: RawTensor, rows: int, cols: int, form: str) -> PackedMatrix:
    """Ternary by absmean, whatever the weights are."""
    if raw.dtype in _FLOATS and raw.scale == 1.0:
        return pack_absmean(raw.dtype, raw.data, rows, cols, form)
    values = np.ascontiguousarray(dequantize(raw), np.float32).reshape(-1)
    return pack_absmean("F32", values.view(np.uint8), rows, cols, form)


def _dense(raw: RawTensor, rows: int, cols: int, form: Head | Precision) -> PackedMatrix:
    precision: Head = "int8" if form == "ternary" else form
    if raw.scale == 1.0:
        return pack(raw.dtype, raw.data, rows, cols, precision)
    values = np.ascontiguousarray(dequantize(raw)).reshape(-1).view(np.uint8)
    return pack("F32", values, rows, cols, precision)
