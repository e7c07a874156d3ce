"""Making and changing files."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText, append_file, existing_name, read_text, replace_file
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool

# Nearness costs time by the square of a line's length.
_COMPARED = 100
_COMPARED_LINES = 1000


def _overwrites(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    return "" if arguments.get("append") else existing_name(ctx, arguments["path"])


@tool(
    title="Write a file",
    destructive=True,
    destroys=_overwrites,
    example={"path": "hello.py", "content": "print('hello')\n"},
    main=("content", "json"),
    forms={"path": "line", "content": "code"},
)
async def write_file(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file to write, such as src/app.py")],
    content: Annotated[str, Field(description="the whole new text of the file")],
    append: Annotated[bool, Field(description="add at the end, keep what is there")] = False,
) -> Output:
    """Write text to a file, or add to its end.

    Use when the task asks for a file to be made or changed. The file appears whole or not at all;
    missing directories are made.

    Raises:
        ToolError: The path is outside the allowed directories or cannot be written.
    """
    return await anyio.to_thread.run_sync(_write, ctx, path, content, append)


def _write(ctx: ToolContext, path: str, content: str, append: bool) -> Output:
    raw = content.encode("utf-8")
    roots = Roots(ctx.roots)
    with roots.place(path, make_parents=True) as place:
        found = place.status()
        if place.name == "." or (found is not None and not stat.S_ISREG(found.st_mode)):
            raise ToolError(f"{place.shown} is no regular file.", hint="Choose another name.")
        if append and found is not None:
            append_file(place, raw)
        else:
            replace_file(place, raw)
    done = "added to" if append and found else "replaced" if found else "wrote"
    data = {"path": place.shown, "bytes": len(raw), "existed": found is not None}
    made = () if found else (roots.name(place),)
    return Output(f"{done} {place.shown} ({len(raw):,} bytes)", data, made=made)


@tool(
    title="Edit a file",
    destructive=True,
    destroys=_overwrites,
    example={"path": "app.py", "old": "DEBUG = True", "new": "DEBUG = False"},
    main=("new", "json"),
    forms={"path": "line", "old": "code", "new": "code"},
)
async def edit_file(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file to change")],
    old: Annotated[
        str,
        Field(
            min_length=1,
            max_length=50_000,
            description="the text to replace, exactly as it is in the file, found there only once",
        ),
    ],
    new: Annotated[str, Field(max_length=100_000, description="what takes its place")],
    everywhere: Annotated[bool, Field(description="replace it wherever it is found")] = False,
) -> Output:
    """Replace one exact piece of text in a file and leave the rest as it is.

    Use for a change to a file that exists. The piece must be in the file exactly once, unless
    everywhere=true: take lines around it along to make it unique.

    Raises:
        ToolError: The text is not in the file, or more than once; or the file is no text.
    """
    return await anyio.to_thread.run_sync(_edit, ctx, path, old, new, everywhere)


def _edit(ctx: ToolContext, path: str, old: str, new: str, everywhere: bool) -> Output:
    with Roots(ctx.roots).place(path) as place:
        before = place.status()
        text, encoding = read_text(place)
        if encoding == "damaged":
            raise ToolError(f"{place.shown} is not UTF-8.", hint="Change it with run_python.")
        if "\r\n" in text and "\r" not in old:
            # Models write plain line ends whatever the file has.
            old, new = old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
        places = text.count(old)
        if places == 0:
            raise _not_found(place, text, old)
        if places > 1 and not everywhere:
            raise ToolError(
                f"This text is {places} times in {place.shown}, in lines {_lines_of(text, old)}.",
                hint="Take lines around it along, or give everywhere=true.",
            )
        changed = text.replace(old, new)
        raw = _encoded(place, changed, encoding)
        now = place.status()
        if before is None or now is None or now.st_mtime_ns != before.st_mtime_ns:
            raise ToolError(f"{place.shown} changed meanwhile.", hint="Read it again.")
        replace_file(place, raw)
        line = text.count("\n", 0, text.index(old)) + 1
    times = f"{places} places" if places > 1 else f"line {line}"
    data = {"path": place.shown, "replaced": places, "line": line, "bytes": len(raw)}
    return Output(f"changed {place.shown} at {times}", data)


def _encoded(place: Place, text: str, encoding: str) -> bytes:
    """Returns the bytes in the file's own encoding, with the mark it began with."""
    with os.fdopen(place.open_file(), "rb") as file:
        mark = file.read(3)
    if encoding == "utf-16":
        big = mark.startswith(b"\xfe\xff")
        return mark[:2] + text.encode("utf-16-be" if big else "utf-16-le")
    return (mark if mark == b"\xef\xbb\xbf" else b"") + text.encode("utf-8")


def _lines_of(text: str, old: str) -> str:
    numbers: list[str] = []
    at = text.find(old)
    while at >= 0 and len(numbers) < 10:
        numbers.append(str(text.count("\n", 0, at) + 1))
        at = text.find(old, at + len(old))
    return ", ".join(numbers)


def _not_found(place: Place, text: str, old: str) -> ToolError:
    """Says which line comes nearest: mostly it is white space or a letter's case that differs."""
    wanted = old.strip().partition("\n")[0].strip()
    lines = [line.strip()[:_COMPARED] for line in text.splitlines()[:_COMPARED_LINES]]
    near = difflib.get_close_matches(wanted[:_COMPARED], lines, 1, 0.6)
    if not near:
        return ToolError(f"This text is not in {place.shown}.", hint="Read the file first.")
    number = lines.index(near[0]) + 1
    return ToolError(
        f"This text is not in {place.shown}. Line {number} is nearest: {near[0]}",
        hint="Give the text exactly as it is there, with its spaces.",
    )


@tool(
    title="Make a folder",
    idempotent=True,
    example={"path": "reports/2026"},
    main=("path", "line"),
)
async def make_folder(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the folder, such as reports/2026")],
) -> Output:
    """Make a folder, with the folders above it where they are missing.

    Use when an empty folder is wanted; write_file makes the folders it needs by itself.

    Raises:
        ToolError: A file of that name is there, or a path outside the allowed directories.
    """
    return await anyio.to_thread.run_sync(_make_folder, ctx, path)


def _make_folder(ctx: ToolContext, path: str) -> Output:
    roots = Roots(ctx.roots)
    with roots.place(path, make_parents=True) as place:
        found = place.status()
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise ToolError(f"{place.shown} is a file.", hint="Choose another name.")
        if found is None:
            os.mkdir(place.target, dir_fd=place.directory)
        done = "is there already" if found else "made"
        data = {"path": place.shown, "existed": bool(found)}
        made = () if found else (roots.name(place),)
    return Output(f"{place.shown}: {done}", data, made=made)
