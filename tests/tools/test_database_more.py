"""Describing, explaining, changing and exporting; asking is in test_database.py."""

from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolContext, ToolResult, call_tool, sql_script, sqlite_file
from ryzanstein.tools.families.database import changing

Call = Callable[..., Awaitable[ToolResult]]


@pytest.fixture
def shop(root: Path) -> Path:
    path = root / "shop.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(
            """CREATE TABLE makers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
            CREATE TABLE items (
                id INTEGER PRIMARY KEY, maker INTEGER REFERENCES makers(id), price REAL, raw BLOB
            );
            CREATE UNIQUE INDEX by_price ON items (price, maker);
            CREATE VIEW dear AS SELECT * FROM items WHERE price > 5;
            INSERT INTO makers VALUES (1, 'Ann, "A"'), (2, 'Größe');
            INSERT INTO items VALUES (1, 1, 2.5, x'0102'), (2, 2, 9, NULL), (3, 1, 7, NULL);"""
        )
    return path


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


async def test_a_database_is_described(call: Call, shop: Path) -> None:
    described = await call("describe_database", "shop.db")
    assert described.text.splitlines() == [
        "view dear(id INTEGER, maker INTEGER, price REAL, raw BLOB): 2 rows",
        "table items(id INTEGER PRIMARY KEY, maker INTEGER, price REAL, raw BLOB): 3 rows",
        "  maker refers to makers(id)",
        "  unique index by_price on price, maker",
        "table makers(id INTEGER PRIMARY KEY, name TEXT NOT NULL): 2 rows",
    ]
    one = await call("describe_database", {"table": "MAKERS"})
    assert 'such as 1 | Ann, "A"' in one.text and len(one.data["tables"]) == 1
    with pytest.raises(ToolError, match=r"no such table: makerz\. Did you mean makers"):
        await call("describe_database", {"table": "makerz"})


async def test_a_plan_says_what_is_scanned(call: Call, shop: Path) -> None:
    scan = await call("explain_query", "SELECT * FROM items WHERE raw IS NULL")
    assert scan.text == "SCAN items\n[read from start to end: items]"
    by_key = await call("explain_query", "EXPLAIN QUERY PLAN SELECT * FROM makers WHERE id = 1")
    assert "SEARCH makers USING INTEGER PRIMARY KEY" in by_key.text
    with pytest.raises(ToolError, match="no such column"):
        await call("explain_query", "SELECT absent FROM items")


async def test_a_script_is_run_whole_or_not_at_all(call: Call, shop: Path) -> None:
    sql = (
        "INSERT INTO makers VALUES (3, 'a;b'); -- a comment; here\nDELETE FROM items WHERE id < 3;"
    )
    done = await call("execute_sql", {"database": "shop.db", "sql": sql})
    assert done.text == "done: 2 statements; rows changed: 3" and done.data["changed"] == [1, 2]
    assert rows(shop, "SELECT name FROM makers WHERE id = 3") == [("a;b",)]
    with pytest.raises(ToolError, match=r"Statement 2 of 2: .*makerz.*Nothing was changed"):
        await call(
            "execute_sql",
            {"database": "shop.db", "sql": "DELETE FROM items; INSERT INTO makerz VALUES (1)"},
        )
    assert rows(shop, "SELECT count(*) FROM items") == [(1,)]
    trigger = (
        "CREATE TRIGGER t AFTER INSERT ON makers BEGIN DELETE FROM items; END; "
        "INSERT INTO makers VALUES (9, 'x')"
    )
    await call("execute_sql", {"database": "shop.db", "sql": trigger})
    assert rows(shop, "SELECT count(*) FROM items") == [(0,)]


async def test_a_new_database_is_made_only_where_asked(call: Call, root: Path) -> None:
    sql = "CREATE TABLE t (a); INSERT INTO t VALUES (1)"
    with pytest.raises(ToolError, match="create=true"):
        await call("execute_sql", {"database": "new.db", "sql": sql})
    with pytest.raises(ToolError, match="syntax error"):
        await call("execute_sql", {"database": "new.db", "sql": "CREATE TABEL t", "create": True})
    assert not list(root.iterdir())
    made = await call("execute_sql", {"database": "new.db", "sql": sql, "create": True})
    assert not made.data["existed"] and rows(root / "new.db", "SELECT a FROM t") == [(1,)]
    with pytest.raises(ToolError, match="no statement"):
        await call("execute_sql", {"database": "new.db", "sql": " ; "})


