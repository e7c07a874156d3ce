"""Strict reader of a GGUF header: metadata and the table of tensors, nothing of the weights.

    magic "GGUF" | u32 version | u64 tensors | u64 entries
    entry:   string key | u32 type | value              string: u64 length | bytes
    tensor:  string name | u32 dims | u64 dim... | u32 type | u64 offset
    padding to `general.alignment` (32) | tensor data, offsets counted from here

Every length is checked against the bytes that are left before it is used, so a damaged or hostile
file costs neither memory nor time. The `gguf` package reads the same container, but it makes
several NumPy objects for each of the 300,000 strings of a Qwen vocabulary (6.5 s to open the file,
against 0.06 s here) and trusts what it reads.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any, Final, overload

import numpy as np

from ryzanstein.inference.formats.raw import BLOCKS, TAILS, stored_bytes
from ryzanstein.inference.kernels._strings import end_of_strings

__all__ = ["TYPES", "GgufHeader", "HeaderError", "Strings", "TensorEntry", "read_header"]

VERSIONS: Final = (2, 3)
MAX_TENSORS: Final = 1 << 16
MAX_ENTRIES: Final = 1 << 16
MAX_NAME_BYTES: Final = 1 << 10
MAX_DIMS: Final = 4
MAX_ELEMENTS: Final = 1 << 40
MAX_ALIGNMENT: Final = 1 << 20

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS: Final = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<B"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_DTYPES: Final = {
    kind: np.dtype(np.bool_ if kind == _BOOL else scalar.format)
    for kind, scalar in _SCALARS.items()
}
_U32 = _SCALARS[4]
_U64 = _SCALARS[10]

# ggml's numbers for tensor types; those not in READ are here only to be refused by name. 36 is
# bitnet.cpp's; it was IQ4_NL_4_4 in llama.cpp for a while, which no file is meant to hold.
TYPES: Final = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10:
    "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17:
    "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0",
    35: "TQ2_0", 36: "I2_S", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip
READ: Final = tuple(name for name in BLOCKS if name in TYPES.values() and name != "I8")


class HeaderError(ValueError):
    """What is wrong with the file, in one line without its path."""


class Strings(Sequence[str]):
    """A string array of the metadata, decoded when iterated so that no copy outlives its use."""

    def __init__(self, buffer: mmap, start: int, count: int) -> None:
        """Remembers where the first string begins; the caller has checked that all are there."""
        self._buffer = buffer
        self._start = start
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        buffer, at, length_of = self._buffer, self._start, _U64.unpack_from
        for _ in range(self._count):
            (length,) = length_of(buffer, at)
            at += 8
            yield buffer[at : at + length].decode("utf-8", "replace")
            at += length

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return list(self)[index]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One row of the tensor table: `shape` is (rows, cols), `start` a byte of the file.

    `size` is without the type's tail (`raw.TAILS`), which ends at `end`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def end(self) -> int:
        """The byte after the tensor and its tail."""
        return self.start + self.size + TAILS.get(self.dtype, 0)


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A header that has been checked against the file it came from.

    `entries` are the bytes of the file that hold the metadata.
    """

    version: int
    metadata: dict[str, Any]
    tensors: dict[str, TensorEntry]
    entries: tuple[int, int]


