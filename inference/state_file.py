"""The file of a saved state: who it belongs to, what it holds, and whether it is whole.

    RZSTATE2              magic, the last character being the version of this format
    header length         u64 little-endian
    header checksum       u64 little-endian, of the header's bytes
    header                JSON, the fields of `Header`
    token ids             int32 [tokens], where has_ids says so
    fixed block           uint8 [fixed_bytes], where there are tokens
    pages                 uint8 [pages, page_bytes], only those that hold tokens

Numbers of the payload are in the machine's own byte order, which the header's `engine` covers. A
file appears whole or not at all, and is on the disk when the call returns.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.durable import replacing
from ryzanstein.errors import InferenceError
from ryzanstein.inference.kernels._checksum import checksum
from ryzanstein.inference.kernels._program import PAGE, aligned

__all__ = ["Block", "Content", "Header", "StateShape", "read_header", "read_state", "write_state"]

_MAGIC: Final = b"RZSTATE"
_VERSION: Final = b"2"
_START: Final = len(_MAGIC) + 1 + 16
_HEADER_LIMIT: Final = 1 << 14
_LABEL_LIMIT: Final = 200

Block = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StateShape:
    """What states of one model have in common: whose they are, and how large their parts are.

    Attributes:
        fingerprint: of the model's configuration and weights.
        page_bytes: of a page of 64 positions' keys and values; 0 without attention.
        fixed_bytes: of what does not grow with the sequence; 0 without recurrent layers.
        form: of the weights; the same tokens give another state in another form.
        engine: tells versions of the engine apart whose states mean something else.
        name: of the model, for messages.
    """

    fingerprint: str
    page_bytes: int
    fixed_bytes: int = 0
    form: str = ""
    engine: str = ""
    name: str = field(default="", compare=False)

    def pages(self, tokens: int) -> int:
        """Pages that so many tokens fill."""
        return -(-tokens // PAGE) if self.page_bytes else 0


@dataclass(frozen=True, slots=True)
class Header:
    """What a saved state says of itself: its model's shape, its tokens and its checksum.

    Attributes:
        label: what it was saved as, for people.
        checksum: of the payload: the checksum of its parts' checksums.
    """

    label: str
    name: str
    fingerprint: str
    form: str
    engine: str
    page_bytes: int
    fixed_bytes: int
    tokens: int
    has_ids: bool
    checksum: int

    def payload_bytes(self) -> int:
        """Bytes that follow the header."""
        pages = -(-self.tokens // PAGE) * self.page_bytes
        return 4 * self.tokens * self.has_ids + (self.fixed_bytes if self.tokens else 0) + pages


@dataclass(frozen=True, slots=True)
class Content:
    """What a state holds; `ids` is empty where they were not saved."""

    tokens: int
    ids: Ids
    fixed: Block | None
    pages: list[Block]

    def parts(self) -> list[Block]:
        """Its arrays in the file's order, as bytes."""
        fixed = [] if self.fixed is None else [self.fixed]
        return [self.ids.view(np.uint8), *fixed, *self.pages]


def write_state(path: Path, shape: StateShape, content: Content, label: str = "") -> None:
    """Writes a state.

    Raises:
        InferenceError: the file cannot be written.
    """
    header = Header(
        label=label[:_LABEL_LIMIT],
        name=shape.name,
        fingerprint=shape.fingerprint,
        form=shape.form,
        engine=shape.engine,
        page_bytes=shape.page_bytes,
        fixed_bytes=shape.fixed_bytes,
        tokens=content.tokens,
        has_ids=bool(len(content.ids)),
        checksum=_checksum(content.parts()),
    )
    text = json.dumps(asdict(header)).encode()
    start = np.array([len(text), checksum(np.frombuffer(text, np.uint8))], "<u8").tobytes()
    try:
        with replacing(path) as file:
            file.write(_MAGIC + _VERSION + start + text)
            for part in content.parts():
                file.write(part.data)
    except OSError as error:
        raise InferenceError(
            f"The state cannot be written to {path}: {error.strerror}.",
            hint="Choose a folder that exists and has room.",
        ) from error


