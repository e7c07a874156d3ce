"""Exit codes, errors and help: what holds for every command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from ryzanstein.cli._group import Root

Run = Callable[..., Any]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        if isinstance(one, click.Group):
            found += commands(one, (*path, name))
        else:
            found.append((*path, name))
    return found


@pytest.mark.parametrize("path", commands(Root), ids=" ".join)
def test_every_command_has_help_with_examples_and_json(run: Run, path: tuple[str, ...]) -> None:
    done = run(*path, "--help")
    assert done.code == 0
    assert "Examples:" in done.out and f"ryzanstein {' '.join(path)}" in done.out
    assert "--json" in done.out and "--debug" in done.out


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    done = run()
    assert done.code == 0 and "ask" in done.out and "doctor" in done.out


def test_the_version_is_printed(run: Run) -> None:
    from ryzanstein import __version__

    assert __version__ in run("--version").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("aks",),
        ("ask",),
        ("route", "x", "--top-k", "0"),
        ("route", "x", "--nonsense"),
        ("memory", "serach"),
        ("generate",),
        ("mcp", "oracle"),
        ("mcp", "memory", "--toolset", "files"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage_is_2_with_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert done.err.count("\n") == 1 and "--help" in done.err
    assert done.out == ""


def test_wrong_usage_with_json_is_a_document(run: Run) -> None:
    done = run("aks", "--json")
    assert done.code == 2
    assert done.json["error"]["code"] == "INVALID_REQUEST"
    assert "ask" in done.json["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (("ask", ""), b"", "INVALID_REQUEST"),
        (("ask", "-"), b"", "INVALID_REQUEST"),
        (("ask", "x" * 100_001), b"", "INVALID_REQUEST"),
        (("ask", "-"), b"x" * 200_000, "INVALID_REQUEST"),
        (("ask", "-"), b"caf\xe9", "INVALID_REQUEST"),
        (("ask", "\udce9"), b"", "INVALID_REQUEST"),
        (("ask", "hello", "--agent", "NOBODY"), b"", "AGENT_NOT_FOUND"),
        (("ask", "hello", "--model", "nothing"), b"", "MODEL_NOT_FOUND"),
        (("route", " "), b"", "INVALID_REQUEST"),
        (("agents", "show", "CYPHER"), b"", "AGENT_NOT_FOUND"),
        (("models", "show", "qwen"), b"", "MODEL_NOT_FOUND"),
        (("models", "pull", "qwen"), b"", "MODEL_NOT_FOUND"),
        (("models", "remove", "qwen"), b"", "MODEL_NOT_FOUND"),
        (("models", "show", "/nowhere/model.gguf"), b"", "MODEL_NOT_FOUND"),
        (("generate", "--prompt", "x", "--model", "/nowhere/m.gguf"), b"", "MODEL_NOT_FOUND"),
        (("memory", "forget", "mem_0"), b"", "INVALID_REQUEST"),
        (("memory", "search", " "), b"", "INVALID_REQUEST"),
        (("serve", "--host", "0.0.0.0"), b"", "INVALID_REQUEST"),
        (("mcp", "--transport", "streamable-http", "--host", "::"), b"", "INVALID_REQUEST"),
        (("mcp", "tools", "--toolset", "filez"), b"", "INVALID_REQUEST"),
    ],
)
def test_a_failure_is_1_with_one_line_and_a_document(
    run: Run,
    smollm2: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    stdin: bytes,
    code: str,
) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    done = run(*arguments, "--json", stdin=stdin)
    assert done.code == 1
    assert done.json["error"]["code"] == code
    lines = [line for line in done.err.splitlines() if line.startswith("ryzanstein: ")]
    assert len(lines) == 1
    assert done.json["error"]["message"] in lines[0]


def test_the_nearest_names_are_said(run: Run) -> None:
    assert "CIPHER" in run("agents", "show", "CYPHER").err
    assert "smollm2-135m" in run("models", "show", "smollm2-153m").err


@pytest.mark.parametrize(
    ("name", "value"),
    [("RYZANSTEIN_THREADS", "many"), ("RYZANSTEIN_TREADS", "2")],
)
def test_wrong_settings_are_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    done = run("memory", "stats", "--json")
    assert done.json["error"]["code"] == "INVALID_CONFIG"
    assert name in done.json["error"]["message"]


def test_a_damaged_model_file_is_one_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "damaged.gguf"
    file.write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\xff" * 64)
    done = run("generate", "--prompt", "x", "--model", str(file), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "MODEL_LOAD_FAILED")


def test_a_database_that_is_none_is_one_line(run: Run, isolated_home: Path) -> None:
    (isolated_home / "data").mkdir(parents=True)
    (isolated_home / "data" / "ryzanstein.db").write_bytes(b"no database at all" * 100)
    done = run("memory", "stats", "--json")
    assert done.code == 1 and done.json["error"]["message"]


def test_debug_shows_where_an_error_comes_from(start: Run) -> None:
    with start("agents", "show", "CYPHER", "--debug") as child:
        _, errors = child.communicate()
    assert child.returncode == 1
    assert b"Traceback" in errors


def test_a_reader_that_goes_away_is_no_error(start: Run) -> None:
    with start("agents", "list", "--json") as child:
        child.stdout.close()
        errors = child.stderr.read()
    assert child.returncode == 1
    assert errors == b""


def test_stdout_and_stderr_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "ryzanstein.cli", "memory", "add", "Füße 🦩", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Füße 🦩" in done.stdout.decode("utf-8")
