"""What a model remembers of one sequence: its key/value cache, in pages that copies share.

A page holds 64 positions of all layers (`kernels/ops.h` has its layout). Copying a state copies no
page: both states share them, and whichever writes into a shared page first copies that page.

A saved state is one file:

    RZSTATE1 | header length, u64 little-endian | header, JSON | pages, one after the other
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.kernels._program import PAGE, aligned

__all__ = ["State", "StateShape"]

_MAGIC: Final = b"RZSTATE1"
_HEADER_LIMIT: Final = 1 << 16

Page = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StateShape:
    """What states of one model have in common: whose they are, and how large a page is."""

    fingerprint: str
    page_bytes: int


class State:
    """The cache of one sequence; made by `Model.new_state`, filled by `Model.forward`.

    Attributes:
        length: positions that are filled.
        capacity: positions that it may ever hold.
    """

    def __init__(self, shape: StateShape, capacity: int) -> None:
        self.length = 0
        self.capacity = capacity
        self._shape = shape
        self._pages: list[Page] = []
        self._shared: list[bool] = []

    @property
    def nbytes(self) -> int:
        """Bytes of the pages in use, shared ones too."""
        return len(self._pages) * self._shape.page_bytes

    @property
    def shape(self) -> StateShape:
        """Says which model it belongs to."""
        return self._shape

    def reserve(self, count: int) -> npt.NDArray[np.uintp]:
        """Makes room for `count` more positions, and returns the pages' addresses.

        Raises:
            ValidationError: the capacity is too small.
        """
        wanted = self.length + count
        if wanted > self.capacity:
            raise ValidationError(
                f"{wanted} tokens do not fit a context of {self.capacity}.",
                hint="Shorten the text, or load the model with a larger context.",
            )
        for index in range(self.length // PAGE, len(self._pages)):
            if self._shared[index]:
                own = aligned(self._shape.page_bytes)
                own[:] = self._pages[index]
                self._pages[index], self._shared[index] = own, False
        for _ in range(len(self._pages), -(-wanted // PAGE)):
            self._pages.append(aligned(self._shape.page_bytes))
            self._shared.append(False)
        return np.array([page.ctypes.data for page in self._pages], np.uintp)

    def truncate(self, length: int) -> None:
        """Forgets every position from `length` on.

        Raises:
            ValidationError: it is negative or beyond what is filled.
        """
        if not 0 <= length <= self.length:
            raise ValidationError(f"A state of {self.length} tokens cannot be cut to {length}.")
        self.length = length
        kept = -(-length // PAGE)
        del self._pages[kept:], self._shared[kept:]

    def copy(self) -> State:
        """Returns an independent state with the same content; a page is copied when written."""
        other = State(self._shape, self.capacity)
        other.length = self.length
        self._shared = [True] * len(self._pages)
        other._pages, other._shared = list(self._pages), list(self._shared)
        return other

    def save(self, path: str | Path) -> None:
        """Writes the state to a file, which appears whole or not at all.

        Raises:
            InferenceError: the file cannot be written.
        """
        path = Path(path)
        pages = self._pages[: -(-self.length // PAGE)]
        header = json.dumps(
            {
                "fingerprint": self._shape.fingerprint,
                "page_bytes": self._shape.page_bytes,
                "length": self.length,
                "checksum": _checksum(pages),
            }
        ).encode()
        try:
            with tempfile.NamedTemporaryFile(
                dir=path.parent, prefix=path.name, delete=False
            ) as file:
                partial = Path(file.name)
                try:
                    file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
                    for page in pages:
                        file.write(page.data)
                    file.flush()
                    os.replace(partial, path)
                except BaseException:
                    partial.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise InferenceError(
                f"The state cannot be written to {path}: {error.strerror}."
            ) from error

    @classmethod
    def load(cls, path: str | Path, shape: StateShape, capacity: int) -> State:
        """Reads a saved state of the model with this shape.

        Raises:
            InferenceError: the file is missing, damaged, or of another model or weight form.
        """
        try:
            with Path(path).open("rb") as file:
                return _read(file, str(path), shape, capacity)
        except OSError as error:
            raise InferenceError(f"The state {path} cannot be read: {error.strerror}.") from error


def _read(file: BinaryIO, name: str, shape: StateShape, capacity: int) -> State:
    header = _read_header(file, name)
    if (
        header.get("fingerprint") != shape.fingerprint
        or header.get("page_bytes") != shape.page_bytes
    ):
        raise InferenceError(f"The state {name} belongs to another model or weight form.")
    length = header.get("length")
    if type(length) is not int or not 0 <= length <= capacity:
        raise InferenceError(f"The state {name} does not fit a context of {capacity} tokens.")
    state = State(shape, capacity)
    for _ in range(-(-length // PAGE)):
        page = aligned(shape.page_bytes)
        if file.readinto(page.data) != shape.page_bytes:  # type: ignore[attr-defined]
            raise InferenceError(f"The state {name} is cut short.")
        state._pages.append(page)
        state._shared.append(False)
    if file.read(1) or _checksum(state._pages) != header.get("checksum"):
        raise InferenceError(f"The state {name} is damaged: its checksum does not agree.")
    state.length = length
    return state


def _read_header(file: BinaryIO, name: str) -> dict[str, Any]:
    start = file.read(len(_MAGIC) + 8)
    size = int.from_bytes(start[len(_MAGIC) :], "little")
    if not start.startswith(_MAGIC) or len(start) < len(_MAGIC) + 8 or size > _HEADER_LIMIT:
        raise InferenceError(f"{name} is no saved state.")
    try:
        header = json.loads(file.read(size))
    except ValueError as error:
        raise InferenceError(f"The state {name} is damaged: its header cannot be read.") from error
    if not isinstance(header, dict):
        raise InferenceError(f"The state {name} is damaged: its header cannot be read.")
    return header


def _checksum(pages: list[Page]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for page in pages:
        digest.update(page.data)
    return digest.hexdigest()
