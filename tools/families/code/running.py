"""Programs and tests, run in the sandbox."""

from __future__ import annotations

import ast
import importlib.resources
import json
import re
from dataclasses import replace
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import sandbox
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.code import CodeText, sources, staged, unfenced
from ryzanstein.tools.limits import Limits
from ryzanstein.tools.staging import needs_packages
from ryzanstein.tools.toolbox import tool

_SHOWN_FILE = 2000
_RUNNER = ".run.py"
_PYTEST = (
    "-q",
    "--no-header",
    "--tb=short",
    "--color=no",
    "--maxfail=10",
    "--import-mode=prepend",
    "-p",
    "no:cacheprovider",
)
_NO_TESTS = 5  # pytest's exit status
_Files = Annotated[
    tuple[Annotated[str, Field(max_length=4096)], ...],
    Field(max_length=50, description="further files it needs; those it names are there already"),
]


_Select = Annotated[
    str, Field(max_length=200, pattern=r"^[\w .\[\]-]*$", description="only tests so named")
]
_REPORT = ".coverage.json"
_COVER = f"""\
python=$1; omit=$2; shift 2
"$python" -m coverage run --source=. --omit="$omit" -m pytest "$@"
status=$?
"$python" -m coverage json -q -o {_REPORT} >/dev/null 2>&1
exit $status
"""


@tool(
    title="Run Python",
    read_only=True,
    example={"code": "print(sum(range(10)))"},
    main=("code", "code", "python"),
    time_limit=150.0,
)
async def run_python(
    ctx: ToolContext,
    code: Annotated[
        str,
        Field(min_length=1, max_length=100_000, description="the Python program; print results"),
    ],
    stdin: Annotated[str, Field(max_length=1_000_000, description="what input() reads")] = "",
    files: _Files = (),
    seconds: Annotated[int, Field(ge=1, le=120, description="time limit")] = 10,
) -> Output:
    """Run a Python program and see what it prints.

    Use to compute, to work with dates and text, to read data files, or to try code. It runs in a
    sandbox: no network, and files it writes are gone afterwards (write_file keeps them).

    Raises:
        ToolError: No such file, or too many of them.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    source = unfenced(code)
    found = await anyio.to_thread.run_sync(staged, ctx, {"main.py": source}, files)
    runner = importlib.resources.files("ryzanstein.tools").joinpath("snippet.py")
    packages = needs_packages(sources(found))
    limits = replace(ctx.limits, seconds=float(seconds))
    result = await sandbox.run(
        [sandbox.interpreter(packages), _RUNNER, "main.py"],
        files={**found, _RUNNER: runner.read_bytes()},
        stdin=stdin.encode("utf-8", "replace"),
        limits=limits,
        packages=packages,
        collect=True,
    )
    made = {
        name: content
        for name, content in result.files.items()
        if name != _RUNNER and found.get(name) != content
    }
    return _ran(result, limits, made)


def _ran(result: sandbox.SandboxResult, limits: Limits, made: dict[str, bytes]) -> Output:
    parts = [result.stdout.rstrip()]
    if result.stderr.strip():
        parts.append(result.stderr.rstrip())
    if made:
        parts.append(f"[files it wrote, now gone: {', '.join(sorted(made)[:20])}]")
    why = result.explain(limits)
    if why:
        parts.append(f"[{why}{_advice(result)}]")
    text = "\n".join(part for part in parts if part)
    data: dict[str, Any] = {
        "exit_code": result.exit_code,
        "stopped": result.stopped,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "files": {name: _excerpt(content) for name, content in sorted(made.items())[:20]},
    }
    return Output(text or "(it printed nothing)", data, ok=result.ok)


def _advice(result: sandbox.SandboxResult) -> str:
    """Says what the error means where a small model would not know."""
    if "ModuleNotFoundError" in result.stderr:
        return " That module is not installed: use the standard library."
    if "MemoryError" in result.stderr:
        return " It needed more memory than it may have."
    if "EOFError" in result.stderr:
        return " input() had nothing to read: put the values into the code."
    if "Network is unreachable" in result.stderr or "name resolution" in result.stderr:
        return " There is no network in the sandbox: use fetch_url."
    return ""


def _excerpt(content: bytes) -> str:
    text = content[:_SHOWN_FILE].decode("utf-8", "replace")
    return text if len(content) <= _SHOWN_FILE else f"{text}... ({len(content)} bytes)"


@tool(
    title="Run tests",
    read_only=True,
    example={
        "code": "def double(n):\n    return 2 * n\n\ndef test_double():\n    assert double(2) == 4"
    },
    main=("code", "code", "python"),
    time_limit=150.0,
)
async def run_tests(
    ctx: ToolContext,
    code: Annotated[
        str,
        Field(max_length=100_000, description="functions and their tests; empty to test the files"),
    ] = "",
    path: Annotated[
        str, Field(max_length=4096, description="file or directory with the tests")
    ] = "",
    select: _Select = "",
    seconds: Annotated[int, Field(ge=1, le=120, description="time limit")] = 60,
) -> Output:
    """Run pytest and see which tests pass or fail.

    Use to check a function: send it together with test functions. Without code, the tests in the
    files are run. It runs in a sandbox and changes nothing.

    Raises:
        ToolError: No such file, or too many of them.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    found, line = await _prepared(ctx, code, path, select)
    limits = replace(ctx.limits, seconds=float(seconds))
    whole = [sandbox.interpreter(packages=True), "-m", "pytest", *line]
    env = _environment(code, found)
    result = await sandbox.run(whole, files=found, limits=limits, packages=True, env=env)
    return _tested(result, limits)


