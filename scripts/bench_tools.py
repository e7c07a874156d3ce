"""Times a call of every tool, each kind against what it costs to do the same work without the tool.

    python scripts/bench_tools.py [--rounds 20] [--only NAME ...]

The last line is JSON: for each tool the median and 95th percentile in milliseconds, and for those
that start a program or ask a model the median of that alone, so that `overhead_p50_ms` is the
tool's own part. Every tool is called; a new one without a case here ends the script.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ryzanstein.machine import available_cpus, cpu_name
from ryzanstein.tools import ToolContext, all_tools, call_tool
from ryzanstein.tools.worker import close_workers

MODEL = "tiny-bitnet"
PYTHON = "print(sum(range(10)))"
TEST = "def test_a():\n    assert 1 + 1 == 2\n"
TYPED = "def double(n: int) -> int:\n    return 2 * n\n"
FILE = "src/module_7.py"
PAGE = "<html><body>" + "<p>Some text and <a href='/x'>a link</a>.</p>" * 200 + "</body></html>"
FOUND = {
    "results": [{"title": "t", "url": f"https://a.test/{n}", "content": "c"} for n in range(9)]
}
RULES = '{"type": "object", "required": ["name"], "properties": {"age": {"type": "integer"}}}'
Arguments = dict[str, Any] | Callable[[int], dict[str, Any]]


def cases(site: str) -> dict[str, Arguments]:
    """Returns the arguments of each tool's call, or what makes them from the round's number.

    Args:
        site: Address of the server that answers the tools of the web.
    """
    return {
        "read_file": {"path": FILE},
        "write_file": {"path": "out.txt", "content": "x" * 1000},
        "edit_file": {"path": "edit.txt", "old": "@", "new": "@"},
        "list_files": {"pattern": "*.py"},
        "search_files": {"pattern": "def function_1.*3"},
        "copy_file": lambda n: {"path": FILE, "to": f"copy{n}.py"},
        "move_file": lambda n: {"path": f"copy{n}.py", "to": f"moved{n}.py"},
        "delete_file": lambda n: {"path": f"moved{n}.py"},
        "file_info": {"path": FILE},
        "compare_files": {"path": FILE, "other": "src/module_8.py"},
        "make_folder": {"path": "made"},
        "read_archive": {"path": "archive.zip"},
        "git_inspect": {"command": "log -n 5"},
        "git_status": {},
        "git_log": {"count": 5},
        "git_diff": {},
        "git_show": {},
        "git_blame": {"file": FILE},
        "git_commit": lambda n: {"message": "Change", "files": [_changed(n)]},
        "git_branch": {"name": "other"},
        "git_restore": {"files": [FILE]},
        "query_sqlite": {"sql": "SELECT count(*), avg(age) FROM people", "database": "people.db"},
        "describe_database": {"database": "people.db"},
        "explain_query": {"sql": "SELECT * FROM people", "database": "people.db"},
        "execute_sql": {"database": "people.db", "sql": "INSERT INTO people VALUES ('x', 1)"},
        "export_query": lambda n: {
            "sql": "SELECT * FROM people LIMIT 1000",
            "to": f"export{n}.csv",
            "database": "people.db",
        },
        "diff_texts": {"old": "a\nb\n" * 100, "new": "a\nc\n" * 100},
        "match_regex": {"pattern": r"def \w+", "path": FILE},
        "replace_regex": {"pattern": "def", "replacement": "x", "path": FILE},
        "extract_data": {"kind": "numbers", "path": FILE},
        "convert_markdown": {"text": "# a\n\n- b\n" * 50},
        "convert_html": {"text": "<p>a <b>b</b></p>" * 100},
        "count_text": {"path": FILE},
        "sort_lines": {"path": FILE},
        "encode_text": {"text": "abc", "form": "base64"},
        "hash_text": {"text": "abc"},
        "machine_facts": {},
        "list_processes": {},
        "process_info": {"pid": 1},
        "disk_usage": {},
        "current_time": {},
        "shift_date": {"date": "today", "workdays": 30},
        "compare_dates": {"start": "today", "end": "2030-01-01"},
        "find_programs": {"names": ["git", "gcc"]},
        "environment_facts": {"packages": "py"},
        "fetch_url": {"url": f"{site}/page"},
        "extract_links": {"url": f"{site}/page"},
        "download_file": lambda n: {"url": f"{site}/page", "to": f"page{n}.html"},
        "search_web": {"query": "two words"},
        "run_python": {"code": PYTHON},
        "run_tests": {"code": TEST},
        "measure_coverage": {"code": TEST},
        "lint_code": {"code": TYPED},
        "format_code": {"code": TYPED},
        "check_types": {"code": TYPED},
        "search_syntax": {"name": "function_7", "path": "src"},
        "outline_code": {"path": FILE},
        "evaluate_expression": {"expression": "sqrt(8) + 1/3"},
        "simplify_expression": {"expression": "(x**2 - 1)/(x - 1)"},
        "solve_equation": {"equations": "x + y = 10; x - y = 2"},
        "differentiate": {"expression": "x**3 * sin(x)"},
        "integrate": {"expression": "x**2", "lower": "0", "upper": "3"},
        "compute_limit": {"expression": "sin(x)/x", "to": "0"},
        "calculate_matrix": {"matrix": "[[1, 2], [3, 4]]", "operation": "inverse"},
        "analyze_number": {"number": "360360"},
        "convert_units": {"value": 100, "source": "km/h", "target": "mph"},
        "compute_distribution": {"distribution": "normal", "at": 1.5},
        "solve_constraints": {"constraints": "x, y: int in 0..20\nx + y == 10\nx - y == 2"},
        "check_satisfiable": {"constraints": "p -> q\np\nnot q"},
        "prove_formula": {"formula": "(p -> q) and p -> q"},
        "query_data": {"sql": "SELECT age, count(*) FROM people GROUP BY age ORDER BY age"},
        "describe_data": {"path": "people.csv"},
        "sample_rows": {"path": "people.csv"},
        "compute_statistics": {"path": "people.csv"},
        "validate_data": {"rules": RULES, "text": '{"name": "Ann", "age": 3}'},
        "convert_data": lambda n: {"path": "people.csv", "to": f"people{n}.parquet"},
        "ask_model": {"question": "Is it?", "choices": ["yes", "no"], "model": MODEL},
        "count_tokens_of": {"text": "How many tokens is this?", "model": MODEL},
        "classify_text": {"text": "My card was charged twice.", "labels": ["money", "parcels"]},
        "compare_meaning": {"query": "reset my password", "texts": ["log in", "a parcel"]},
        "remember": lambda n: {"text": f"The server number {n} is called heron {n}."},
        "recall": {"query": "name of the server"},
        "correct_memory": lambda n: {"id": _memory(n), "text": f"Number {n} is called crane."},
        "forget_memory": lambda n: {"id": _memory(n)},
        "find_experience": {"task": "count the rows of a file"},
        "count_memories": {},
        "list_local_models": {},
        "describe_local_model": {"name": MODEL},
        "model_memory_needs": {"name": MODEL},
    }


def _changed(number: int) -> str:
    Path(FILE).write_text(f"changed = {number}\n" * 50, encoding="utf-8")
    return FILE


def _memory(number: int) -> str:
    from ryzanstein.mcp_servers._shared import shared

    return shared().store.remember(f"The machine in room {number} is called jay {number}.").id


def prepare(root: Path) -> None:
    """Makes 200 files, tables of 10,000 rows, an archive and a repository."""
    (root / "src").mkdir()
    for number in range(200):
        text = "".join(f"def function_{line}(): return {line}\n" for line in range(50))
        (root / f"src/module_{number}.py").write_text(text, encoding="utf-8")
    rows = [(f"name {number}", number % 90) for number in range(10_000)]
    connection = sqlite3.connect(root / "people.db")
    connection.execute("CREATE TABLE people (name TEXT, age INTEGER)")
    connection.executemany("INSERT INTO people VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    table = "name,age\n" + "".join(f"{name},{age}\n" for name, age in rows)
    (root / "people.csv").write_text(table, encoding="utf-8")
    (root / "edit.txt").write_text("@\n" + "x\n" * 1000, encoding="utf-8")
    with zipfile.ZipFile(root / "archive.zip", "w") as archive:
        for number in range(100):
            archive.writestr(f"{number}.txt", "x" * 100)
    settings = (("user.name", "A"), ("user.email", "a@example.org"))
    lines = [["init", "-q"], *(["config", *each] for each in settings), ["add", "src"]]
    for line in (*lines, ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *line], cwd=root, check=True)


def bare(root: Path) -> dict[str, Callable[[], object]]:
    """Returns what does the same work without a tool around it."""
    git = shutil.which("git") or "git"
    (root / "bare").mkdir()
    (root / "bare/test_bare.py").write_text(TEST, encoding="utf-8")
    (root / "bare/code.py").write_text(TYPED, encoding="utf-8")
    quick = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def run(*line: str) -> Callable[[], object]:
        return functools.partial(
            subprocess.run, line, cwd=root / "bare", check=True, capture_output=True, env=quick
        )

    def commit() -> None:
        (root / FILE).write_text(f"bare = {time.perf_counter()}\n" * 50, encoding="utf-8")
        for line in (["add", "--", f"../{FILE}"], ["commit", "-q", "-m", "bare"]):
            run(git, *line)()

    def module(*line: str) -> Callable[[], object]:
        return run(sys.executable, "-m", *line)

    pytest = ("pytest", "-q", "-p", "no:cacheprovider", "test_bare.py")

    def cover() -> None:
        module("coverage", "run", "--source=.", "-m", *pytest)()
        module("coverage", "json", "-q", "-o", "report.json")()

    return {
        "git_inspect": run(git, "log", "-n", "5"),
        "git_status": run(git, "status", "--porcelain"),
        "git_log": run(git, "log", "-n", "5"),
        "git_diff": run(git, "diff"),
        "git_show": run(git, "show"),
        "git_blame": run(git, "blame", f"../{FILE}"),
        "git_commit": commit,
        "git_branch": run(git, "switch", "-q", "-C", "bare"),
        "git_restore": run(git, "restore", f"../{FILE}"),
        "run_python": run(sys.executable, "-c", PYTHON),
        "run_tests": module(*pytest),
        "measure_coverage": cover,
        "lint_code": module("ruff", "check", "--no-cache", "code.py"),
        "format_code": module("ruff", "format", "--no-cache", "code.py"),
        "check_types": module("mypy", "--cache-dir=/dev/null", "code.py"),
        "ask_model": _ask,
    }


def _ask() -> None:
    from ryzanstein.mcp_servers._shared import shared

    request = {
        "messages": [{"role": "user", "content": "Is it?"}],
        "constraint": {"choices": ["yes", "no"]},
        "max_tokens": 512,
        "model": MODEL,
    }
    shared().engine.chat(request)


@contextmanager
def site() -> Iterator[str]:
    """Serves a page and results of a search on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            searched = self.path.startswith("/search")
            body = (json.dumps(FOUND) if searched else PAGE).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json" if searched else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def context(address: str) -> ToolContext:
    """Returns what the tools server gives its tools, audit included, with every grant."""
    from ryzanstein.mcp_servers._shared import shared

    return dataclasses.replace(
        shared().tool_context,
        grants=frozenset({"*"}),
        allow_private_hosts=frozenset({"127.0.0.1"}),
        search_url=f"{address}/search?q={{query}}",
    )


