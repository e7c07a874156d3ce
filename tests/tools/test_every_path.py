"""Every path argument of every tool, found from the schemas, against every way out of the roots."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import RyzansteinError
from ryzanstein.tools import Tool, ToolContext, ToolResult, all_tools, call_tool

Call = Callable[..., Awaitable[ToolResult]]
# The longest path of the system is what tells a path from other text in a schema.
LONGEST = 4096
PATH_NAMES = {"path", "paths", "database", "folder", "directory"}
# These work on a link itself: it may be moved, deleted or committed, and leads nowhere by that.
LINKS = {"move_file", "delete_file", "git_commit"}
# What else a tool needs, so that nothing but the path can be the reason for a refusal.
FITTING = {"database": "SELECT * FROM secrets", "sql": "SELECT * FROM secrets"}
SECRET = "heron-secret"
# Complaints that only somebody who has opened the file can make.
OPENED = re.compile("no SQLite|no zip|binary|larger than|only .* lines|no such table")
ESCAPES = [
    "../outside/key",
    "sub/../../outside/key",
    "{root}-prefix/key",
    "{root}/../outside/key",
    "{outside}/key",
    "/etc/passwd",
    "~/key",
    "link",
    "chain1",
    "folder_link/key",
    "sub/up/../outside/key",
    "key\0.txt",
    "sub/\nkey",
    "\ud800",
    "file://{outside}/key",
    "//server/share",
    "a/" * 3000,
    "x" * 5000,
]


def takes_path(name: str, about: dict[str, Any]) -> bool:
    kinds = [about, about.get("items", {}), *about.get("anyOf", [])]
    return name in PATH_NAMES or any(kind.get("maxLength") == LONGEST for kind in kinds)


def path_arguments() -> list[Any]:
    return [
        pytest.param(item, name, about.get("type") == "array", id=f"{item.name}-{name}")
        for item in all_tools()
        for name, about in item.input_schema["properties"].items()
        if takes_path(name, about)
    ]


@pytest.fixture
def outside(root: Path) -> Path:
    """A root with every kind of trap, and a secret text and database beside it."""
    outside = root.parent / "outside"
    for folder in (outside, root.parent / f"{root.name}-prefix", root / "sub"):
        folder.mkdir()
    with contextlib.closing(sqlite3.connect(outside / "key.db")) as connection, connection:
        connection.execute("CREATE TABLE secrets (word TEXT)")
        connection.execute("INSERT INTO secrets VALUES (?)", [SECRET])
    for folder in (outside, root.parent / f"{root.name}-prefix"):
        (folder / "key").write_text(SECRET)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "link").symlink_to(outside / "key")
    (root / "chain1").symlink_to("chain2")
    (root / "chain2").symlink_to("sub/../chain3")
    (root / "chain3").symlink_to("../outside/key")
    (root / "folder_link").symlink_to(outside)
    (root / "sub/up").symlink_to("..")
    (root / "old.txt").write_text("old\n")
    (root / "settings.toml").write_text("")
    return outside


def snapshot(root: Path) -> dict[str, bytes | None]:
    """Everything beside the root, with what it says."""
    beside = [path for path in root.parent.iterdir() if path != root]
    found = [path for one in beside for path in (one, *one.rglob("*"))]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def arguments(item: Tool, name: str, many: bool, path: str) -> dict[str, Any]:
    given = {**item.example, name: [path] if many else path}
    for other, value in FITTING.items():
        if other in item.input_schema["properties"] and other != name:
            given.setdefault(other, value)
    if {"text", "path"} <= item.input_schema["properties"].keys() and name == "path":
        given.pop("text", None)
    return given


@pytest.mark.parametrize(("item", "name", "many"), path_arguments())
async def test_no_path_leads_out_of_the_roots(
    call: Call,
    root: Path,
    outside: Path,
    monkeypatch: pytest.MonkeyPatch,
    item: Tool,
    name: str,
    many: bool,
) -> None:
    monkeypatch.setenv("HOME", str(outside))
    if name == "database":
        shutil.copy(outside / "key.db", outside / "key")
    before = snapshot(root)
    for escape in ESCAPES:
        path = escape.format(root=root, outside=outside)
        try:
            result = await call(item.name, arguments(item, name, many, path))
        except RyzansteinError as error:
            assert SECRET not in str(error) and error.hint, f"{path!r}: {error}"
            assert not OPENED.search(str(error)), f"{path!r}: {error}"
        else:
            assert SECRET not in result.text and SECRET not in str(result.data), path
            assert "link" in path or "chain" in path, f"{path!r} was not refused: {result.text}"
            assert item.name in LINKS, f"{path!r}"
        assert snapshot(root) == before, path


def test_the_arguments_were_found() -> None:
    found = {(one.values[0].name, one.values[1]) for one in path_arguments()}
    assert found >= {
        ("read_file", "path"),
        ("copy_file", "to"),
        ("delete_file", "path"),
        ("query_sqlite", "database"),
        ("git_inspect", "path"),
    }


@pytest.fixture
def swapping(root: Path, outside: Path) -> Iterator[None]:
    """Swaps a folder for a link that leads out, again and again."""
    (root / "good").mkdir()
    (root / "good/key").write_text("good")
    (root / "evil").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for name in ("good", "evil"):
                with contextlib.suppress(OSError):
                    os.rename(root / name, root / "door")
                    os.rename(root / "door", root / name)

    thread = threading.Thread(target=swap)
    thread.start()
    yield
    stop.set()
    thread.join()


RACES: dict[str, dict[str, Any]] = {
    "read_file": {"path": "door/key"},
    "file_info": {"path": "door/key"},
    "write_file": {"path": "door/key", "content": "written"},
    "edit_file": {"path": "door/key", "old": "e", "new": "x"},
    "copy_file": {"path": "old.txt", "to": "door/copy"},
    "move_file": {"path": "door/key", "to": "taken"},
    "delete_file": {"path": "door", "with_contents": True},
    "make_folder": {"path": "door/made"},
    "search_files": {"pattern": SECRET, "path": "door"},
    "list_files": {"path": "door"},
    "disk_usage": {"path": "door"},
    "describe_database": {"database": "door/key.db"},
    "git_status": {"path": "door"},
}


@pytest.mark.parametrize("name", RACES)
async def test_a_race_reaches_nothing_outside(
    root: Path, outside: Path, swapping: None, name: str
) -> None:
    ctx = ToolContext(roots=(root,), grants=frozenset({"*"}))
    before = snapshot(root)
    for _ in range(8 if name == "git_status" else 40):
        with contextlib.suppress(RyzansteinError):
            result = await call_tool(ctx, name, RACES[name])
            said = result.text + str(result.data)
            assert "secrets" not in said and "key.db'" not in said
            assert SECRET not in said
    assert snapshot(root) == before
