from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.machine import peak_memory
from ryzanstein.tools import ToolResult, sqlite_file

Call = Callable[..., Awaitable[ToolResult]]


@pytest.fixture
def people(root: Path) -> Path:
    path = root / "people.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, photo BLOB)")
        connection.executemany(
            "INSERT INTO people (name, photo) VALUES (?, ?)",
            [("Ann", b"\x01\x02"), ("Bob", None), ("Cyd", None)],
        )
    return path


def rows(path: Path, sql: str = "SELECT count(*) FROM people") -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


async def test_a_question_is_answered(call: Call, people: Path) -> None:
    result = await call("query_sqlite", {"sql": "SELECT id, name FROM people", "limit": 2})
    assert result.text == "id | name\n1 | Ann\n2 | Bob\n[2 rows, the first 2 of more]"
    assert result.data["rows"] == [[1, "Ann"], [2, "Bob"]] and not result.data["complete"]
    one = await call(
        "query_sqlite",
        {
            "sql": "SELECT * FROM people WHERE name = ?",
            "database": "people.db",
            "parameters": ["Ann"],
        },
    )
    assert one.text == "id | name | photo\n1 | Ann | <2 bytes 0102>\n[1 row]"
    none = await call("query_sqlite", "SELECT NULL AS n, 'a\nb' AS t")
    assert none.text == "n | t\nNULL | a b\n[1 row]"


async def test_the_schema_is_shown_on_request_and_with_errors(call: Call, people: Path) -> None:
    schema = "people(id INTEGER, name TEXT, photo BLOB)"
    assert (await call("query_sqlite", "schema")).text == schema
    with pytest.raises(ToolError) as caught:
        await call("query_sqlite", "SELECT * FROM peple")
    assert "no such table: peple. Did you mean people?" in str(caught.value)
    assert schema in caught.value.hint
    with pytest.raises(ToolError, match=r"no such column: age.*Tables: people"):
        await call("query_sqlite", "SELECT age FROM people")
    with pytest.raises(ToolError, match="syntax error"):
        await call("query_sqlite", "SELEC 1")


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM people",
        "UPDATE people SET name = 'x'",
        "DROP TABLE people",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "ATTACH DATABASE '{elsewhere}' AS other",
        "VACUUM INTO '{elsewhere}'",
        "VACUUM",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = 1",
        "PRAGMA journal_mode = DELETE",
        "SELECT load_extension('x')",
        "BEGIN",
        "WITH x AS (SELECT 1) INSERT INTO people (name) SELECT 'x'",
        "SELECT 1; DELETE FROM people",
        "INSERT INTO people (name) VALUES ('x') RETURNING id",
    ],
)
async def test_nothing_changes_without_write(call: Call, people: Path, sql: str) -> None:
    before = people.read_bytes()
    elsewhere = people.parent.parent / "elsewhere.db"
    with pytest.raises(ToolError):
        await call("query_sqlite", sql.format(elsewhere=elsewhere))
    assert people.read_bytes() == before and not elsewhere.exists()


async def test_changes_are_made_where_asked(call: Call, people: Path) -> None:
    sql = "INSERT INTO people (name) VALUES (?)"
    done = await call("query_sqlite", {"sql": sql, "parameters": ["Dee"], "write": True})
    assert done.data["changed"] == 1 and rows(people) == [(4,)]
    await call("query_sqlite", {"sql": "CREATE TABLE t (a)", "write": True})
    assert rows(people, "SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(ToolError, match=r"UNIQUE|constraint"):
        await call("query_sqlite", {"sql": "INSERT INTO people (id) VALUES (1)", "write": True})


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH '{elsewhere}' AS o",
        "VACUUM INTO '{elsewhere}'",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
    ],
)
async def test_writing_stays_in_the_file(call: Call, people: Path, sql: str) -> None:
    elsewhere = people.parent.parent / "elsewhere.db"
    with pytest.raises(ToolError):
        await call("query_sqlite", {"sql": sql.format(elsewhere=elsewhere), "write": True})
    assert not elsewhere.exists()