class _Cursor:
    """Reads values one after another and never beyond the end of the buffer."""

    def __init__(self, buffer: mmap) -> None:
        self.buffer = buffer
        self.size = len(buffer)
        self.at = 0

    def need(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise HeaderError(f"the file is truncated: it ends inside {what}")

    def scalar(self, kind: struct.Struct, what: str) -> Any:
        self.need(kind.size, what)
        (value,) = kind.unpack_from(self.buffer, self.at)
        self.at += kind.size
        return value

    def name(self, what: str) -> str:
        """A key or a tensor's name: short and printable, so that errors can show it."""
        (length,) = _U64.unpack_from(self.buffer, self.at) if self.size - self.at >= 8 else (0,)
        if length > MAX_NAME_BYTES:
            raise HeaderError(f"{what} claims {length:,} bytes; the file is damaged")
        name = self.string(what)
        if not name.isprintable() or not name:
            raise HeaderError(f"{what} is no printable text; the file is damaged")
        return name

    def string(self, what: str) -> str:
        length = self.scalar(_U64, what)
        self.need(length, what)
        raw = self.buffer[self.at : self.at + length]
        self.at += length
        return raw.decode("utf-8", "replace")

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.string(f"the value of {key}")
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise HeaderError(
                f"{key} has the unknown value type {kind}; the file is damaged or too new"
            )
        value = self.scalar(_SCALARS[kind], f"the value of {key}")
        return bool(value) if kind == _BOOL else value

    def array(self, key: str) -> Any:
        what = f"the array {key}"
        kind, count = self.scalar(_U32, what), self.scalar(_U64, what)
        if kind == _STRING:
            return self._strings(count, what)
        if kind not in _DTYPES:
            raise HeaderError(f"{what} has the unsupported element type {kind}")
        dtype = _DTYPES[kind]
        self.need(count * dtype.itemsize, what)
        array = np.frombuffer(self.buffer, dtype, count, self.at).copy()
        self.at += count * dtype.itemsize
        return array

    def _strings(self, count: int, what: str) -> Strings:
        self.need(count * 8, what)
        start = self.at
        end = end_of_strings(self.buffer, start, count)
        if end < 0:
            raise HeaderError(f"the file is truncated: it ends inside {what}")
        self.at = end
        return Strings(self.buffer, start, count)


def read_header(buffer: mmap) -> GgufHeader:
    """Reads and checks the header of a memory-mapped GGUF file.

    Raises:
        HeaderError: it is no GGUF file, is damaged, or holds something the engine does not read.
    """
    cursor = _Cursor(buffer)
    version = _read_version(cursor)
    tensors, entries = cursor.scalar(_U64, "the header"), cursor.scalar(_U64, "the header")
    if tensors > MAX_TENSORS or entries > MAX_ENTRIES:
        raise HeaderError(
            f"the header claims {tensors:,} tensors and {entries:,} entries; the file is damaged"
        )
    start = cursor.at
    metadata = _read_metadata(cursor, entries)
    held = (start, cursor.at)
    return GgufHeader(version, metadata, _read_tensors(cursor, tensors, _alignment(metadata)), held)


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.buffer[:4]
    if magic != b"GGUF":
        raise HeaderError(f"not a GGUF file: it begins with {bytes(magic)!r} and not with b'GGUF'")
    cursor.at = 4
    version = int(cursor.scalar(_U32, "the header"))
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        if swapped in VERSIONS:
            raise HeaderError("the file is in big-endian byte order, which is not supported")
        raise HeaderError(f"GGUF version {version} is not supported (supported: 2, 3)")
    return version


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for index in range(count):
        key = cursor.name(f"the key of metadata entry {index}")
        if key in metadata:
            raise HeaderError(f"the metadata key {key} occurs twice")
        metadata[key] = cursor.value(cursor.scalar(_U32, key), key)
    return metadata


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or not 1 <= alignment <= MAX_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        raise HeaderError("general.alignment is no sensible power of two")
    return alignment


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, TensorEntry]:
    read: list[tuple[str, str, tuple[int, ...], int, int]] = []
    for index in range(count):
        name = cursor.name(f"the name of tensor {index}")
        shape = _read_shape(cursor, name)
        number = cursor.scalar(_U32, f"tensor {name}")
        dtype = TYPES.get(number, f"number {number}")
        if dtype not in READ:
            raise HeaderError(
                f"tensor {name} has type {dtype}, which is not supported ({', '.join(READ)})"
            )
        try:
            size = stored_bytes(dtype, shape)
        except ValueError as error:
            raise HeaderError(f"tensor {name}: {error}") from None
        read.append((name, dtype, shape, cursor.scalar(_U64, f"tensor {name}"), size))
    base = -(-cursor.at // alignment) * alignment
    tensors: dict[str, TensorEntry] = {}
    for name, dtype, shape, offset, size in read:
        if name in tensors:
            raise HeaderError(f"tensor {name} occurs twice")
        if offset % alignment:
            raise HeaderError(
                f"tensor {name} starts at offset {offset:,}, not a multiple of {alignment}"
            )
        entry = TensorEntry(name, dtype, shape, base + offset, size)
        if entry.end > cursor.size:
            raise HeaderError(
                f"tensor {name} ends at byte {entry.end:,}, but the file has {cursor.size:,}: "
                "truncated or damaged"
            )
        tensors[name] = entry
    _check_places(tensors, alignment, cursor.size)
    return tensors


def _read_shape(cursor: _Cursor, name: str) -> tuple[int, ...]:
    """Dimensions in row-major order: the file has the contiguous one first."""
    dims = cursor.scalar(_U32, f"tensor {name}")
    if not 1 <= dims <= MAX_DIMS:
        raise HeaderError(f"tensor {name} has {dims} dimensions; the file is damaged")
    shape = tuple(int(cursor.scalar(_U64, f"tensor {name}")) for _ in range(dims))
    elements = 1
    for length in shape:
        elements *= length
    if not 1 <= elements <= MAX_ELEMENTS:
        raise HeaderError(f"tensor {name} has the absurd shape {shape}; the file is damaged")
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape[::-1]


def _check_places(tensors: dict[str, TensorEntry], alignment: int, size: int) -> None:
    ordered = sorted(tensors.values(), key=lambda entry: entry.start)
    for before, after in itertools.pairwise(ordered):
        if before.end > after.start:
            raise HeaderError(
                f"tensors {before.name} and {after.name} overlap; the file is damaged"
            )
        _check_room(before, after.start, alignment)
    if ordered:
        _check_room(ordered[-1], size, alignment)


def _check_room(entry: TensorEntry, next_start: int, alignment: int) -> None:
    """Tells I2_S from another type of the same number: it fills its place."""
    if entry.dtype in TAILS and next_start - entry.end >= alignment:
        raise HeaderError(
            f"tensor {entry.name} has {next_start - entry.start:,} bytes for type 36, of which "
            f"bitnet.cpp's I2_S fills {entry.end - entry.start:,}: it is another type"
        )
