"""Files inside the allowed directories: read, write, list and search."""

from __future__ import annotations

import codecs
import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool
from ryzanstein.tools.walk import Entry, Walker, glob_matcher

_PathText = Annotated[str, Field(min_length=1, max_length=4096)]
_LARGEST_READ = 64 << 20
_LARGEST_SEARCHED = 4 << 20
_SEARCH_SECONDS = 5.0


@tool(
    title="Read a file",
    read_only=True,
    untrusted=True,
    example={"path": "notes.txt"},
    main=("path", "line"),
)
async def read_file(
    ctx: ToolContext,
    path: Annotated[_PathText, Field(description="the file to read, such as src/app.py")],
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
    text, encoding = _decoded(raw, shown)
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


def _decoded(raw: bytes, shown: str) -> tuple[str, str]:
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):
            return raw.decode(encoding, "replace"), encoding
    if b"\0" in raw[:8192]:
        raise ToolError(
            f"{shown} is a binary file of {len(raw):,} bytes.",
            hint="Open it in run_python, or with query_sqlite where it is a database.",
        )
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace"), "damaged"


@tool(
    title="Write a file",
    destructive=True,
    example={"path": "hello.py", "content": "print('hello')\n"},
    main=("content", "json"),
    forms={"path": "line", "content": "code"},
)
async def write_file(
    ctx: ToolContext,
    path: Annotated[_PathText, Field(description="the file to write, such as src/app.py")],
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
    with Roots(ctx.roots).place(path, make_parents=True) as place:
        found = place.status()
        if place.name == "." or (found is not None and not stat.S_ISREG(found.st_mode)):
            raise ToolError(f"{place.shown} is no regular file.", hint="Choose another name.")
        if append and found is not None:
            _append(place, raw)
        else:
            _replace(place, raw, stat.S_IMODE(found.st_mode) if found else None)
    done = "added to" if append and found else "replaced" if found else "wrote"
    data = {"path": place.shown, "bytes": len(raw), "existed": found is not None}
    return Output(f"{done} {place.shown} ({len(raw):,} bytes)", data)


def _append(place: Place, raw: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(place.target, flags, dir_fd=place.directory), "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _replace(place: Place, raw: bytes, mode: int | None) -> None:
    """Writes beside the file, then renames: a crash leaves the old file or the new one."""
    beside = f".{place.name[:100]}.{secrets.token_hex(6)}"
    target = beside if place.directory is not None else str(place.path.with_name(beside))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(target, flags, 0o666, dir_fd=place.directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
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


@tool(
    title="List files",
    read_only=True,
    example={"pattern": "*.py"},
    main=("pattern", "line"),
)
async def list_files(
    ctx: ToolContext,
    pattern: Annotated[
        str, Field(max_length=200, description="which names, such as *.py or src/**/*.txt")
    ] = "*",
    path: Annotated[_PathText, Field(description="the directory to look in")] = ".",
    hidden: Annotated[bool, Field(description="also names that begin with a dot")] = False,
    limit: Annotated[int, Field(ge=1, le=2000, description="how many at most")] = 200,
) -> Output:
    """List the files in a directory and below, with sizes.

    Use when you need to know which files there are, how many, or what they are called.

    Raises:
        ToolError: No such directory, or a path outside the allowed directories.
    """
    return await anyio.to_thread.run_sync(
        _list, ctx, pattern, path, hidden, limit, abandon_on_cancel=True
    )


def _list(ctx: ToolContext, pattern: str, path: str, hidden: bool, limit: int) -> Output:
    matches = glob_matcher(pattern)
    rows: list[dict[str, Any]] = []
    count = 0
    with Roots(ctx.roots).place(path) as place:
        walker = Walker(place, hidden=hidden)
        for entry in walker:
            if not entry.is_directory and matches(entry.path):
                count += 1
                if count <= limit:
                    rows.append({"path": _joined(place, entry), "bytes": _size(entry)})
        shown = place.shown
    text = "\n".join(f"{row['path']}  {row['bytes']:,} bytes" for row in rows)
    notes = [f"{count} file{'s' * (count != 1)} match {pattern} in {shown}"]
    if count > limit:
        notes.append(f"the first {limit} are shown")
    if walker.stopped:
        notes.append(walker.stopped)
    data = {"files": rows, "count": count, "complete": not walker.stopped and count <= limit}
    return Output(f"{text}\n[{'; '.join(notes)}]".lstrip(), data)


def _joined(place: Place, entry: Entry) -> str:
    return entry.path if place.shown == "." else f"{place.shown}/{entry.path}"


def _size(entry: Entry) -> int:
    with contextlib.suppress(OSError):
        return os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False).st_size
    return 0


@tool(
    title="Search in files",
    read_only=True,
    untrusted=True,
    example={"pattern": "def main", "files": "*.py"},
    main=("pattern", "line"),
)
async def search_files(
    ctx: ToolContext,
    pattern: Annotated[
        str, Field(min_length=1, max_length=500, description="text or regular expression to find")
    ],
    path: Annotated[_PathText, Field(description="the file or directory to search")] = ".",
    files: Annotated[str, Field(max_length=200, description="only in names such as *.py")] = "*",
    ignore_case: Annotated[bool, Field(description="treat A and a as the same")] = False,
    literal: Annotated[bool, Field(description="pattern is plain text, not an expression")] = False,
    limit: Annotated[int, Field(ge=1, le=1000, description="how many lines at most")] = 50,
) -> Output:
    """Find the lines in files that contain a text or match a pattern.

    Use when you know a word but not which file it is in.

    Raises:
        ToolError: The expression cannot be read or takes too long, or no such path.
    """
    return await anyio.to_thread.run_sync(
        _search, ctx, pattern, path, files, ignore_case, literal, limit, abandon_on_cancel=True
    )


def _search(
    ctx: ToolContext,
    pattern: str,
    path: str,
    files: str,
    ignore_case: bool,
    literal: bool,
    limit: int,
) -> Output:
    compiled = _compiled(pattern, ignore_case, literal)
    matches = glob_matcher(files)
    hits: list[dict[str, Any]] = []
    searched = skipped = 0
    with Roots(ctx.roots).place(path) as place:
        walker = Walker(place, seconds=_SEARCH_SECONDS)
        for shown, descriptor in _opened(place, walker, matches):
            with os.fdopen(descriptor, "rb") as file:
                raw = file.read(_LARGEST_SEARCHED + 1)
            if len(raw) > _LARGEST_SEARCHED or b"\0" in raw[:8192]:
                skipped += 1
                continue
            searched += 1
            hits += _lines(shown, raw, compiled, walker, limit - len(hits))
            if len(hits) >= limit:
                break
    notes = [f"found lines: {len(hits)}; files searched: {searched}"]
    if len(hits) >= limit:
        notes.append(f"stopped at {limit}")
    if skipped:
        notes.append(f"{skipped} binary or very large files left out")
    if walker.stopped:
        notes.append(walker.stopped)
    text = "\n".join(f"{hit['path']}:{hit['line']}: {hit['text']}" for hit in hits)
    data = {"hits": hits, "searched": searched, "skipped": skipped}
    return Output(f"{text}\n[{'; '.join(notes)}]".lstrip(), data)


def _compiled(pattern: str, ignore_case: bool, literal: bool) -> Any:
    import regex

    flags = regex.IGNORECASE if ignore_case else 0
    try:
        return regex.compile(regex.escape(pattern) if literal else pattern, flags)
    except regex.error as error:
        raise ToolError(
            f"{pattern!r} is no regular expression: {error}.",
            hint="Give literal=true to look for it as plain text.",
        ) from error


def _opened(place: Place, walker: Walker, matches: Any) -> Iterator[tuple[str, int]]:
    found = place.status()
    if found is not None and not stat.S_ISDIR(found.st_mode):
        yield place.shown, place.open_file()
        return
    for entry in walker:
        if not entry.is_directory and matches(entry.path):
            descriptor = entry.open_file()
            if descriptor is not None:
                yield _joined(place, entry), descriptor


def _lines(
    shown: str, raw: bytes, compiled: Any, walker: Walker, room: int
) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = []
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        try:
            # The regex package looks at the clock while it matches, so no pattern runs for ever.
            seconds = max(0.001, walker.remaining())
            found = compiled.search(line, timeout=seconds, concurrent=True)
        except TimeoutError:
            raise ToolError(
                f"The pattern took longer than {_SEARCH_SECONDS:g} s.",
                hint="Use a simpler expression without nested repeats, or literal=true.",
            ) from None
        if found:
            hits.append({"path": shown, "line": number, "text": line.strip()[:300]})
            if len(hits) >= room:
                break
    return hits
