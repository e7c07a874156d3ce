"""Finding files by name and lines by what they say."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool
from ryzanstein.tools.walk import Entry, Walker, glob_matcher

_LARGEST_SEARCHED = 4 << 20
_SEARCH_SECONDS = 5.0


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
    path: Annotated[PathText, Field(description="the directory to look in")] = ".",
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
    found = entry.status()
    return found.st_size if found else 0


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
    path: Annotated[PathText, Field(description="the file or directory to search")] = ".",
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
