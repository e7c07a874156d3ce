"""Which calls of the file and database tools need a grant, and that moving gives no way around."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ApprovalRequired
from ryzanstein.tools import ToolContext, call_tool


@pytest.fixture
def ctx(root: Path) -> ToolContext:
    """A run that was granted nothing, where the user has a file and a database."""
    (root / "mine.txt").write_text("mine\n")
    (root / "folder").mkdir()
    with contextlib.closing(sqlite3.connect(root / "mine.db")) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (1)")
    return ToolContext(roots=(root,))


@pytest.mark.parametrize(
    ("name", "arguments", "target"),
    [
        ("write_file", {"path": "mine.txt", "content": "x"}, "mine.txt"),
        ("write_file", {"path": "./folder/../mine.txt", "content": "x"}, "mine.txt"),
        ("edit_file", {"path": "mine.txt", "old": "mine", "new": "x"}, "mine.txt"),
        ("delete_file", {"path": "mine.txt"}, "mine.txt"),
        ("delete_file", {"path": "folder"}, "folder"),
        ("move_file", {"path": "mine.txt", "to": "other.txt"}, "mine.txt"),
        ("query_sqlite", {"sql": "DELETE FROM t", "write": True}, "mine.db"),
        ("query_sqlite", {"sql": "UPDATE t SET a = 2", "write": True}, "mine.db"),
        ("execute_sql", {"database": "mine.db", "sql": "SELECT 1; DROP TABLE t"}, "mine.db"),
        ("execute_sql", {"database": "folder/../mine.db", "sql": "DELETE FROM t"}, "mine.db"),
    ],
)
async def test_what_the_user_has_is_overwritten_only_with_a_grant(
    ctx: ToolContext, root: Path, name: str, arguments: dict[str, Any], target: str
) -> None:
    before = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    with pytest.raises(ApprovalRequired) as caught:
        await call_tool(ctx, name, arguments)
    assert caught.value.grant == f"{name}:{target}"
    assert {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()} == before
    granted = ToolContext(roots=ctx.roots, grants=frozenset({f"{name}:{target}"}))
    assert (await call_tool(granted, name, arguments)).ok


async def test_a_grant_to_move_a_file_is_none_to_replace_another(
    ctx: ToolContext, root: Path
) -> None:
    (root / "draft.txt").write_text("draft")
    arguments = {"path": "draft.txt", "to": "mine.txt", "overwrite": True}
    one = frozenset({"move_file:draft.txt"})
    with pytest.raises(ApprovalRequired, match=r"draft\.txt, mine\.txt") as caught:
        await call_tool(ToolContext(roots=ctx.roots, grants=one), "move_file", arguments)
    assert (root / "mine.txt").read_text() == "mine\n"
    assert caught.value.grant == "move_file:draft.txt, mine.txt"
    both = one | {"move_file:mine.txt"}
    assert (await call_tool(ToolContext(roots=ctx.roots, grants=both), "move_file", arguments)).ok


async def test_a_file_that_a_run_made_is_not_taken_for_one_of_a_folder_below(
    ctx: ToolContext, root: Path
) -> None:
    (root / "folder" / "notes.txt").write_text("the user's")
    await call_tool(ctx, "write_file", {"path": "notes.txt", "content": "its own"})
    with pytest.raises(ApprovalRequired, match=r"folder/notes\.txt"):
        await call_tool(ctx, "git_restore", {"path": "folder", "files": ["notes.txt"]})


async def test_what_only_adds_needs_none(ctx: ToolContext, root: Path) -> None:
    for name, arguments in (
        ("write_file", {"path": "a/b/new.txt", "content": "x"}),
        ("write_file", {"path": "mine.txt", "content": "more\n", "append": True}),
        ("make_folder", {"path": "c/d"}),
        ("copy_file", {"path": "mine.txt", "to": "copy.txt"}),
        ("query_sqlite", {"sql": "INSERT INTO t VALUES (2)", "write": True}),
        ("execute_sql", {"database": "mine.db", "sql": "CREATE TABLE u (b);"}),
        ("execute_sql", {"database": "new.db", "sql": "CREATE TABLE u (b)", "create": True}),
        ("export_query", {"sql": "SELECT 1 AS a", "to": "out.csv", "database": "mine.db"}),
    ):
        given: dict[str, Any] = dict(arguments)
        assert (await call_tool(ctx, name, given)).ok, name
    assert (root / "mine.txt").read_text() == "mine\nmore\n"


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE r (a PRIMARY KEY ON CONFLICT REPLACE, b)",
        "CREATE TABLE r (a, b); CREATE TRIGGER g AFTER INSERT ON r BEGIN DELETE FROM r; END",
    ],
)
async def test_adding_where_a_table_replaces_or_a_trigger_deletes_needs_one(
    ctx: ToolContext, root: Path, made: str
) -> None:
    with contextlib.closing(sqlite3.connect(root / "mine.db")) as database:
        database.executescript(made)
    sql = "INSERT INTO r VALUES (1, 2)"
    with pytest.raises(ApprovalRequired, match=r"mine\.db"):
        await call_tool(ctx, "query_sqlite", {"sql": sql, "database": "mine.db", "write": True})
    with pytest.raises(ApprovalRequired, match=r"mine\.db"):
        await call_tool(ctx, "execute_sql", {"sql": f"{sql};", "database": "mine.db"})


async def test_a_run_may_do_as_it_likes_with_what_it_made(ctx: ToolContext, root: Path) -> None:
    for name, arguments in (
        ("write_file", {"path": "sub/own.txt", "content": "a"}),
        ("write_file", {"path": "sub/own.txt", "content": "b"}),
        ("edit_file", {"path": "sub/own.txt", "old": "b", "new": "c"}),
        ("move_file", {"path": "sub/own.txt", "to": "new/place.txt"}),
        ("delete_file", {"path": "new/place.txt"}),
        ("execute_sql", {"database": "own.db", "sql": "CREATE TABLE t (a)", "create": True}),
        ("execute_sql", {"database": "own.db", "sql": "DROP TABLE t"}),
        ("copy_file", {"path": "mine.txt", "to": "copy.txt"}),
        ("delete_file", {"path": "copy.txt"}),
    ):
        given: dict[str, Any] = dict(arguments)
        assert (await call_tool(ctx, name, given)).ok, name
    with pytest.raises(ApprovalRequired, match=r"delete mine\.txt"):
        await call_tool(ctx, "write_file", {"path": "own.txt", "content": "own"})
        await call_tool(ctx, "move_file", {"path": "own.txt", "to": "mine.txt", "overwrite": True})
    assert (root / "mine.txt").read_text() == "mine\n"


async def test_a_move_makes_nothing_the_run_s_own(ctx: ToolContext, root: Path) -> None:
    moving = ToolContext(roots=ctx.roots, grants=frozenset({"move_file:mine.txt"}), made=ctx.made)
    await call_tool(moving, "move_file", {"path": "mine.txt", "to": "moved.txt"})
    with pytest.raises(ApprovalRequired):
        await call_tool(moving, "delete_file", "moved.txt")
    assert (root / "moved.txt").exists()