def read_state(path: Path, shape: StateShape, capacity: int) -> Content:
    """Reads a state of the model with this shape.

    Raises:
        InferenceError: the file is missing, damaged, or of another model, weight form or version,
            or longer than the capacity; says which.
    """
    with _opened(path) as file:
        header = _header(file, path)
        _require_same(header, shape, path)
        if header.tokens > capacity:
            said = f"of {header.tokens:,} tokens does not fit a context of {capacity:,}"
            raise InferenceError(f"The state {path} {said}.")
        content = _empty(header)
        for part in content.parts():
            if file.readinto(part.data) != part.nbytes:  # type: ignore[attr-defined]
                raise InferenceError(f"The state {path} is cut short.")
    if _checksum(content.parts()) != header.checksum:
        raise InferenceError(f"The state {path} is damaged: its checksum does not agree.")
    return content


def read_header(path: Path) -> Header:
    """Reads what a saved state says of itself, and compares the file's size with it.

    Raises:
        InferenceError: the file is missing, no saved state, or damaged.
    """
    with _opened(path) as file:
        return _header(file, path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise InferenceError(f"The state {path} cannot be read: {error.strerror}.") from error


def _header(file: BinaryIO, path: Path) -> Header:
    start = file.read(_START)
    if not start.startswith(_MAGIC) or len(start) < _START:
        raise InferenceError(f"{path} is no saved state.")
    version = start[len(_MAGIC) : len(_MAGIC) + 1]
    if version != _VERSION:
        said = f"was saved in format {version.decode('ascii', 'replace')}"
        raise InferenceError(f"The state {path} {said}; this version reads {_VERSION.decode()}.")
    size, expected = (int(number) for number in np.frombuffer(start[-16:], "<u8"))
    text = file.read(size) if size <= _HEADER_LIMIT else b""
    if len(text) != size or checksum(np.frombuffer(text, np.uint8)) != expected:
        raise InferenceError(f"The state {path} is damaged: its header cannot be read.")
    header = _parsed(text, path)
    have, need = os.fstat(file.fileno()).st_size, _START + size + header.payload_bytes()
    if have < need:
        raise InferenceError(f"The state {path} is cut short: {have:,} of {need:,} bytes.")
    if have > need:
        raise InferenceError(f"The state {path} goes on for {have - need:,} bytes after its end.")
    return header


def _parsed(text: bytes, path: Path) -> Header:
    try:
        header = Header(**json.loads(text))
        wrong = [
            one.name
            for one in fields(header)
            if type(getattr(header, one.name)).__name__ != one.type
        ]
        if wrong or min(header.tokens, header.page_bytes, header.fixed_bytes) < 0:
            raise ValueError(", ".join(wrong) or "a size is negative")
    except (ValueError, TypeError, RecursionError) as error:
        said = f"its header makes no sense: {error}"
        raise InferenceError(f"The state {path} is damaged: {said}.") from error
    return header


def _require_same(header: Header, shape: StateShape, path: Path) -> None:
    if header.fingerprint != shape.fingerprint:
        said = f"{header.name or 'unnamed'}, not {shape.name or 'this one'}"
        raise InferenceError(f"The state {path} belongs to another model: {said}.")
    sizes = (header.page_bytes, header.fixed_bytes)
    if header.form != shape.form:
        said = f"{header.form or 'unnamed'}, not {shape.form or 'unnamed'}"
        raise InferenceError(f"The state {path} belongs to another weight form: {said}.")
    if header.engine != shape.engine or sizes != (shape.page_bytes, shape.fixed_bytes):
        raise InferenceError(f"The state {path} was saved by another version of the engine.")


def _empty(header: Header) -> Content:
    """Arrays for what the payload holds."""
    pages = -(-header.tokens // PAGE) if header.page_bytes else 0
    return Content(
        tokens=header.tokens,
        ids=np.empty(header.tokens if header.has_ids else 0, np.int32),
        fixed=aligned(header.fixed_bytes) if header.fixed_bytes and header.tokens else None,
        pages=[aligned(header.page_bytes) for _ in range(pages)],
    )


def _checksum(parts: Sequence[Block]) -> int:
    sums = np.array([checksum(part) for part in parts], np.uint64)
    return int(checksum(sums.view(np.uint8)))