@tool(
    title="Measure coverage",
    read_only=True,
    example={"path": "tests"},
    main=("path", "line"),
    time_limit=150.0,
)
async def measure_coverage(
    ctx: ToolContext,
    path: Annotated[
        str, Field(max_length=4096, description="file or directory with the tests")
    ] = "",
    code: CodeText = "",
    select: _Select = "",
    seconds: Annotated[int, Field(ge=1, le=120, description="time limit")] = 60,
) -> Output:
    """Run pytest and see which lines the tests do not reach.

    Use to find code that is not tested. It runs in a sandbox and changes nothing.

    Raises:
        ToolError: No such file, or too many of them.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    found, line = await _prepared(ctx, code, path, select)
    limits = replace(ctx.limits, seconds=float(seconds))
    omitted = "" if code.strip() else "test_*.py,*/test_*.py,*_test.py,conftest.py,*/conftest.py"
    result = await sandbox.run(
        ["/bin/sh", "-c", _COVER, "sh", sandbox.interpreter(packages=True), omitted, *line],
        files=found,
        limits=limits,
        packages=True,
        env=_environment(code, found),
        collect=True,
    )
    tested = _tested(result, limits)
    report = result.files.get(_REPORT)
    if report is None:
        return Output(f"{tested.text}\n[nothing was measured]", tested.data, ok=False)
    try:
        files, percent = _covered(json.loads(report))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return Output(f"{tested.text}\n[the report is damaged]", tested.data, ok=False)
    lines = [
        f"{one['path']}: {one['percent']:.0f} % of {one['statements']} statements"
        + (f", not lines {one['missing']}" if one["missing"] else "")
        for one in files
    ]
    summary = f"covered: {percent:.0f} %"
    text = "\n".join([tested.text.rpartition("\n")[2], *lines, summary])
    return Output(text, {**tested.data, "files": files, "percent": percent}, ok=tested.ok)


def _covered(report: dict[str, Any]) -> tuple[list[dict[str, Any]], float]:
    files = [
        {
            "path": path,
            "percent": round(one["summary"]["percent_covered"], 1),
            "statements": one["summary"]["num_statements"],
            "missing": _ranges(one["missing_lines"]),
        }
        for path, one in sorted(report["files"].items())
    ]
    return files, round(report["totals"]["percent_covered"], 1)


def _ranges(numbers: list[int]) -> str:
    """Writes 3, 4, 5, 9 as 3-5, 9."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


async def _prepared(
    ctx: ToolContext, code: str, path: str, select: str
) -> tuple[dict[str, bytes], list[str]]:
    """Returns the files for the sandbox and pytest's arguments."""
    source = unfenced(code)
    if not source.strip() and not ctx.roots:
        raise ToolError("There is nothing to test.", hint="Give code with test functions.")
    _check_syntax(source)
    given = {"test_main.py": source} if source.strip() else {}
    paths = (path,) if path else () if given else (".",)
    found = await anyio.to_thread.run_sync(staged, ctx, given, paths)
    chosen = ["-k", select] if select else []
    return found, [*_PYTEST, *chosen, *(["test_main.py"] if given else ["--", *_targets(path)])]


def _environment(code: str, files: dict[str, bytes]) -> dict[str, str]:
    """Code that comes alone needs none of the installed plugins, which take most of the start."""
    alone = bool(code.strip()) and not any("asyncio" in text for text in sources(files))
    return {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if alone else {}


def _check_syntax(source: str) -> None:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "text", None) or ""
        raise ToolError(
            f"The code is no Python: {error}: {line.strip()[:100]}", hint="Correct it."
        ) from None


def _tested(result: sandbox.SandboxResult, limits: Limits) -> Output:
    last = result.stdout.rstrip().rpartition("\n")[2]
    counts = {
        name: int(number)
        for number, name in re.findall(r"(\d+) (passed|failed|error|skipped)", last)
    }
    passed = result.ok and counts.get("passed", 0) > 0
    why = result.explain(limits) if result.stopped else ""
    if result.exit_code == _NO_TESTS:
        why = "There were no tests: name test functions test_..."
    noise = "" if counts or result.exit_code == _NO_TESTS else result.stderr.strip()
    parts = [result.stdout.strip(), noise, f"[{why}]" if why else ""]
    text = "\n".join(part for part in parts if part) or "(pytest said nothing)"
    data = {"passed": passed, "counts": counts, "exit_code": result.exit_code}
    return Output(text, {**data, "stopped": result.stopped, "output": result.stdout}, ok=passed)


def _targets(path: str) -> list[str]:
    return [path.strip().strip("`'\"")] if path else ["."]