async def measure(call: Callable[[int], Awaitable[object]], rounds: int) -> list[float]:
    """Returns the milliseconds of each round, after two to warm up."""
    times = []
    for number in range(rounds + 2):
        began = time.perf_counter()
        await call(number)
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times[2:])


async def measure_tool(
    ctx: ToolContext, name: str, args: Arguments, rounds: int, program: Callable[[], object] | None
) -> dict[str, float]:
    """Returns the figures of one tool."""
    # Made beforehand, so that making them is not part of what is measured.
    given = [args(number) if callable(args) else args for number in range(rounds + 2)]
    if name == "git_commit":
        given = []

    async def call(number: int) -> None:
        ready = given[number] if given else args(number)  # type: ignore[operator]
        await call_tool(ctx, name, ready)

    times = await measure(call, rounds)
    p50 = statistics.median(times)
    result = {"p50_ms": round(p50, 2), "p95_ms": round(times[int(len(times) * 0.95)], 2)}
    if program is not None:

        async def alone(number: int) -> None:
            await asyncio.to_thread(program)

        result["program_p50_ms"] = round(statistics.median(await measure(alone, rounds)), 2)
        result["overhead_p50_ms"] = round(p50 - result["program_p50_ms"], 2)
    return result


async def measure_all(root: Path, rounds: int, only: list[str]) -> dict[str, dict[str, float]]:
    """Returns the figures of every tool."""
    programs = bare(root)
    results: dict[str, dict[str, float]] = {}
    with site() as address:
        known = cases(address)
        missing = {item.name for item in all_tools()} ^ set(known)
        if missing:
            raise SystemExit(f"These tools and the cases here do not fit: {sorted(missing)}")
        ctx = context(address)
        for name, args in known.items():
            if only and name not in only:
                continue
            program = programs.get(name)
            count = max(5, rounds // 4) if program else rounds
            results[name] = await measure_tool(ctx, name, args, count, program)
            print(f"{name:22}{results[name]}", flush=True)
    return results


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", nargs="*", default=[], help="names of tools")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        prepare(root)
        os.environ |= {"RYZANSTEIN_DATA_DIR": f"{folder}/data", "RYZANSTEIN_ROOTS": str(root)}
        os.chdir(root)
        tools = asyncio.run(measure_all(root, options.rounds, options.only))
        os.chdir("/")
    close_workers()
    own = {name: one.get("overhead_p50_ms", one["p50_ms"]) for name, one in tools.items()}
    worst = max(own, key=lambda name: own[name])
    machine = {"cpu": cpu_name(), "cpus": available_cpus(), "python": platform.python_version()}
    print(json.dumps({"tools": tools, "worst": worst, "worst_own_p50_ms": own[worst], **machine}))


if __name__ == "__main__":
    main()