@pytest.mark.parametrize(
    ("script", "adds"),
    [
        ("INSERT INTO t VALUES (1) ON/**/CONFLICT (id) DO UPDATE SET x = 2", False),
        ("CREATE TABLE t (a)", True),
        ("insert into t values (1); INSERT OR IGNORE INTO t VALUES ('DELETE FROM t;')", True),
        ("CREATE INDEX i ON t (a);", True),
        ("INSERT OR REPLACE INTO t VALUES (1)", False),
        ("INSERT INTO t VALUES (1) ON\n CONFLICT DO UPDATE SET a = 2", False),
        ("INSERT INTO t VALUES (1); DROP TABLE t", False),
        ("-- harmless\nDELETE FROM t", False),
        ("REPLACE INTO t VALUES (1)", False),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END", False),
        ("WITH x AS (SELECT 1) DELETE FROM t", False),
        ("UPDATE t SET a = 1", False),
    ],
)
def test_what_can_only_add_is_told_apart(script: str, adds: bool) -> None:
    assert sql_script.only_adds(script) is adds


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("out.csv", 'id,name\n1,"Ann, ""A"""\n2,Größe\n'),
        ("out.jsonl", '{"id": 1, "name": "Ann, \\"A\\""}\n{"id": 2, "name": "Größe"}\n'),
        ("sub/out.json", None),
    ],
)
async def test_rows_are_exported(
    call: Call, root: Path, shop: Path, name: str, expected: str | None
) -> None:
    done = await call("export_query", {"sql": "SELECT * FROM makers ORDER BY id", "to": name})
    written = (root / name).read_text(encoding="utf-8")
    assert done.data["rows"] == 2
    if expected is None:
        assert json.loads(written)[1] == {"id": 2, "name": "Größe"}
    else:
        assert written == expected
    with pytest.raises(ToolError, match="exists already"):
        await call("export_query", {"sql": "SELECT 1", "to": name})


async def test_an_export_keeps_columns_of_one_name_and_is_valid_json(
    call: Call, root: Path, shop: Path
) -> None:
    sql = "SELECT 1 AS id, 2 AS id, 3 AS id_2, 9e999 AS far"
    await call("export_query", {"sql": sql, "to": "same.json"})
    written = (root / "same.json").read_text(encoding="utf-8")
    assert json.loads(written) == [{"id": 1, "id_2": 2, "id_2_2": 3, "far": "inf"}]


async def test_an_export_that_fails_leaves_no_file(
    call: Call, root: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changing, "_MOST_ROWS", 2)
    for sql, to in (
        ("SELECT * FROM items", "out.csv"),
        ("SELECT * FROM nothing", "out.csv"),
        ("SELECT abs(price) FROM items UNION ALL SELECT abs(-9223372036854775808)", "o.json"),
        ("SELECT 1", "out.txt"),
        ("DELETE FROM items", "out.csv"),
    ):
        with pytest.raises(ToolError):
            await call("export_query", {"sql": sql, "to": to})
    assert [path.name for path in root.iterdir()] == ["shop.db"]
    empty = await call("export_query", {"sql": "SELECT * FROM items WHERE id > 9", "to": "e.csv"})
    assert empty.data["rows"] == 0
    with open(root / "e.csv", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["id", "maker", "price", "raw"]]


WRITES = [
    "DELETE FROM items",
    "WITH x AS (SELECT 1) DELETE FROM items WHERE id IN x RETURNING id",
    "UPDATE items SET price = 0 RETURNING id",
    "INSERT INTO makers (name) VALUES ('x') RETURNING id",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = WAL",
    "PRAGMA user_version = 7",
    "SELECT * FROM pragma_user_version(7)",
    "ATTACH '{elsewhere}' AS other",
    "VACUUM INTO '{elsewhere}'",
    "SELECT load_extension('/tmp/x.so')",
    "SELECT writefile('{elsewhere}', 'x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT edit('x')",
    "DELETE FROM sqlite_schema",
    "CREATE TEMP TRIGGER t AFTER INSERT ON makers BEGIN DELETE FROM items; END",
    "SELECT 1; DELETE FROM items",
    "REINDEX",
    "BEGIN EXCLUSIVE",
]


@pytest.mark.parametrize("sql", WRITES)
async def test_what_reads_never_writes(call: Call, root: Path, shop: Path, sql: str) -> None:
    before = shop.read_bytes()
    elsewhere = root.parent / "elsewhere"
    statement = sql.format(elsewhere=elsewhere)
    for name in ("query_sqlite", "explain_query", "export_query"):
        with contextlib.suppress(ToolError):
            done = await call(
                name, {"sql": statement, **({"to": "o.csv"} if "exp" in name else {})}
            )
            assert name == "explain_query" and "readfile" not in sql, done.text
        assert shop.read_bytes() == before and not elsewhere.exists()


