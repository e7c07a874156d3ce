"""SQL on SQLite files inside the allowed directories."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool
from ryzanstein.tools.walk import Walker

_MAGIC = b"SQLite format 3\0"
_SECONDS = 10.0
_CELL = 500
_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
# Everything that stays inside the opened file; ATTACH, which reaches others, is in neither set.
_WRITING = _READING | {
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_TRANSACTION,
    sqlite3.SQLITE_SAVEPOINT,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_VIEW,
    sqlite3.SQLITE_DROP_TRIGGER,
    sqlite3.SQLITE_ALTER_TABLE,
    sqlite3.SQLITE_REINDEX,
    sqlite3.SQLITE_ANALYZE,
}
_PRAGMAS = {
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "foreign_key_list",
    "database_list",
}
_FORBIDDEN_FUNCTIONS = {"load_extension", "fts3_tokenizer"}
_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LENGTH: 10_000_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
}


@tool(
    title="Query a database",
    destructive=True,
    untrusted=True,
    example={"sql": "SELECT name FROM people ORDER BY name", "database": "people.db"},
    main=("sql", "code", "sql"),
    reads_unless="write",
)
async def query_sqlite(
    ctx: ToolContext,
    sql: Annotated[
        str,
        Field(
            min_length=1,
            max_length=20_000,
            description='one SQL statement, or "schema" to see the tables',
        ),
    ],
    database: Annotated[
        str,
        Field(max_length=4096, description="the SQLite file; may be left out if there is one"),
    ] = "",
    parameters: Annotated[
        tuple[str | int | float | None, ...],
        Field(max_length=100, description="a value for each ? of the statement"),
    ] = (),
    limit: Annotated[int, Field(ge=1, le=1000, description="how many rows at most")] = 100,
    write: Annotated[bool, Field(description="true to let the statement change data")] = False,
) -> Output:
    """Ask a SQLite database a question in SQL.

    Use when the data is in a .db or .sqlite file. Send the word schema first to see which tables
    and columns there are. Changes need write=true.

    Raises:
        ToolError: No such file or table, a statement that is not allowed, or one that is too slow.
    """
    return await anyio.to_thread.run_sync(
        _query, ctx, sql, database, parameters, limit, write, abandon_on_cancel=True
    )


def _query(
    ctx: ToolContext,
    sql: str,
    database: str,
    parameters: Sequence[str | int | float | None],
    limit: int,
    write: bool,
) -> Output:
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(Roots(ctx.roots).place(database or _only_database(ctx)))
        connection = stack.enter_context(contextlib.closing(_connect(place, write)))
        if sql.strip().strip(";.").lower() in {"schema", "tables", ".schema", ".tables"}:
            schema = _schema(connection)
            text = "\n".join(schema) or "The database has no tables."
            return Output(text, {"database": place.shown, "schema": schema})
        return _execute(connection, place, sql, parameters, limit, write)


def _only_database(ctx: ToolContext) -> str:
    """Finds the database that is meant where none is named."""
    found: list[str] = []
    with Roots(ctx.roots).place(".") as place:
        for entry in Walker(place, seconds=3.0):
            if entry.is_directory or len(found) > 20:
                continue
            descriptor = entry.open_file()
            if descriptor is not None:
                with os.fdopen(descriptor, "rb") as file:
                    if file.read(len(_MAGIC)) == _MAGIC:
                        found.append(entry.path)
    if len(found) != 1:
        said = f"There are several: {', '.join(found)}." if found else "There is none."
        raise ToolError("Which database?", hint=f"Give its file as database. {said}")
    return found[0]


def _connect(place: Place, write: bool) -> sqlite3.Connection:
    descriptor = place.open_file()
    try:
        found = os.fstat(descriptor)
        if found.st_size and os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
            raise ToolError(f"{place.shown} is no SQLite database.", hint="Use read_file for text.")
        mode = "rw" if write else "ro"
        uri = f"file:{urllib.parse.quote(str(place.path))}?mode={mode}"
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)
        except sqlite3.Error as error:
            raise ToolError(f"{place.shown}: {error}.", hint="Check the file.") from error
        # SQLite opens by path: make sure that it is still the file that was checked.
        now = os.stat(place.path, follow_symlinks=False)
        if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
            connection.close()
            raise ToolError(f"{place.shown} changed while it was opened.", hint="Try again.")
    finally:
        os.close(descriptor)
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.execute("PRAGMA trusted_schema = OFF")
    if not write:
        connection.execute("PRAGMA query_only = ON")
    connection.set_authorizer(_authorizer(_WRITING if write else _READING))
    deadline = time.monotonic() + _SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 2000)
    return connection


def _authorizer(allowed: set[int]) -> Any:
    def decide(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if (first or "").lower() in _PRAGMAS else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    return decide


def _execute(
    connection: sqlite3.Connection,
    place: Place,
    sql: str,
    parameters: Sequence[str | int | float | None],
    limit: int,
    write: bool,
) -> Output:
    try:
        with _whole(connection, write):
            cursor = connection.execute(sql, list(parameters))
            rows = cursor.fetchmany(limit + 1)
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        raise _explained(connection, error, write) from error
    data: dict[str, Any] = {"database": place.shown}
    if cursor.description is None:
        changed = max(cursor.rowcount, 0)
        return Output(f"done; rows changed: {changed}", {**data, "changed": changed})
    columns = [column[0] for column in cursor.description]
    shown = [[_cell(value) for value in row] for row in rows[:limit]]
    more = f", the first {limit} of more" if len(rows) > limit else ""
    lines = [" | ".join(columns), *(" | ".join(map(_text, row)) for row in shown)]
    text = "\n".join([*lines, f"[{len(shown)} row{'s' * (len(shown) != 1)}{more}]"])
    return Output(text, {**data, "columns": columns, "rows": shown, "complete": not more})


@contextlib.contextmanager
def _whole(connection: sqlite3.Connection, write: bool) -> Iterator[None]:
    """Makes a writing statement happen whole or not at all, also when it is interrupted."""
    if not write:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if connection.in_transaction:
        connection.execute("COMMIT")


def _cell(value: Any) -> str | int | float | None:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes {value[:16].hex()}>"
    if isinstance(value, str) and len(value) > _CELL:
        return f"{value[:_CELL]}... ({len(value)} characters)"
    return value  # type: ignore[no-any-return]


def _text(value: Any) -> str:
    return "NULL" if value is None else str(value).replace("\n", " ")


def _explained(connection: sqlite3.Connection, error: Exception, write: bool) -> ToolError:
    said = str(error)
    if "interrupted" in said:
        return ToolError(
            f"The query took longer than {_SECONDS:g} s.", hint="Add a WHERE or a LIMIT."
        )
    if any(word in said for word in ("not authorized", "authorization", "prohibited", "readonly")):
        if write:
            return ToolError(f"Not allowed here: {said}.", hint="Only this one database file.")
        return ToolError(
            "Only reading is allowed.",
            hint="Use SELECT, or the word schema; give write=true to change data.",
        )
    if "one statement" in said:
        return ToolError("There is more than one statement.", hint="Send one at a time.")
    schema = _schema(connection)
    missing = said.rpartition("no such table: ")[2] if "no such table" in said else ""
    tables = [line.partition("(")[0] for line in schema]
    guess = did_you_mean(missing, tables) if missing else ""
    return ToolError(f"SQL error: {said}.", hint=f"{guess} Tables: {'; '.join(schema)}".strip())


def _schema(connection: sqlite3.Connection) -> list[str]:
    """Returns a line a table, name(column type, …)."""
    connection.set_progress_handler(None, 0)
    connection.set_authorizer(None)
    wanted = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name"
    columns = "SELECT name, type FROM pragma_table_info(?)"
    try:
        tables = [str(row[0]) for row in connection.execute(wanted)]
        named = {
            table: ", ".join(" ".join(row).strip() for row in connection.execute(columns, [table]))
            for table in tables
            if not table.startswith("sqlite_")
        }
        return [f"{table}({listed})" for table, listed in named.items()]
    except sqlite3.Error as error:
        raise ToolError(f"The database cannot be read: {error}.", hint="Check the file.") from error
