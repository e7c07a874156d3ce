"""Writes a GGUF file with its weights in another type, the rest as it was.

    convert("model-q4_k_m.gguf", Path("model-q8_0.gguf"), "q8_0")

Metadata, tokenizer and vectors are copied byte for byte. Matrices are turned into the type a few
rows at a time, so that a model of any size needs little memory:

    f16 q8_0 q6_k q4_0    dense matrices; the embedding and the output matrix of a q4_0 file are
                          q6_k or q8_0, as llama.cpp's quantiser has them
    tq1_0 tq2_0           matrices that hold nothing but -1, 0 and 1, without any loss

What does not fit a type's blocks, or is of the other kind, stays as it is.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.durable import replacing
from ryzanstein.errors import InvalidRequest, ModelLoadError, QuantizationError, StorageError
from ryzanstein.inference.formats.dequantize import dequantize_bytes
from ryzanstein.inference.formats.gguf_header import (
    TYPES,
    GgufHeader,
    HeaderError,
    TensorEntry,
    read_header,
)
from ryzanstein.inference.formats.raw import BLOCKS, TAILS, TERNARY, stored_bytes
from ryzanstein.inference.synthesize.blocks import encode_dense, encode_ternary

__all__ = ["TARGETS", "Converted", "convert"]

# llama.cpp's numbers of whole files' types, `general.file_type`.
TARGETS: Final = {"f16": 1, "q8_0": 7, "q6_k": 18, "q4_0": 2, "tq1_0": 36, "tq2_0": 37}
_NUMBERS: Final = {name: number for number, name in TYPES.items()}
_HEADS: Final = ("token_embd.weight", "output.weight")
_ALIGNMENT: Final = 32
_AT_ONCE: Final = 1 << 21  # weights
_KEY: Final = b"general.file_type"
_U32: Final = 4

Report = Callable[[int, int], None]
Planned = tuple[TensorEntry, str]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Converted:
    """A file that was written.

    Attributes:
        path: The file.
        tensors: How many it has.
        changed: How many of them have another type now.
        bytes: Its size.
        error: Root mean square of what was lost, as a share of the changed weights' own; of the
            first rows of each matrix.
        seconds: Wall time.
    """

    path: Path
    tensors: int
    changed: int
    bytes: int
    error: float
    seconds: float


def convert(
    source: Path,
    target: Path,
    kind: str,
    *,
    force: bool = False,
    report: Report = lambda done, total: None,
    cancel: threading.Event | None = None,
) -> Converted:
    """Writes `source` with weights of a kind to `target`, which is there whole or not at all.

    Args:
        source: A GGUF file, or a folder that holds one.
        target: The new file.
        kind: A name of TARGETS.
        force: Replace what is there.
        report: Told the bytes written, and all there will be.
        cancel: Ends it within a second once it is set.

    Raises:
        InvalidRequest: There is something at `target`, or `kind` is none.
        ModelLoadError: `source` is missing, damaged, or no GGUF file.
        QuantizationError: Nothing in the file can be of that kind, or it was cancelled.
        StorageError: The disk cannot take it.
    """
    if kind not in TARGETS:
        raise InvalidRequest(f"{kind!r} is no type.", hint=f"There are {', '.join(TARGETS)}.")
    source, started = _file(source), perf_counter()
    if target.exists() and not force:
        raise InvalidRequest(
            f"{target.name} is there already.", hint="Choose another name, or replace it by force."
        )
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        try:
            header = read_header(buffer)
        except HeaderError as error:
            raise ModelLoadError(f"{source.name}: {error}.") from error
        plan = [(entry, _becomes(entry, kind.upper())) for entry in header.tensors.values()]
        changed = sum(entry.dtype != dtype for entry, dtype in plan)
        if not changed:
            raise QuantizationError(
                f"No matrix of {source.name} can become {kind}, or all are.",
                hint="tq1_0 and tq2_0 are for BitNet's matrices, the others for all others.",
            )
        size = sum(_padded(_size(entry, dtype)) for entry, dtype in plan)
        _require_room(target, size)
        loss = _Loss()
        try:
            with replacing(target) as out:
                out.write(_header(buffer, header, plan, kind))
                writer = _Writer(out, size, report, cancel)
                writer.pad()
                _write(writer, buffer, plan, loss)
        except OSError as error:
            raise StorageError(f"{target.name} cannot be written: {error.strerror}.") from error
    seconds = round(perf_counter() - started, 3)
    size = target.stat().st_size
    return Converted(target, len(plan), changed, size, round(loss.share, 5), seconds)


def _file(source: Path) -> Path:
    if source.is_dir():
        found = sorted(source.glob("*.gguf"))
        if len(found) != 1:
            raise ModelLoadError(
                f"{source.name} holds {len(found)} GGUF files.", hint="Give a .gguf file."
            )
        return found[0]
    if not source.is_file() or source.stat().st_size == 0:
        raise ModelLoadError(f"There is no model file {source.name}.", hint="Give a .gguf file.")
    return source


def _becomes(entry: TensorEntry, wanted: str) -> str:
    """The type that a tensor gets: its own where the wanted one does not suit it."""
    if len(entry.shape) != 2 or entry.name.endswith("_norm.weight"):
        return entry.dtype
    if (entry.dtype in TERNARY) != (wanted in TERNARY):
        return entry.dtype
    if wanted == "Q4_0" and entry.name in _HEADS:
        wanted = "Q6_K"
    if entry.shape[-1] % BLOCKS[wanted][0] == 0:
        return wanted
    return "Q8_0" if wanted == "Q6_K" and entry.shape[-1] % 32 == 0 else entry.dtype


def _size(entry: TensorEntry, dtype: str) -> int:
    return stored_bytes(dtype, entry.shape) + TAILS.get(dtype, 0)


@dataclass(slots=True)
class _Loss:
    """Sums of squares: of weights, and of what their new type changed about them."""

    weights: float = 0.0
    changes: float = 0.0

    @property
    def share(self) -> float:
        return sqrt(self.changes / self.weights) if self.weights else 0.0

    def add(self, values: Floats, data: Bytes, dtype: str) -> None:
        self.weights += float(np.square(values, dtype=np.float64).sum())
        changes = dequantize_bytes(dtype, data).reshape(values.shape) - values
        self.changes += float(np.square(changes, dtype=np.float64).sum())


@dataclass(slots=True)
class _Writer:
    """Writes pieces one after another, tells how far it is, and stops when it is asked to."""

    out: BinaryIO
    size: int
    report: Report
    cancel: threading.Event | None
    done: int = 0

    def write(self, piece: bytes | memoryview) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise QuantizationError("The conversion was cancelled.", hint="Start it again.")
        self.out.write(piece)
        self.done += len(piece)
        self.report(min(self.done, self.size - 1), self.size)

    def pad(self) -> None:
        self.out.write(bytes(-self.out.tell() % _ALIGNMENT))


def _write(writer: _Writer, buffer: mmap.mmap, plan: list[Planned], loss: _Loss) -> None:
    for entry, dtype in plan:
        for piece in _pieces(buffer, entry, dtype, loss):
            writer.write(piece)
        writer.pad()
    writer.report(writer.size, writer.size)


def _header(buffer: mmap.mmap, header: GgufHeader, plan: list[Planned], kind: str) -> bytes:
    start, end = header.entries
    metadata = bytearray(buffer[start:end])
    at = metadata.find(struct.pack("<Q", len(_KEY)) + _KEY + struct.pack("<I", _U32))
    if at >= 0:
        struct.pack_into("<I", metadata, at + 8 + len(_KEY) + 4, TARGETS[kind])
    # The offsets that follow are multiples of 32, whatever the file's own alignment was.
    if header.metadata.get("general.alignment", _ALIGNMENT) != _ALIGNMENT:
        raise QuantizationError("The file has an alignment of its own, which is not supported.")
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(plan), len(header.metadata)), bytes(metadata)]
    offset = 0
    for entry, dtype in plan:
        name, sizes = entry.name.encode(), entry.shape[::-1]
        parts.append(struct.pack("<Q", len(name)) + name)
        parts.append(struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        parts.append(struct.pack("<IQ", _NUMBERS[dtype], offset))
        offset += _padded(_size(entry, dtype))
    return b"".join(parts)


def _pieces(
    buffer: mmap.mmap, entry: TensorEntry, dtype: str, loss: _Loss
) -> Iterator[bytes | memoryview]:
    """The bytes of a tensor in its new type."""
    if dtype == entry.dtype:
        yield buffer[entry.start : entry.end]
        return
    rows, cols = entry.shape
    row_bytes, step = entry.size // rows, max(1, _AT_ONCE // cols)
    scale = _ternary_scale(buffer, entry) if dtype in TERNARY else 1.0
    for first in range(0, rows, step):
        count = min(step, rows - first)
        at = entry.start + first * row_bytes
        values = _values(entry, np.frombuffer(buffer, np.uint8, count * row_bytes, at).copy())
        if dtype in TERNARY:
            codes = (np.sign(values) + 1).astype(np.uint8)
            yield encode_ternary(codes.reshape(count, cols), scale, dtype).data
            continue
        data = encode_dense(values.reshape(count, cols), dtype)
        if first == 0:
            loss.add(values, data, dtype)
        yield data.data


def _values(entry: TensorEntry, data: Bytes) -> Floats:
    try:
        values = dequantize_bytes(entry.dtype, data)
    except ValueError as error:
        raise ModelLoadError(f"The tensor {entry.name} is damaged: it holds {error}.") from error
    if not np.isfinite(values).all():
        raise ModelLoadError(f"The tensor {entry.name} holds values that are no numbers.")
    return values


def _ternary_scale(buffer: mmap.mmap, entry: TensorEntry) -> float:
    """The one scale of a ternary tensor.

    Raises:
        QuantizationError: Its blocks have several.
    """
    if entry.dtype in TAILS:
        return float(struct.unpack_from("<f", buffer, entry.start + entry.size)[0])
    block = BLOCKS[entry.dtype][1]
    blocks = np.frombuffer(buffer, np.uint8, entry.size, entry.start).reshape(-1, block)
    scales = np.ascontiguousarray(blocks[:, -2:]).view(np.float16)
    if (scales != scales[0]).any():
        raise QuantizationError(f"The tensor {entry.name} has several scales.")
    return float(scales[0, 0])


def _require_room(target: Path, size: int) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
    except OSError as error:
        raise StorageError(f"{target.name} cannot be written: {error.strerror}.") from error
    if free < size:
        raise StorageError(
            f"{target.name} takes {size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free.",
            hint="Make room on the disk.",
        )


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
