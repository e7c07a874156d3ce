"""Linting, type-checking and formatting, in the sandbox: a project's settings can name plugins."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import sandbox
from ryzanstein.tools.bubblewrap import WORK
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.code import CodeText, staged, unfenced
from ryzanstein.tools.file_io import existing_name, replace_file
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.toolbox import tool

_CODE = "code.py"
_RUFF_SETTINGS = ("pyproject.toml", "ruff.toml", ".ruff.toml")
_MYPY_SETTINGS = ("pyproject.toml", "mypy.ini", ".mypy.ini", "setup.cfg")
_RUFF_SECONDS = 20.0
_MYPY_SECONDS = 90.0
_MOST_SHOWN = 100
_CANNOT = 2  # exit status of ruff and mypy where they could not do their work
_TYPE_FAULT = re.compile(
    r"(?P<path>.+?):(?P<line>\d+)(?::(?P<column>\d+))?: (?P<level>error|note): (?P<message>.*?)"
    r"(?:  \[(?P<code>[\w-]+)\])?"
)
_Path = Annotated[str, Field(max_length=4096, description="Python file or directory")]


@tool(
    title="Lint code",
    read_only=True,
    example={"path": "src/app.py"},
    main=("path", "line"),
    time_limit=60.0,
)
async def lint_code(
    ctx: ToolContext,
    path: _Path = "",
    code: CodeText = "",
    rules: Annotated[
        str,
        Field(
            max_length=200,
            pattern=r"^[A-Z0-9, ]*$",
            description="rules besides the project's own, such as E,F,B,UP,SIM",
        ),
    ] = "",
) -> Output:
    """Find mistakes in Python code with ruff: unused and undefined names, bad style.

    Use before code is handed on. It changes nothing; format_code sets the layout right.

    Raises:
        ToolError: No such file, or ruff could not work.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    more = ["--extend-select", rules.replace(" ", "")] if rules.strip() else []
    line = ["check", "--no-cache", "--output-format", "json", *more]
    result, _ = await _checked(ctx, "ruff", line, path, code)
    if result.exit_code not in {0, 1}:
        raise _failed("ruff", result)
    found = [
        {
            "path": str(one["filename"]).removeprefix(f"{WORK}/"),
            "line": one["location"]["row"],
            "column": one["location"]["column"],
            "code": one["code"] or "syntax",
            "message": one["message"],
            "fixable": one["fix"] is not None,
        }
        for one in json.loads(result.stdout or "[]")
    ]
    return _findings(found, "ruff finds nothing.")


