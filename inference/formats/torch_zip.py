"""The members of a file of torch.save, found in its mapping and not unpacked.

    archive/data.pkl      the pickle: names, shapes, types
    archive/byteorder     "little" or "big"; older files have none
    archive/data/KEY      the bytes of one storage
    archive/version, …    not needed

PyTorch stores members as they are, so a compressed one is nothing torch.save has written, and
refusing it leaves no way to make a small file large. Everything is taken from the directory at the
file's end, checked against the members' own headers, and no two members may share a byte.

Format: torch/csrc/.../caffe2/serialize/inline_container.h; APPNOTE.TXT of PKWARE.
"""

from __future__ import annotations

import mmap
import struct
import zipfile
from typing import IO, Final, NamedTuple, cast

__all__ = ["Member", "ZipError", "read_members"]

MAX_MEMBERS: Final = 65_536
_MAX_DIRECTORY: Final = 16 << 20
_LOCAL: Final = struct.Struct("<4s22xHH")
_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800
_FOLDER: Final = 0x10


class ZipError(ValueError):
    """What is wrong with the zip file, in one line without its path."""


class Member(NamedTuple):
    """Where the bytes of a member lie in the file."""

    start: int
    size: int


def read_members(buffer: mmap.mmap) -> dict[str, Member]:
    """Returns the members below the one folder of the file, without its name.

    Raises:
        ZipError: it is no zip file of torch.save, or a damaged one.
    """
    if buffer[:4] != b"PK\x03\x04":
        raise ZipError(
            "it is no zip file of torch.save; bare pickles and what PyTorch wrote before 1.6 are "
            "not read"
        )
    infos, end = _directory(buffer)
    members: dict[str, Member] = {}
    folders: set[str] = set()
    taken = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if 0 <= info.header_offset < taken:
            raise ZipError(f"its member {_shown(info)} overlaps another")
        member = _member(buffer, info)
        taken = member.start + member.size
        if taken > end:
            raise ZipError(f"its member {_shown(info)} lies outside the file")
        folder, _, name = info.filename.partition("/")
        folders.add(folder)
        if name in members:
            raise ZipError(f"it has the member {_shown(info)} twice")
        members[name] = member
    if len(folders) != 1 or "data.pkl" not in members:
        raise ZipError("it is a zip file, but none of torch.save: it has no folder with data.pkl")
    return members


def _directory(buffer: mmap.mmap) -> tuple[list[zipfile.ZipInfo], int]:
    """Entries of the directory, and where it begins."""
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", _Bounded(buffer)))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise ZipError(f"its zip directory cannot be read: {error}") from error
    infos = archive.infolist()
    if len(infos) > MAX_MEMBERS:
        raise ZipError(f"it has {len(infos)} members, more than any model")
    return infos, archive.start_dir


class _Bounded:
    """A mapping as a file to read the directory from, however long that claims to be."""

    def __init__(self, buffer: mmap.mmap) -> None:
        self._buffer, self._at = buffer, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._buffer))[whence]
        if at < 0:
            raise OSError("it points before the beginning of the file")
        self._at = at
        return at

    def read(self, count: int = -1) -> bytes:
        end = len(self._buffer) if count < 0 else min(self._at + count, len(self._buffer))
        if end - self._at > _MAX_DIRECTORY:
            raise zipfile.BadZipFile("it is too long")
        data = self._buffer[self._at : end]
        self._at += len(data)
        return data


def _member(buffer: mmap.mmap, info: zipfile.ZipInfo) -> Member:
    """The member's bytes, once its own header says the same as the directory."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ZipError(f"its member {_shown(info)} is compressed, which torch.save never does")
    if info.flag_bits & _ENCRYPTED or info.external_attr & _FOLDER:
        raise ZipError(f"its member {_shown(info)} is encrypted or a folder")
    header = buffer[info.header_offset : info.header_offset + _LOCAL.size]
    if info.header_offset < 0 or len(header) < _LOCAL.size:
        raise ZipError(f"its member {_shown(info)} lies outside the file")
    magic, name_length, extra_length = _LOCAL.unpack(header)
    at = info.header_offset + _LOCAL.size
    name = buffer[at : at + name_length]
    encoding = "utf-8" if info.flag_bits & _UTF8 else "cp437"
    if magic != b"PK\x03\x04" or name != info.orig_filename.encode(encoding):
        raise ZipError(f"its member {_shown(info)} is not where the zip directory says")
    return Member(at + name_length + extra_length, info.file_size)


def _shown(info: zipfile.ZipInfo) -> str:
    return repr(info.filename[:60])
