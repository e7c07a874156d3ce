"""Reads a file of exported lines, and says which line is wrong before anything is done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.lines import (
    End,
    LinkLine,
    MemoryLine,
    NewerExport,
    Record,
    decoded,
    header_of,
)

__all__ = ["check_file", "read_records"]

_LONGEST = 64_000_000
_MARK = b"\xef\xbb\xbf"
_OFTEN = 1_000

Progress = Callable[[int], None]


@dataclass
class _Reader:
    """A file being read.

    Attributes:
        path: For messages.
        version: Of the file; 0 before the first line.
        records: Seen so far.
        ended: Whether the last line came.
        ids: Hashes of the memories' ids: a million take 60 MB, the ids themselves twice that.
    """

    path: Path
    version: int = 0
    records: int = 0
    ended: bool = False
    ids: set[int] = field(default_factory=set)

    def record(self, line: bytes) -> Record | None:
        """Returns what a line holds; None for the first and the last one."""
        if len(line) > _LONGEST:
            raise ValueError("longer than any record")
        if self.ended:
            raise ValueError("there is more after the line that ends the export")
        if self.version == 0:
            self.version = header_of(line.removeprefix(_MARK))
            return None
        found = decoded(line, self.version)
        if isinstance(found, End):
            self.ended = True
            if found.records != self.records:
                said = f"{found.records:,} records were exported, {self.records:,} are here"
                raise ValueError(said)
            return None
        self.records += 1
        return found

    def relate(self, record: Record) -> None:
        """Looks whether a link's memories came before it."""
        if isinstance(record, MemoryLine):
            self.ids.add(hash(record.memory.id))
        elif isinstance(record, LinkLine):
            for id in (record.from_id, record.to_id):
                if hash(id) not in self.ids:
                    raise ValueError(f"no memory of the file has the id {id}")

    def finish(self, number: int) -> None:
        """Looks whether the file is there to its end."""
        if self.version == 0:
            raise InvalidRequest(f"{self.path} is empty.", hint="Give an exported file.")
        if self.version > 1 and not self.ended:
            raise InvalidRequest(
                f"{self.path} is cut off after line {number}.", hint="Copy or export it again."
            )


def check_file(path: Path, progress: Progress | None = None) -> None:
    """Reads a whole file for its mistakes.

    Raises:
        InvalidRequest: A line is wrong, which is named, or the file is cut off.
        StorageError: It cannot be read.
    """
    for _ in _records(path, progress, check=True):
        pass


def read_records(path: Path, progress: Progress | None = None) -> Iterator[Record]:
    """Yields the records of a file that was checked; `progress` is called with bytes read."""
    return _records(path, progress, check=False)


def _records(path: Path, progress: Progress | None, *, check: bool) -> Iterator[Record]:
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} cannot be read: it is not a file.", hint="Give a file.")
        with path.open("rb") as file:
            yield from _lines(file, _Reader(path), progress, check)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}.", hint="Give an exported file."
        ) from error


def _lines(
    file: BinaryIO, reader: _Reader, progress: Progress | None, check: bool
) -> Iterator[Record]:
    number = read = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        read += len(line)
        if not line.strip():
            continue
        try:
            record = reader.record(line)
            if check and record is not None:
                reader.relate(record)
        except (ValueError, InvalidRequest) as error:
            raise _wrong(reader.path, number, error) from error
        if record is not None:
            yield record
        if progress is not None and number % _OFTEN == 0:
            progress(read)
    reader.finish(number)
    if progress is not None:
        progress(read)


def _wrong(path: Path, number: int, error: Exception) -> InvalidRequest:
    said = error.message if isinstance(error, InvalidRequest) else str(error)
    hint = "Correct the line and import again."
    if isinstance(error, NewerExport):
        hint = "Upgrade Ryzanstein and import again."
    return InvalidRequest(f"{path}:{number}: {said.rstrip('.')}.", hint=hint)