async def test_read_only_refuses_to_write_and_lets_read(call: Call, people: Path) -> None:
    with pytest.raises(ToolError, match="only reading is allowed"):
        await call("query_sqlite", {"sql": "DELETE FROM people", "write": True}, read_only=True)
    assert (await call("query_sqlite", "SELECT 1", read_only=True)).data["rows"] == [[1]]


async def test_a_slow_statement_is_stopped_and_undone(
    call: Call, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_SECONDS", 0.3)
    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
    with pytest.raises(ToolError, match=r"longer than 0\.3 s"):
        await call("query_sqlite", f"{endless} SELECT sum(n) FROM r")
    with pytest.raises(ToolError, match=r"longer than 0\.3 s"):
        await call(
            "query_sqlite",
            {"sql": f"INSERT INTO people (name) {endless} SELECT n FROM r", "write": True},
        )
    assert rows(people) == [(3,)]
    with pytest.raises(ToolError, match="too big"):
        await call("query_sqlite", "SELECT zeroblob(1000000000)")
    for wide in ("'%.*c', 2e9, 'x'", "'%.2000000000c', 'x'", "'%.*c', '2000000000', 'x'"):
        for name in ("printf", "format"):
            with pytest.raises(ToolError, match="SQL error"):
                await call("query_sqlite", f"SELECT {name}({wide})")


async def test_texts_are_formatted_as_sqlite_does(call: Call, people: Path) -> None:
    said = "printf('%5.2f|%*d|%s|%%', 3.14159, 6, 42, NULL), format('%,d', 1234567), printf()"
    assert (await call("query_sqlite", f"SELECT {said}")).data["rows"] == [
        [" 3.14|    42||%", "1,234,567", None]
    ]
    with contextlib.closing(sqlite3.connect(people)) as connection:
        connection.execute("CREATE VIEW shown AS SELECT printf('%03d', id) AS id FROM people")
        connection.commit()
    assert (await call("query_sqlite", "SELECT id FROM shown LIMIT 1")).data["rows"] == [["001"]]


async def test_many_large_values_do_not_fill_the_memory(call: Call, people: Path) -> None:
    numbers = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 300)"
    before = peak_memory()
    result = await call("query_sqlite", {"sql": f"{numbers} SELECT hex(zeroblob(900000)) FROM r"})
    assert result.data["rows"][0][0].endswith("(1800000 characters)")
    assert peak_memory() - before < 100 << 20


async def test_which_database_is_meant(call: Call, root: Path, people: Path) -> None:
    (root / "sub").mkdir()
    (root / "sub/b.sqlite").write_bytes(people.read_bytes())
    with pytest.raises(ToolError, match=r"several: people\.db, sub/b\.sqlite"):
        await call("query_sqlite", "schema")
    people.unlink()
    assert (await call("query_sqlite", "schema")).data["database"] == "sub/b.sqlite"
    (root / "sub/b.sqlite").unlink()
    with pytest.raises(ToolError, match="There is none"):
        await call("query_sqlite", "schema")


async def test_what_is_no_database_here_is_refused(call: Call, root: Path, people: Path) -> None:
    (root / "text.db").write_text("just text, and long enough")
    (root / "broken.db").write_bytes(people.read_bytes()[:100] + b"\xff" * 4000)
    (root.parent / "out.db").write_bytes(people.read_bytes())
    (root / "link.db").symlink_to(root.parent / "out.db")
    (root / "empty.db").write_bytes(b"")
    for name in ("text.db", "broken.db", "missing.db", "../out.db", "link.db", "."):
        with pytest.raises(ToolError):
            await call("query_sqlite", {"sql": "SELECT * FROM people", "database": name})
    empty = await call("query_sqlite", {"sql": "schema", "database": "empty.db"})
    assert empty.text == "The database has no tables."
    odd = root / "a?mode=rwc#%41.db"
    odd.write_bytes(people.read_bytes())
    found = await call("query_sqlite", {"sql": "SELECT count(*) FROM people", "database": odd.name})
    assert found.data["rows"] == [[3]]
