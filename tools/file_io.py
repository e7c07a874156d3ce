"""Reading texts and writing files whole, at a place that `paths.py` has opened."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Annotated, BinaryIO

from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import ToolContext
from ryzanstein.tools.paths import Place, Roots

__all__ = [
    "PathText",
    "append_file",
    "copy_bytes",
    "decoded",
    "existing_name",
    "fingerprint",
    "given_text",
    "keep_new",
    "read_text",
    "replace_file",
    "replacing",
    "require_free",
    "require_new",
]

PathText = Annotated[str, Field(min_length=1, max_length=4096)]
_LARGEST_TEXT = 4 << 20
_CHUNK = 1 << 20


def decoded(raw: bytes, shown: str) -> tuple[str, str]:
    """Returns the text and its encoding: utf-8, utf-16, or "damaged" where bytes were replaced.

    Raises:
        ToolError: It is no text.
    """
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):
            return raw.decode(encoding, "replace"), encoding
    if b"\0" in raw[:8192]:
        raise ToolError(
            f"{shown} is a binary file of {len(raw):,} bytes.",
            hint="Open it in run_python, query_sqlite (databases) or read_archive (zip, tar).",
        )
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace"), "damaged"


def read_text(place: Place, most: int = _LARGEST_TEXT) -> tuple[str, str]:
    """Returns a whole text file and its encoding, as `decoded` does.

    Raises:
        ToolError: There is none, it is no text, or it has more bytes than `most`.
    """
    with os.fdopen(place.open_file(), "rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise ToolError(
            f"{place.shown} is larger than {most >> 20} MiB.", hint="Work on a smaller part of it."
        )
    return decoded(raw, place.shown)


def given_text(ctx: ToolContext, text: str, path: str) -> str:
    """Returns the text, or that of the file where a path is given in its stead.

    Raises:
        ToolError: Both are given, or neither; or the file cannot be read.
    """
    if bool(text) == bool(path):
        raise ToolError(
            "Give either text or path.", hint="text is the text itself, path a file that holds it."
        )
    if text:
        return text
    with Roots(ctx.roots).place(path) as place:
        return read_text(place)[0]


def existing_name(ctx: ToolContext, path: str, *, follow: bool = True) -> str:
    """Returns what the thing at a path is called, or nothing where none can be reached.

    Args:
        ctx: What is allowed.
        path: Its path.
        follow: Whether a link means what it leads to, or itself.
    """
    with contextlib.suppress(ToolError):
        roots = Roots(ctx.roots)
        with roots.place(path, follow=follow) as place:
            return "" if place.status() is None else roots.name(place)
    return ""


def append_file(place: Place, raw: bytes) -> None:
    """Adds bytes to the end of a file that exists."""
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(place.target, flags, dir_fd=place.directory), "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def replace_file(place: Place, raw: bytes) -> None:
    """Makes the file have these bytes, keeping its mode where it exists."""
    with replacing(place) as file:
        file.write(raw)


@contextlib.contextmanager
def replacing(place: Place, mode: int | None = None) -> Iterator[BinaryIO]:
    """Writes beside the file, then renames: a crash leaves the old file or the new one.

    Args:
        place: Where the file shall be.
        mode: Its permissions; None keeps those it has.

    Raises:
        ToolError: Something that is no regular file is there.
    """
    found = place.status()
    if place.name == "." or (found is not None and not stat.S_ISREG(found.st_mode)):
        raise ToolError(f"{place.shown} is no regular file.", hint="Choose another name.")
    if mode is None and found is not None:
        mode = stat.S_IMODE(found.st_mode)
    beside = f".{place.name[:100]}.{secrets.token_hex(6)}"
    target = beside if place.directory is not None else str(place.path.with_name(beside))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(target, flags, 0o666, dir_fd=place.directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.chmod(file.fileno() if os.chmod in os.supports_fd else target, mode)
            os.fsync(file.fileno())
        os.replace(target, place.target, src_dir_fd=place.directory, dst_dir_fd=place.directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(target, dir_fd=place.directory)
        raise
    if place.directory is not None:
        os.fsync(place.directory)


def copy_bytes(source: BinaryIO, target: BinaryIO, most: int, shown: str) -> int:
    """Copies the rest of one file into another and returns how many bytes that were.

    Raises:
        ToolError: There are more than `most`.
    """
    done = 0
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        if done > most:
            raise ToolError(
                f"{shown} is larger than {most >> 20} MiB.", hint="Choose something smaller."
            )
        target.write(chunk)
    return done


def require_free(place: Place) -> None:
    """Refuses a place where something is already.

    Raises:
        ToolError: There is.
    """
    if place.name == "." or place.status() is not None:
        raise ToolError(f"{place.shown} exists already.", hint="Choose another name.")


def require_new(ctx: ToolContext, path: str) -> None:
    """Refuses a path where no new file can be made; the folders above it are made.

    Raises:
        ToolError: Something is there, or it is outside.
    """
    with Roots(ctx.roots).place(path, make_parents=True) as place:
        require_free(place)


def keep_new(ctx: ToolContext, source: BinaryIO, path: str, most: int) -> tuple[str, int]:
    """Copies the rest of a file to a new file inside the roots; returns its path and bytes.

    Raises:
        ToolError: Something is there, it is outside, or there are more bytes than `most`.
    """
    roots = Roots(ctx.roots)
    with roots.place(path, make_parents=True) as place:
        require_free(place)
        with replacing(place) as target:
            size = copy_bytes(source, target, most, place.shown)
            require_free(place)
        return roots.name(place), size


def fingerprint(file: BinaryIO, most: int) -> str:
    """Returns the SHA-256 of the rest of a file in hex; nothing where it is over `most` bytes."""
    digest = hashlib.sha256()
    done = 0
    while chunk := file.read(_CHUNK):
        done += len(chunk)
        if done > most:
            return ""
        digest.update(chunk)
    return digest.hexdigest()