@tool(
    title="Check types",
    read_only=True,
    example={"code": "def double(n: int) -> int:\n    return str(n)"},
    main=("code", "code", "python"),
    time_limit=120.0,
)
async def check_types(
    ctx: ToolContext,
    code: CodeText = "",
    path: _Path = "",
    strict: Annotated[bool, Field(description="also what is not annotated")] = False,
) -> Output:
    """Check Python types with mypy.

    Use to find wrong arguments, missing attributes and forgotten None without running the code.

    Raises:
        ToolError: No such file, or mypy could not work.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    line = ["--no-error-summary", "--show-column-numbers", "--no-color-output", "--no-pretty"]
    line += ["--cache-dir=/dev/null", "--ignore-missing-imports", *(["--strict"] * strict)]
    result, _ = await _checked(ctx, "mypy", line, path, code)
    matches = map(_TYPE_FAULT.fullmatch, result.stdout.splitlines())
    found: list[dict[str, Any]] = [
        {
            "path": match["path"],
            "line": int(match["line"]),
            "column": int(match["column"] or 1),
            "code": match["code"] or match["level"],
            "message": match["message"],
        }
        for match in matches
        if match is not None
    ]
    # A syntax error ends mypy like a failure of its own, but has a place.
    if result.exit_code not in {0, 1} and not found:
        raise _failed("mypy", result)
    return _findings(found, "mypy finds nothing.")


def _overwritten(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    return existing_name(ctx, arguments["path"])


@tool(
    title="Format code",
    destructive=True,
    example={"code": "x = {  'a':1 }"},
    main=("code", "code", "python"),
    reads_unless="write",
    destroys=_overwritten,
    time_limit=60.0,
)
async def format_code(
    ctx: ToolContext,
    code: CodeText = "",
    path: Annotated[str, Field(max_length=4096, description="a Python file")] = "",
    write: Annotated[bool, Field(description="true to change the file itself")] = False,
) -> Output:
    """Format Python code with ruff.

    Use to set the layout right. Of a file it shows the changes, and makes them with write=true.

    Raises:
        ToolError: No such file, or it is no Python.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    result, found = await _checked(ctx, "ruff", ["format", "--no-cache"], path, code)
    if result.exit_code != 0:
        raise _failed("ruff", result)
    name = path_in_sandbox = _CODE
    if path:
        with Roots(ctx.roots).place(path) as place:
            name = path_in_sandbox = place.shown
    if path_in_sandbox not in found:
        raise ToolError(f"{path} is no file.", hint="Name one Python file.")
    before = found[path_in_sandbox].decode("utf-8", "replace")
    after = result.files[path_in_sandbox].decode("utf-8", "replace")
    changed = before != after
    if not path:
        return Output(after.rstrip("\n"), {"code": after, "changed": changed})
    data = {"path": name, "changed": changed, "written": changed and write}
    if not changed:
        return Output(f"{name} is formatted already.", data)
    if write:
        await anyio.to_thread.run_sync(_write, ctx, path, found[path_in_sandbox], after)
        return Output(f"formatted {name}", data)
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), name, name, lineterm="", n=2
    )
    return Output("\n".join(lines), {**data, "code": after})


async def _checked(
    ctx: ToolContext, program: str, line: list[str], path: str, code: str
) -> tuple[sandbox.SandboxResult, dict[str, bytes]]:
    """Runs ruff or mypy on code or on files; returns how that went, and the files as they were."""
    if bool(path) == bool(code.strip()):
        raise ToolError("Give either path or code.", hint="path is a file or a directory.")
    given = {} if path else {_CODE: unfenced(code) + "\n" * (not unfenced(code).endswith("\n"))}
    settings = _RUFF_SETTINGS if program == "ruff" else _MYPY_SETTINGS
    found = await anyio.to_thread.run_sync(
        staged, ctx, given, (path,) if path else (), settings if path else ()
    )
    target = path.strip().strip("`'\"") if path else _CODE
    with_types = program == "mypy"
    limits = replace(ctx.limits, seconds=_MYPY_SECONDS if with_types else _RUFF_SECONDS)
    result = await sandbox.run(
        [sandbox.interpreter(packages=True), "-m", program, *line, "--", target],
        files=found,
        limits=limits,
        packages=True,
        collect=not with_types,
    )
    return result, found


def _failed(program: str, result: sandbox.SandboxResult) -> ToolError:
    if result.stopped:
        return ToolError(f"{program} was stopped: {result.stopped}.", hint="Check fewer files.")
    said = (result.stderr.strip() or result.stdout.strip()).splitlines() or ["it said nothing"]
    said = [part.removeprefix("error: ") for part in said if part.strip()]
    return ToolError(f"{program}: {' '.join(said[:3])[:500]}", hint="Correct the code or the path.")


def _findings(found: list[dict[str, Any]], nothing: str) -> Output:
    lines = [
        f"{one['path']}:{one['line']}:{one['column']}: {one['code']} {one['message']}"
        for one in found[:_MOST_SHOWN]
    ]
    if len(found) > _MOST_SHOWN:
        lines.append(f"[the first {_MOST_SHOWN} of {len(found)}]")
    return Output("\n".join(lines) or nothing, {"findings": found[:1000]}, ok=not found)


def _write(ctx: ToolContext, path: str, before: bytes, after: str) -> None:
    with Roots(ctx.roots).place(path) as place:
        with open(place.open_file(), "rb") as file:
            if file.read() != before:
                raise ToolError(f"{place.shown} changed meanwhile.", hint="Format it again.")
        replace_file(place, after.encode("utf-8"))
