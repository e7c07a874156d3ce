"""Changing a database, and writing what a query finds to a file."""

from __future__ import annotations

import collections
import csv
import io
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, BinaryIO

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText, existing_name, replace_file, replacing
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.sql_script import only_adds, statements
from ryzanstein.tools.sqlite_file import database_place, explained, may_replace, opened, whole
from ryzanstein.tools.toolbox import tool

_MOST_ROWS = 1_000_000
_MOST_BYTES = 256 << 20


def _destroys(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    name = existing_name(ctx, arguments["database"])
    if not name or not only_adds(arguments["sql"]):
        return name
    with database_place(ctx, arguments["database"]) as place, opened(place) as connection:
        return name if may_replace(connection) else ""


@tool(
    title="Change a database",
    destructive=True,
    destroys=_destroys,
    example={
        "database": "people.db",
        "sql": "CREATE TABLE people (name TEXT); INSERT INTO people VALUES ('Ann');",
        "create": True,
    },
    main=("sql", "json"),
    forms={"database": "line", "sql": "code"},
)
async def execute_sql(
    ctx: ToolContext,
    database: Annotated[PathText, Field(description="the SQLite file")],
    sql: Annotated[
        str,
        Field(min_length=1, max_length=100_000, description="statements, each with a ; at its end"),
    ],
    create: Annotated[bool, Field(description="make the file where it does not exist")] = False,
) -> Output:
    """Run SQL statements that change a SQLite database, all of them or none.

    Use to make tables and to insert, update or delete rows. If one statement fails, nothing is
    changed.

    Raises:
        ToolError: No such file, a wrong statement, one that leaves the file, or too slow ones.
    """
    return await anyio.to_thread.run_sync(_execute, ctx, database, sql, create)


def _execute(ctx: ToolContext, database: str, sql: str, create: bool) -> Output:
    script = statements(sql)
    if not script:
        raise ToolError("There is no statement.", hint="Give at least one, such as CREATE TABLE.")
    roots = Roots(ctx.roots)
    with roots.place(database, make_parents=create) as place:
        name = roots.name(place)
        existed = place.status() is not None
        if not existed and not create:
            raise ToolError(f"{place.shown} does not exist.", hint="Give create=true to make it.")
        if not existed:
            replace_file(place, b"")
        try:
            changed = _run(place, script)
        except BaseException:
            if not existed:
                place.remove_file()
            raise
    rows = f"; rows changed: {sum(changed)}"
    data = {"database": place.shown, "statements": len(script), "changed": changed}
    text = f"done: {len(script)} statement{'s' * (len(script) != 1)}{rows}"
    return Output(text, {**data, "existed": existed}, made=() if existed else (name,))


def _run(place: Place, script: list[str]) -> list[int]:
    changed = []
    with opened(place, write=True) as connection:
        number = 0
        try:
            with whole(connection, write=True):
                for number, statement in enumerate(script, 1):  # noqa: B007
                    cursor = connection.execute(statement)
                    collections.deque(cursor, maxlen=0)
                    changed.append(max(cursor.rowcount, 0))
        except (sqlite3.Error, sqlite3.Warning) as error:
            failure = explained(connection, error, write=True)
            raise ToolError(
                f"Statement {number} of {len(script)}: {failure.message} Nothing was changed.",
                hint=failure.hint,
            ) from error
    return changed


@tool(
    title="Export a query",
    example={"sql": "SELECT * FROM people", "to": "people.csv", "database": "people.db"},
    main=("sql", "json"),
    forms={"sql": "code", "to": "line"},
)
async def export_query(
    ctx: ToolContext,
    sql: Annotated[str, Field(min_length=1, max_length=20_000, description="one SELECT statement")],
    to: Annotated[PathText, Field(description="the new file: .csv, .json or .jsonl")],
    database: Annotated[
        str,
        Field(max_length=4096, description="the SQLite file; may be left out if there is one"),
    ] = "",
) -> Output:
    """Write all rows that a query finds to a new CSV, JSON or JSON-lines file.

    Use when a result is wanted as a file, or is too long to be shown. A file that is there already
    is not overwritten.

    Raises:
        ToolError: No such file or table, a statement that changes something, or the target exists.
    """
    return await anyio.to_thread.run_sync(_export, ctx, sql, to, database, abandon_on_cancel=True)


def _export(ctx: ToolContext, sql: str, to: str, database: str) -> Output:
    ending = PurePath(to.strip().strip("`'\"")).suffix.lower()
    if ending not in {".csv", ".json", ".jsonl"}:
        raise ToolError(f"{to} is no .csv, .json or .jsonl file.", hint="Choose such a name.")
    roots = Roots(ctx.roots)
    with database_place(ctx, database) as source, opened(source) as connection:
        try:
            cursor = connection.execute(sql)
            if cursor.description is None:
                raise ToolError("This is no query.", hint="Use a SELECT statement.")
            columns = [column[0] for column in cursor.description]
            with roots.place(to, make_parents=True) as target:
                if target.status() is not None:
                    raise ToolError(f"{target.shown} exists already.", hint="Choose another name.")
                made = roots.name(target)
                with replacing(target) as file:
                    count = _write(file, ending, columns, cursor)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise explained(connection, error, write=False) from error
    data = {"path": target.shown, "rows": count, "columns": columns}
    return Output(f"wrote {count:,} rows to {target.shown}", data, made=(made,))


def _write(file: BinaryIO, ending: str, columns: list[str], rows: sqlite3.Cursor) -> int:
    count = size = 0
    for count, line in enumerate(_formatted(ending, columns, rows)):
        raw = line.encode("utf-8", "replace")
        size += len(raw)
        if count > _MOST_ROWS or size > _MOST_BYTES:
            raise ToolError("The result is too large to be written.", hint="Add a LIMIT.")
        file.write(raw)
    return count - 1 if ending == ".json" else count


def _formatted(ending: str, columns: list[str], rows: sqlite3.Cursor) -> Iterator[str]:
    """Yields one text a row, after one for the start; JSON has one for the end besides."""
    if ending == ".csv":
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        for row in _with_header(columns, rows):
            writer.writerow([_plain(value) for value in row])
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
        return
    before = "" if ending == ".jsonl" else "\n"
    yield "" if ending == ".jsonl" else "["
    names = _distinct(columns)
    for row in rows:
        values = dict(zip(names, map(_plain, row), strict=True))
        yield before + json.dumps(values, ensure_ascii=False) + "\n" * (ending == ".jsonl")
        before = before and ",\n"
    if ending == ".json":
        yield "\n]\n"


def _with_header(columns: list[str], rows: sqlite3.Cursor) -> Iterator[Any]:
    yield columns
    yield from rows


def _distinct(columns: list[str]) -> list[str]:
    """The columns' names, those of a join that are there already with a number behind."""
    names: dict[str, None] = {}
    for column in columns:
        number, name = 1, column
        while name in names:
            number, name = number + 1, f"{column}_{number + 1}"
        names[name] = None
    return list(names)


def _plain(value: Any) -> Any:
    """A value as every format can hold it: JSON has no bytes and no infinity."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