@pytest.mark.parametrize("sql", [sql for sql in WRITES if "elsewhere" in sql or "load_" in sql])
async def test_what_writes_stays_in_the_file(call: Call, root: Path, shop: Path, sql: str) -> None:
    elsewhere = root.parent / "elsewhere"
    before = shop.read_bytes()
    with pytest.raises(ToolError):
        await call("execute_sql", {"database": "shop.db", "sql": sql.format(elsewhere=elsewhere)})
    assert shop.read_bytes() == before and not elsewhere.exists()


@pytest.mark.parametrize("end", ["-journal", "-wal", "-shm"])
async def test_a_link_beside_a_database_leads_nowhere(
    call: Call, root: Path, shop: Path, end: str
) -> None:
    victim = root.parent / "victim"
    victim.write_text("precious")
    (root / f"shop.db{end}").symlink_to(victim)
    for name, args in (
        ("query_sqlite", {"sql": "SELECT 1"}),
        ("query_sqlite", {"sql": "DELETE FROM items", "write": True}),
        ("execute_sql", {"database": "shop.db", "sql": "DELETE FROM items"}),
        ("describe_database", {}),
    ):
        with pytest.raises(ToolError, match="no regular file, so the database is not opened"):
            await call(name, args)
    assert victim.read_text() == "precious"


@pytest.fixture
def locked(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sqlite_file, "_LOCK_SECONDS", 0.1)
    with contextlib.closing(sqlite3.connect(shop, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("DELETE FROM items")
        yield


async def test_a_locked_database_is_said(call: Call, shop: Path, locked: None) -> None:
    for name, args in (
        ("query_sqlite", {"sql": "SELECT * FROM items"}),
        ("describe_database", {}),
        ("explain_query", {"sql": "SELECT * FROM items"}),
        ("export_query", {"sql": "SELECT * FROM items", "to": "a.csv"}),
        ("execute_sql", {"database": "shop.db", "sql": "DELETE FROM items"}),
    ):
        with pytest.raises(ToolError, match="Another program is writing"):
            await call(name, args)


async def test_a_database_that_was_made_to_harm_is_only_read(call: Call, root: Path) -> None:
    path = root / "evil.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("CREATE VIEW boom AS SELECT load_extension('/tmp/x.so') AS a FROM t")
        connection.execute("""CREATE TABLE "x""; DROP TABLE t; --" (a)""")
    described = await call(
        "describe_database", {"database": "evil.db", "table": 'x"; DROP TABLE t; --'}
    )
    assert described.data["tables"][0]["rows"] == 0
    with pytest.raises(ToolError):
        await call("query_sqlite", {"database": "evil.db", "sql": "SELECT * FROM boom"})
    assert rows(path, "SELECT count(*) FROM t") == [(0,)]


async def test_reading_alone_changes_no_database(root: Path, shop: Path) -> None:
    before = shop.read_bytes()
    ctx = ToolContext(roots=(root,), read_only=True, grants=frozenset({"*"}))
    for name, args in (
        ("execute_sql", {"database": "shop.db", "sql": "DELETE FROM items"}),
        ("export_query", {"sql": "SELECT 1", "to": "a.csv"}),
    ):
        arguments: dict[str, Any] = dict(args)
        with pytest.raises(ToolError, match="only reading is allowed"):
            await call_tool(ctx, name, arguments)
    assert shop.read_bytes() == before and [path.name for path in root.iterdir()] == ["shop.db"]


async def test_a_view_whose_table_is_gone_hides_nothing_else(call: Call, shop: Path) -> None:
    with contextlib.closing(sqlite3.connect(shop)) as connection, connection:
        connection.executescript("CREATE TABLE old (x); CREATE VIEW stale AS SELECT x FROM old;")
        connection.execute("DROP TABLE old")
    described = await call("describe_database", {"database": "shop.db"})
    assert "broken view (no such table: main.old) stale()" in described.text
    assert "table makers(" in described.text
    schema = await call("query_sqlite", {"sql": "schema", "database": "shop.db"})
    assert "stale()" in schema.text
    with pytest.raises(ToolError, match="no such table: nope"):
        await call("query_sqlite", {"sql": "SELECT * FROM nope", "database": "shop.db"})


async def test_an_error_does_not_list_a_thousand_tables(call: Call, root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "many.db")) as connection, connection:
        for number in range(1000):
            connection.execute(f"CREATE TABLE table_{number} (id INTEGER, name TEXT)")
    with pytest.raises(ToolError) as raised:
        await call("query_sqlite", {"sql": "SELECT * FROM tabel_7", "database": "many.db"})
    assert "(1000 tables)" in raised.value.hint
    assert len(raised.value.hint) < 2500
