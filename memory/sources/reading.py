"""Reads the text of a file that somebody gives, and says in one line why one cannot be read."""

from __future__ import annotations

import codecs
from pathlib import Path

from ryzanstein.errors import InvalidRequest, StorageError

__all__ = ["read_bytes", "read_text"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path, most: int) -> bytes:
    """Returns a file's bytes.

    Raises:
        InvalidRequest: It is empty, no regular file, or larger than `most` bytes.
        StorageError: It cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise InvalidRequest(f"{path} is not a file.", hint="Give the path of one file.")
        size = path.stat().st_size
        if size > most:
            raise InvalidRequest(
                f"{path} has {size / 1e6:.0f} MB; at most {most / 1e6:.0f} MB are read.",
                hint="Split it into parts.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}.", hint="Give a file that can be read."
        ) from error
    if not data.strip():
        raise InvalidRequest(f"{path} is empty.", hint="Give a file that holds text.")
    return data


def read_text(path: Path, most: int, encoding: str | None = None) -> str:
    """Returns a file's text, its lines ended by line feeds.

    Args:
        path: The file.
        most: Bytes it may have.
        encoding: None means UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        InvalidRequest: As `read_bytes`; it is binary, or not in this encoding.
        StorageError: It cannot be read.
    """
    return decoded(read_bytes(path, most), str(path), encoding)


def decoded(data: bytes, name: str, encoding: str | None = None) -> str:
    """Returns the text that bytes hold; the errors are those of `read_text`."""
    marked = next((code for mark, code in _MARKS if data.startswith(mark)), None)
    if encoding is None and marked is None and b"\x00" in data[:8192]:
        raise InvalidRequest(f"{name} is binary, not text.", hint="Unpack it, or save it as text.")
    try:
        text = data.decode(encoding or marked or "utf-8")
    except LookupError as error:
        raise InvalidRequest(
            f"{encoding!r} is no encoding.", hint="Use a name as utf-8 or latin-1."
        ) from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(
            f"{name}:{line}: the bytes are not {encoding or marked or 'UTF-8'} text.",
            hint="Save it as UTF-8, or say which encoding it has.",
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
