"""Python code and tests, run in the sandbox."""

from __future__ import annotations

import ast
import importlib.resources
import re
from dataclasses import replace
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import sandbox
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.limits import Limits
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.staging import Stage, needs_packages
from ryzanstein.tools.toolbox import tool

_STAGED_BYTES = 32 << 20
_SHOWN_FILE = 2000
_FENCE = re.compile(r"```[\w+-]*\n(.*?)```", re.DOTALL)
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
    source = _unfenced(code)
    stage = Stage(_roots(ctx), _STAGED_BYTES) if ctx.roots else None
    found = await anyio.to_thread.run_sync(_staged, stage, {"main.py": source}, files)
    runner = importlib.resources.files("ryzanstein.tools").joinpath("snippet.py")
    packages = needs_packages(_sources(found))
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
    select: Annotated[
        str, Field(max_length=200, pattern=r"^[\w .\[\]-]*$", description="only tests so named")
    ] = "",
    seconds: Annotated[int, Field(ge=1, le=120, description="time limit")] = 60,
) -> Output:
    """Run pytest and see which tests pass or fail.

    Use to check a function: send it together with test functions. Without code, the tests in the
    files are run. It runs in a sandbox and changes nothing.

    Raises:
        ToolError: No such file, or too many of them.
        ServerUnavailable: There is no sandbox here; the hint says what to install.
    """
    source = _unfenced(code)
    if not source.strip() and not ctx.roots:
        raise ToolError("There is nothing to test.", hint="Give code with test functions.")
    _check_syntax(source)
    stage = Stage(_roots(ctx), _STAGED_BYTES) if ctx.roots else None
    given = {"test_main.py": source} if source.strip() else {}
    paths = (path,) if path else () if given else (".",)
    found = await anyio.to_thread.run_sync(_staged, stage, given, paths)
    limits = replace(ctx.limits, seconds=float(seconds))
    line = [sandbox.interpreter(packages=True), "-m", "pytest", *_PYTEST]
    if select:
        line += ["-k", select]
    line += ["test_main.py"] if given else ["--", *_targets(path)]
    # Code that comes alone needs none of the installed plugins, which take most of the start.
    alone = bool(given) and not any("asyncio" in text for text in _sources(found))
    env = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} if alone else {}
    result = await sandbox.run(line, files=found, limits=limits, packages=True, env=env)
    return _tested(result, limits)


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


def _roots(ctx: ToolContext) -> Roots:
    return Roots(ctx.roots)


def _staged(stage: Stage | None, code: dict[str, str], paths: tuple[str, ...]) -> dict[str, bytes]:
    if stage is None:
        return {name: text.encode("utf-8", "replace") for name, text in code.items()}
    for name, text in code.items():
        stage.add_code(name, text)
    for path in paths:
        stage.add_path(path)
    return stage.files


def _sources(files: dict[str, bytes]) -> list[str]:
    return [raw.decode("utf-8", "replace") for name, raw in files.items() if name.endswith(".py")]


def _unfenced(code: str) -> str:
    """Takes the code out of a fenced block where a model left the fence on."""
    blocks = _FENCE.findall(code + ("\n```" if code.count("```") % 2 else ""))
    return "\n".join(blocks) if blocks and code.lstrip().startswith("```") else code
