"""Reading files, and what can be told about them."""

from __future__ import annotations

import mimetypes
import os
import stat
import time
from typing import Annotated, Any, BinaryIO

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText, decoded, fingerprint, read_text
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool

_LARGEST_READ = 64 << 20
_LARGEST_HASHED = 512 << 20
_COMPARE_SECONDS = 10.0


@tool(
    title="Read a file",
    read_only=True,
    untrusted=True,
    example={"path": "notes.txt"},
    main=("path", "line"),
)
async def read_file(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file to read, such as src/app.py")],
    start: Annotated[int, Field(ge=1, le=10_000_000, description="first line")] = 1,
    lines: Annotated[int, Field(ge=1, le=5000, description="how many lines")] = 500,
) -> Output:
    """Read a text file.

    Use when you need to know what a file says. Long files come in parts: ask again with a later
    start.

    Raises:
        ToolError: No such file, a binary file, or a path outside the allowed directories.
    """
    return await anyio.to_thread.run_sync(_read, ctx, path, start, lines, abandon_on_cancel=True)


def _read(ctx: ToolContext, path: str, start: int, lines: int) -> Output:
    with Roots(ctx.roots).place(path) as place, os.fdopen(place.open_file(), "rb") as file:
        shown, size = place.shown, os.fstat(file.fileno()).st_size
        raw = file.read(min(size, _LARGEST_READ) + 1)
    text, encoding = decoded(raw, shown)
    every = text.splitlines(keepends=True)
    if start > max(1, len(every)):
        raise ToolError(f"{shown} has only {len(every)} lines.", hint="Use a smaller start.")
    part = every[start - 1 : start - 1 + lines]
    notes = []
    if len(part) < len(every):
        last = start + len(part) - 1
        more = f"; the next part: start={last + 1}" if last < len(every) else ""
        notes.append(f"lines {start}-{last} of {len(every)}{more}")
    if size > _LARGEST_READ:
        notes.append(f"only the first {_LARGEST_READ >> 20} MiB of {size:,} bytes were read")
    if encoding == "damaged":
        notes.append("some bytes are not UTF-8 and are shown as \ufffd")
    content = "".join(part)
    note = f"\n[{'; '.join(notes)}]" if notes else ""
    data = {"path": shown, "start": start, "lines": len(part), "total_lines": len(every)}
    return Output((content or "(the file is empty)") + note, {**data, "bytes": size})


@tool(
    title="Describe a file",
    read_only=True,
    example={"path": "report.pdf"},
    main=("path", "line"),
)
async def file_info(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file or directory")],
) -> Output:
    """Tell a file's size, kind, time of change, lines, encoding and SHA-256.

    Use when a question is about the file and not about what it says, or before a large or unknown
    one is opened. A directory is answered with how many entries it has.

    Raises:
        ToolError: There is no such file, or a path outside the allowed directories.
    """
    return await anyio.to_thread.run_sync(_info, ctx, path, abandon_on_cancel=True)


def _info(ctx: ToolContext, path: str) -> Output:
    with Roots(ctx.roots).place(path) as place:
        found = place.status()
        if found is not None and stat.S_ISDIR(found.st_mode):
            directory = place.open_directory()
            try:
                about = {"kind": "directory", "entries": len(os.listdir(directory))}
            finally:
                os.close(directory)
        else:
            with os.fdopen(place.open_file(), "rb") as file:
                found = os.fstat(file.fileno())
                about = _content(place.name, file, found.st_size)
        changed = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(found.st_mtime))
        data = {"path": place.shown, **about, "changed": changed, "mode": f"{found.st_mode:o}"[-3:]}
    return Output("\n".join(f"{name}: {value}" for name, value in data.items()), data)


def _content(name: str, file: BinaryIO, size: int) -> dict[str, Any]:
    about: dict[str, Any] = {"kind": "file", "bytes": size}
    about["type"] = mimetypes.guess_type(name)[0] or "unknown"
    start = file.read(_LARGEST_READ)
    try:
        text, encoding = decoded(start, name)
        about["encoding"] = "not UTF-8" if encoding == "damaged" else encoding
        if size <= _LARGEST_READ:
            about["lines"] = len(text.splitlines())
    except ToolError:
        about["encoding"] = "binary"
    file.seek(0)
    about["sha256"] = fingerprint(file, _LARGEST_HASHED) or "not computed, the file is too large"
    return about


@tool(
    title="Compare two files",
    read_only=True,
    untrusted=True,
    example={"path": "old.txt", "other": "new.txt"},
    main=("path", "json"),
)
async def compare_files(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the first file, the one before")],
    other: Annotated[PathText, Field(description="the second file, the one after")],
    context: Annotated[int, Field(ge=0, le=50, description="equal lines around a change")] = 3,
) -> Output:
    """Show how two files differ, line by line.

    Use when there are two versions of a file. Binary files are only told equal or different.

    Raises:
        ToolError: One of them does not exist, or is too large to be compared line by line.
    """
    read = anyio.to_thread.run_sync
    same, texts, shown = await read(_both, ctx, path, other, abandon_on_cancel=True)
    if same:
        return Output(f"{shown[0]} and {shown[1]} are equal.", {"equal": True})
    if texts is None:
        return Output(f"{shown[0]} and {shown[1]} differ; they are binary.", {"equal": False})
    found = await worker.call(
        "unified",
        {"old": texts[0], "new": texts[1], "names": shown, "context": context},
        seconds=_COMPARE_SECONDS,
    )
    note = f"[{found['added']} lines added, {found['removed']} removed]"
    text = found["diff"] or "They differ only in the ends of their lines or in their encoding."
    return Output(f"{text}\n{note}", {"equal": False, **found})


def _both(
    ctx: ToolContext, path: str, other: str
) -> tuple[bool, tuple[str, str] | None, list[str]]:
    """Returns whether the bytes are equal, the texts where both are texts, and the names."""
    roots = Roots(ctx.roots)
    with roots.place(path) as first, roots.place(other) as second:
        shown = [first.shown, second.shown]
        if _equal(first, second):
            return True, None, shown
        if _is_binary(first) or _is_binary(second):
            return False, None, shown
        return False, (read_text(first)[0], read_text(second)[0]), shown


def _equal(first: Place, second: Place) -> bool:
    with os.fdopen(first.open_file(), "rb") as one, os.fdopen(second.open_file(), "rb") as two:
        if os.fstat(one.fileno()).st_size != os.fstat(two.fileno()).st_size:
            return False
        if os.fstat(one.fileno()).st_size > _LARGEST_HASHED:
            raise ToolError(
                f"{first.shown} is larger than {_LARGEST_HASHED >> 20} MiB.",
                hint="Compare smaller files.",
            )
        return fingerprint(one, _LARGEST_HASHED) == fingerprint(two, _LARGEST_HASHED)


def _is_binary(place: Place) -> bool:
    with os.fdopen(place.open_file(), "rb") as file:
        start = file.read(8192)
    try:
        decoded(start, place.shown)
    except ToolError:
        return True
    return False
