"""One file of packed matrices, kept so that a model is packed once and mapped ever after.

    RZPACK01 | place, length and checksum of the index (u64 each)      the first page
    matrices as the kernels read them, each beginning on a page
    index: JSON {"key": ..., "matrices": [...]}

A matrix has a checksum for each CHUNK bytes, all of which are compared before the first weight is
used. Numbers are in the machine's byte order; the key says which, and everything else that must
hold for the file to be used: it is opened with the key that is wanted, and any difference, damage
or fault of the disk raises Unusable.

The mapping survives that the file is deleted or replaced. A file that somebody cuts short in place
while it is mapped ends the process (SIGBUS), as with every mapped file.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import QuantizationError
from ryzanstein.inference.kernels._checksum import checksum, checksums
from ryzanstein.inference.kernels.pack import PackedMatrix

__all__ = ["Make", "PackedFile", "PackedWriter", "Request", "Shelf", "Unusable"]

MAGIC: Final = b"RZPACK01"
PAGE: Final = 4096
CHUNK: Final = 4 << 20
_MAX_INDEX: Final = 64 << 20
_ABANDONED_SECONDS: Final = 3600.0

Make = Callable[[], PackedMatrix]
Key = dict[str, Any]
Bytes = npt.NDArray[np.uint8]


class Unusable(Exception):
    """A packed file is not what is wanted, and why; the weights are to be packed again."""


@dataclass(frozen=True, slots=True)
class Request:
    """Which tensor, of which shape, and in words how it is to be packed."""

    name: str
    rows: int
    cols: int
    how: str


class Shelf(Protocol):
    """Where packed matrices come from, or go to."""

    def matrix(self, request: Request, make: Make) -> PackedMatrix:
        """Returns what `make` returns, or the same made at another time."""
        ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """One matrix of the index; `sums` are hexadecimal, sixteen digits a chunk."""

    name: str
    rows: int
    cols: int
    how: str
    form: str
    scale: str
    tensor_scale: float
    offset: int
    size: int
    sums: str


class PackedFile:
    """A packed file, mapped and verified; the matrices look at its memory.

    Attributes:
        nbytes: Bytes of the file.
    """

    def __init__(self, path: Path, key: Key, threads: int = 1) -> None:
        """Maps a file and compares every checksum, with as many threads.

        Raises:
            Unusable: it is missing, damaged, or made for something else.
        """
        self._data = _map(path)
        self.nbytes = len(self._data)
        entries = _read_index(self._data, key)
        _verify(self._data, entries, threads)
        self._entries = {
            Request(entry.name, entry.rows, entry.cols, entry.how): entry for entry in entries
        }

    def matrix(self, request: Request, make: Make) -> PackedMatrix:
        """Returns a matrix over the mapped memory.

        Raises:
            Unusable: the file does not hold that matrix.
        """
        entry = self._entries.get(request)
        if entry is None:
            raise Unusable(f"it has no {request}")
        try:
            return PackedMatrix(
                entry.form,
                entry.scale,
                request.rows,
                request.cols,
                tensor_scale=entry.tensor_scale,
                codes=self._data[entry.offset : entry.offset + entry.size],
            )
        except (QuantizationError, ValueError, OverflowError) as error:
            raise Unusable(f"its {entry.name} is no matrix: {error}") from error


class PackedWriter:
    """Writes matrices as they are packed; the file gets its name only when it is whole.

    A fault of the disk does not disturb the packing: the writer notes it and writes no more.

    Attributes:
        path: The file to be.
    """

    def __init__(self, path: Path, key: Key) -> None:
        """Begins a file beside its final place.

        Raises:
            OSError: it cannot be written there.
        """
        self.path = path
        self._key = key
        self._entries: list[_Entry] = []
        _remove_abandoned(path)
        self._partial = path.with_name(f"{path.name}.{os.getpid()}-{time.time_ns():x}.partial")
        self._file: BinaryIO | None = self._partial.open("xb")
        self._file.seek(PAGE)

    def matrix(self, request: Request, make: Make) -> PackedMatrix:
        """Packs a matrix, writes it, and returns it as it lies in memory."""
        packed = make()
        if self._file is not None:
            try:
                self._append(self._file, request, packed)
            except OSError:
                self.discard()
        return packed

    def commit(self) -> bool:
        """Gives the file its name; says whether everything was written."""
        if self._file is None or not self._entries:
            self.discard()
            return False
        index = json.dumps(
            {"key": self._key, "matrices": [asdict(entry) for entry in self._entries]}
        ).encode()
        try:
            place = self._file.tell()
            self._file.write(index)
            self._file.seek(0)
            self._file.write(_first_page(place, index))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._partial, self.path)
        except OSError:
            self.discard()
            return False
        self._file = None
        return True

    def discard(self) -> None:
        """Removes what has been written, unless it is committed."""
        if self._file is None:
            return
        file, self._file = self._file, None
        with contextlib.suppress(OSError):  # closing writes what is buffered
            file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def __enter__(self) -> PackedWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _append(self, file: BinaryIO, request: Request, packed: PackedMatrix) -> None:
        codes = packed.codes.reshape(-1)
        entry = _Entry(
            name=request.name,
            rows=request.rows,
            cols=request.cols,
            how=request.how,
            form=packed.form,
            scale=packed.scale,
            tensor_scale=packed.tensor_scale,
            offset=file.tell(),
            size=codes.nbytes,
            sums=_hexadecimal(checksums(codes, CHUNK)),
        )
        file.write(codes.data)
        file.write(bytes(-codes.nbytes % PAGE))
        self._entries.append(entry)


def _remove_abandoned(path: Path) -> None:
    """Removes what writers left that were killed; a living one has written a moment ago."""
    for partial in path.parent.glob(f"{path.name}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()


def _first_page(place: int, index: bytes) -> bytes:
    numbers = np.array([place, len(index), checksum(index)], np.uint64)
    return (MAGIC + numbers.tobytes()).ljust(PAGE, b"\0")


def _map(path: Path) -> Bytes:
    try:
        with path.open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # mmap says ValueError of an empty file
        raise Unusable(str(error)) from error
    return np.frombuffer(buffer, np.uint8)


def _read_index(data: Bytes, key: Key) -> list[_Entry]:
    """Returns the entries, each of which lies within the data."""
    if len(data) < PAGE or data[: len(MAGIC)].tobytes() != MAGIC:
        raise Unusable("it is no packed file")
    numbers = data[len(MAGIC) : len(MAGIC) + 24].view(np.uint64)
    place, length, expected = (int(number) for number in numbers)
    if length > _MAX_INDEX or place < PAGE or place + length != len(data):
        raise Unusable("it is cut short")
    text = data[place:]
    if checksum(text) != expected:
        raise Unusable("its index is damaged")
    try:
        index = json.loads(text.tobytes())
        same, entries = index["key"] == key, [_entry(value) for value in index["matrices"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unusable(f"its index makes no sense: {error}") from error
    if not same:
        raise Unusable("it was made from another checkpoint, or by another version")
    for entry in entries:
        end = entry.offset + entry.size
        if entry.size < 1 or entry.offset < PAGE or entry.offset % PAGE or end > place:
            raise Unusable(f"its {entry.name} lies outside")
    return entries


def _entry(value: dict[str, Any]) -> _Entry:
    entry = _Entry(**value)
    for field in fields(entry):
        if type(getattr(entry, field.name)).__name__ != field.type:
            raise TypeError(f"{field.name} is no {field.type}")
    return entry


def _verify(data: Bytes, entries: Iterable[_Entry], threads: int) -> None:
    """Compares the checksums of all chunks."""

    def whole(entry: _Entry) -> bool:
        codes = data[entry.offset : entry.offset + entry.size]
        return _hexadecimal(checksums(codes, CHUNK)) == entry.sums

    if hasattr(mmap, "MADV_WILLNEED") and isinstance(data.base, mmap.mmap):
        data.base.madvise(mmap.MADV_WILLNEED)
    with ThreadPoolExecutor(threads) as pool:
        if not all(pool.map(whole, entries)):
            raise Unusable("its data is damaged")


def _hexadecimal(sums: npt.NDArray[np.uint64]) -> str:
    return sums.astype(">u8").tobytes().hex()
