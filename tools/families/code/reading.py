"""Searching and outlining Python by its syntax."""

from __future__ import annotations

import os
import re
import stat
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.code import CodeText, unfenced
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool
from ryzanstein.tools.walk import Walker

_SECONDS = 20.0
_LARGEST_FILE = 1 << 20
_ROOM = 16 << 20
_MOST_FILES = 2000
_MOST_OUTLINED = 50
_MOST_ITEMS = 500


@tool(
    title="Search by syntax",
    read_only=True,
    example={"name": "parse_*", "kind": "function"},
    main=("name", "line"),
)
async def search_syntax(
    ctx: ToolContext,
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="a name such as load, json.dumps, or a pattern such as parse_*",
        ),
    ],
    kind: Annotated[
        Literal[
            "any", "function", "class", "call", "import", "assignment", "decorator", "argument"
        ],
        Field(description="as what it occurs; function and class are their definitions"),
    ] = "any",
    path: Annotated[
        str, Field(max_length=4096, description="Python file or directory to search")
    ] = ".",
    limit: Annotated[int, Field(ge=1, le=500, description="how many places at most")] = 100,
) -> Output:
    """Find where a Python name is defined, called, imported or assigned.

    Use to find a definition or all callers: comments and texts do not match, as they would in
    search_files.

    Raises:
        ToolError: No such file, or too much to search.
    """
    wanted = name.strip().strip("`'\"()")
    files = await anyio.to_thread.run_sync(_python_files, ctx, path, _literal(wanted))
    found = await worker.call(
        "find_syntax",
        {"files": files, "kind": kind, "name": wanted, "limit": limit},
        seconds=_SECONDS,
    )
    lines = [f"{hit['path']}:{hit['line']}: [{hit['kind']}] {hit['text']}" for hit in found["hits"]]
    if not found["complete"]:
        lines.append(f"[the first {limit} of more]")
    if found["unread"]:
        lines.append(f"[not Python: {', '.join(found['unread'][:10])}]")
    return Output("\n".join(lines) or f"{wanted} occurs nowhere as {kind}.", found)


@tool(
    title="Outline code",
    read_only=True,
    example={"path": "src/app.py"},
    main=("path", "line"),
)
async def outline_code(
    ctx: ToolContext,
    path: Annotated[str, Field(max_length=4096, description="Python file or directory")] = "",
    code: CodeText = "",
) -> Output:
    """List the classes and functions of Python code with signatures and lines.

    Use to get to know a file or a package before reading it.

    Raises:
        ToolError: No such file, or it is no Python.
    """
    if bool(path) == bool(code.strip()):
        raise ToolError("Give either path or code.", hint="path is a file or a directory.")
    files = {"code": unfenced(code)}
    if path:
        files = await anyio.to_thread.run_sync(_python_files, ctx, path, "")
    rest = len(files) - _MOST_OUTLINED
    files = dict(list(files.items())[:_MOST_OUTLINED])
    found = await worker.call("outline", {"files": files}, seconds=_SECONDS)
    if found["unread"] and not found["files"]:
        raise ToolError(
            f"{', '.join(found['unread'][:5])} cannot be parsed as Python.",
            hint="Use lint_code to see where it is wrong.",
        )
    lines: list[str] = []
    for name, items in found["files"].items():
        lines.append(f"{name}:")
        for item in items[:_MOST_ITEMS]:
            about = f"  # {item['summary']}" if item["summary"] else ""
            where = f"{item['line']}-{item['end']}"
            lines.append(f"{'  ' * (item['depth'] + 1)}{where}: {item['text']}{about}")
    if found["unread"]:
        lines.append(f"[not Python: {', '.join(found['unread'][:10])}]")
    if rest > 0:
        lines.append(f"[and {rest} more files; name a narrower path]")
    return Output("\n".join(lines), found)


def _literal(pattern: str) -> str:
    """The longest part of a name that has to stand in a file just so."""
    parts = re.split(r"[*?]|\[[^\]]*\]|\.", pattern)
    return max(parts, key=len)


def _python_files(ctx: ToolContext, path: str, needed: str) -> dict[str, str]:
    """Reads the Python files of a path that hold a text."""
    found: dict[str, str] = {}
    room = _ROOM
    with Roots(ctx.roots).place(path) as place:
        status = place.status()
        if status is None or not stat.S_ISDIR(status.st_mode):
            return {place.shown: _read(place.open_file())}
        for entry in Walker(place):
            descriptor = None
            if not entry.is_directory and entry.name.endswith((".py", ".pyi")):
                descriptor = entry.open_file()
            if descriptor is None:
                continue
            text = _read(descriptor)
            if needed not in text:
                continue
            room -= len(text)
            if room < 0 or len(found) >= _MOST_FILES:
                raise ToolError("There is too much code.", hint="Name a narrower path.")
            found[_joined(place, entry.path)] = text
    return found


def _joined(place: Place, path: str) -> str:
    return path if place.shown == "." else f"{place.shown}/{path}"


def _read(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LARGEST_FILE).decode("utf-8-sig", "replace")
