"""Times local tool calls, each kind against what it costs to do the same work without the tool.

    python scripts/bench_tools.py [--rounds 50]

The last line is JSON: for each tool the median and 95th percentile in milliseconds, and for those
that start a program the median of its bare start, so that `overhead_p50_ms` is the tool's own part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ryzanstein.machine import available_cpus, cpu_name
from ryzanstein.tools import ToolContext, call_tool
from ryzanstein.tools.worker import close_workers

_PYTHON = "print(sum(range(10)))"
_TEST = "def test_a():\n    assert 1 + 1 == 2\n"
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("read_file", {"path": "src/module_7.py"}),
    ("write_file", {"path": "out.txt", "content": "x" * 1000}),
    ("list_files", {"pattern": "*.py"}),
    ("search_files", {"pattern": "def function_1.*3"}),
    ("query_sqlite", {"sql": "SELECT count(*), avg(age) FROM people"}),
    ("evaluate_expression", {"expression": "sqrt(8) + 1/3"}),
    ("git_inspect", {"command": "log -n 5"}),
    ("run_python", {"code": _PYTHON}),
    ("run_tests", {"code": _TEST}),
]


def prepare(root: Path) -> None:
    """Makes 200 files, a database of 10,000 rows and a repository."""
    (root / "src").mkdir()
    for number in range(200):
        text = "".join(f"def function_{line}(): return {line}\n" for line in range(50))
        (root / f"src/module_{number}.py").write_text(text)
    connection = sqlite3.connect(root / "people.db")
    connection.execute("CREATE TABLE people (name TEXT, age INTEGER)")
    rows = [(f"name {number}", number % 90) for number in range(10_000)]
    connection.executemany("INSERT INTO people VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for line in (["init", "-q"], ["add", "src"], [*author, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *line], cwd=root, check=True)


def bare(root: Path) -> dict[str, Callable[[], object]]:
    """Returns what starts the same programs without a tool around them."""
    git = shutil.which("git") or "git"
    (root / "test_bare.py").write_text(_TEST)

    def run(*line: str) -> Callable[[], object]:
        return lambda: subprocess.run(line, cwd=root, check=True, capture_output=True)

    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bare.py"]
    quick = ["/usr/bin/env", "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1", *pytest]
    return {
        "git_inspect": run(git, "log", "-n", "5"),
        "run_python": run(sys.executable, "-c", _PYTHON),
        "run_tests": run(*quick),
    }


async def measure(call: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
    """Returns the milliseconds of each round, after two to warm up."""
    times = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times[2:])


async def measure_all(root: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Returns the figures of every tool."""
    ctx = ToolContext(roots=(root,))
    programs = bare(root)
    results: dict[str, dict[str, float]] = {}
    for name, args in CALLS:
        count = rounds if name not in programs else max(5, rounds // 5)

        async def call(name: str = name, args: dict[str, Any] = args) -> None:
            await call_tool(ctx, name, args)

        times = await measure(call, count)
        p50 = statistics.median(times)
        result = {"p50_ms": round(p50, 2), "p95_ms": round(times[int(len(times) * 0.95)], 2)}
        if name in programs:

            async def alone(name: str = name) -> None:
                await asyncio.to_thread(programs[name])

            result["program_p50_ms"] = round(statistics.median(await measure(alone, count)), 2)
            result["overhead_p50_ms"] = round(p50 - result["program_p50_ms"], 2)
        results[name] = result
        print(f"{name:22}{result}")
    return results


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        prepare(root)
        tools = asyncio.run(measure_all(root, rounds))
    close_workers()
    own = [result.get("overhead_p50_ms", result["p50_ms"]) for result in tools.values()]
    machine = {"cpu": cpu_name(), "cpus": available_cpus(), "python": platform.python_version()}
    print(json.dumps({"tools": tools, "worst_own_p50_ms": max(own), **machine}))


if __name__ == "__main__":
    main()
