"""Looking into archives: zip, and tar with or without compression."""

from __future__ import annotations

import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Annotated, Any, BinaryIO

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText, decoded
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.toolbox import tool

_MOST_MEMBERS = 50_000
_LARGEST_DIRECTORY = 32 << 20
_TAIL = 1 << 17
_END = re.compile(rb"PK\x05\x06.{8}(.{4})", re.DOTALL)
_END_64 = re.compile(rb"PK\x06\x06.{36}(.{8})", re.DOTALL)
_LARGEST_MEMBER = 4 << 20
_LARGEST_TAR = 1 << 30
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    size: int
    is_file: bool


@tool(
    title="Look into an archive",
    read_only=True,
    untrusted=True,
    example={"path": "backup.zip"},
    main=("path", "line"),
)
async def read_archive(
    ctx: ToolContext,
    path: Annotated[
        PathText, Field(description="a .zip, .tar, .tar.gz, .tgz, .tar.bz2 or .tar.xz")
    ],
    member: Annotated[
        str, Field(max_length=1000, description="a text file in it to read; empty lists all")
    ] = "",
    limit: Annotated[int, Field(ge=1, le=2000, description="how many names at most")] = 200,
) -> Output:
    """List what is in a zip or tar archive, or read one text file in it.

    Use for .zip, .tar and .tar.gz files. Nothing is unpacked to the disk.

    Raises:
        ToolError: It is no archive or a damaged one, or has no such member.
    """
    return await anyio.to_thread.run_sync(
        _read_archive, ctx, path, member.strip(), limit, abandon_on_cancel=True
    )


def _read_archive(ctx: ToolContext, path: str, member: str, limit: int) -> Output:
    with Roots(ctx.roots).place(path) as place, os.fdopen(place.open_file(), "rb") as file:
        shown = place.shown
        try:
            with _opened(file, shown) as archive:
                members = archive.members()
                if member:
                    return _member_text(archive, members, member, shown)
        except (*_BROKEN, RuntimeError, ValueError) as error:
            raise ToolError(f"{shown} cannot be read: {error}.", hint="Check the file.") from error
    files = [one for one in members if one.is_file]
    rows = [{"name": one.name, "bytes": one.size} for one in files[:limit]]
    more = f", the first {limit} are shown" if len(files) > limit else ""
    text = "\n".join(f"{row['name']}  {row['bytes']:,} bytes" for row in rows)
    total = sum(one.size for one in files)
    note = f"[{len(files)} files of {total:,} bytes unpacked{more}]"
    data = {"files": rows, "count": len(files), "bytes": total}
    return Output(f"{text}\n{note}".lstrip(), data)


def _member_text(archive: _Archive, members: list[_Member], name: str, shown: str) -> Output:
    found = next((one for one in members if one.name == name and one.is_file), None)
    if found is None:
        guess = did_you_mean(name, [one.name for one in members[:2000]])
        raise ToolError(f"{shown} has no file {name}.", hint=guess or "Leave member out to list.")
    with archive.open(name) as stream:
        # What the archive says of its size may be a lie; what is read is bounded here.
        raw = stream.read(_LARGEST_MEMBER + 1)
    text, _ = decoded(raw[:_LARGEST_MEMBER], name)
    note = f"\n[only the first {_LARGEST_MEMBER >> 20} MiB]" if len(raw) > _LARGEST_MEMBER else ""
    return Output((text or "(the file is empty)") + note, {"name": name, "bytes": len(raw)})


class _Archive:
    """What zip and tar have in common."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def members(self) -> list[_Member]:
        """Lists what is in it.

        Raises:
            ToolError: There are too many.
        """
        found: list[_Member] = []
        for one in self._each():
            found.append(one)
            if len(found) > _MOST_MEMBERS:
                raise ToolError(
                    f"The archive holds more than {_MOST_MEMBERS:,} files.",
                    hint="Use another tool.",
                )
        return found

    def _each(self) -> Iterator[_Member]:
        raise NotImplementedError

    def open(self, name: str) -> IO[bytes]:
        """Opens a member for reading."""
        raise NotImplementedError


class _Zip(_Archive):
    def _each(self) -> Iterator[_Member]:
        for one in self._file.infolist():
            yield _Member(one.filename, one.file_size, not one.is_dir())

    def open(self, name: str) -> IO[bytes]:
        stream: IO[bytes] = self._file.open(name)
        return stream


class _Tar(_Archive):
    def _each(self) -> Iterator[_Member]:
        read = 0
        for one in self._file:
            read += one.size
            if read > _LARGEST_TAR:  # to list is to unpack: a small file may hold terabytes
                raise ToolError(
                    f"The archive holds more than {_LARGEST_TAR >> 30} GiB.",
                    hint="Use another one.",
                )
            yield _Member(one.name, one.size, one.isfile())

    def open(self, name: str) -> IO[bytes]:
        stream = self._file.extractfile(name)
        if stream is None:
            raise ToolError(f"{name} is no file.", hint="Choose another member.")
        opened: IO[bytes] = stream
        return opened


def _directory_bytes(file: BinaryIO) -> int:
    """Returns the size of a zip's directory, which zipfile would read whole into memory.

    It stands in the record at the end of the file, and for large ones in a second record (4.3.14
    and 4.3.16 of PKWARE's APPNOTE.TXT).
    """
    file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
    tail = file.read(_TAIL)
    sizes = [
        int.from_bytes(found[1], "little")
        for pattern in (_END, _END_64)
        for found in pattern.finditer(tail)
    ]
    return max((size for size in sizes if size != 0xFFFFFFFF), default=0)


@contextmanager
def _opened(file: BinaryIO, shown: str) -> Iterator[_Archive]:
    if zipfile.is_zipfile(file):
        if _directory_bytes(file) > _LARGEST_DIRECTORY:
            raise ToolError(f"{shown} holds too many files.", hint="Use a smaller archive.")
        with zipfile.ZipFile(file) as zipped:
            yield _Zip(zipped)
        return
    file.seek(0)
    try:
        archive = tarfile.open(fileobj=file, mode="r:*")
    except tarfile.ReadError:
        raise ToolError(
            f"{shown} is no zip or tar archive.",
            hint="Use read_file, or file_info to see its kind.",
        ) from None
    with archive:
        yield _Tar(archive)
