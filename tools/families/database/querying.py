"""Asking a database."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.rows import rows_text
from ryzanstein.tools.sql_script import only_adds
from ryzanstein.tools.sqlite_file import (
    cell,
    database_place,
    explained,
    may_replace,
    opened,
    schema_lines,
    whole,
)
from ryzanstein.tools.toolbox import tool


def _destroys(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    with database_place(ctx, arguments["database"]) as place:
        if place.status() is None:
            return ""
        if only_adds(arguments["sql"]):
            with opened(place) as connection:
                if not may_replace(connection):
                    return ""
        return Roots(ctx.roots).name(place)


@tool(
    title="Query a database",
    destructive=True,
    destroys=_destroys,
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
        _query, ctx, sql, database, parameters, limit, write, abandon_on_cancel=not write
    )


def _query(
    ctx: ToolContext,
    sql: str,
    database: str,
    parameters: Sequence[str | int | float | None],
    limit: int,
    write: bool,
) -> Output:
    with database_place(ctx, database) as place, opened(place, write=write) as connection:
        if sql.strip().strip(";.").lower() in {"schema", "tables", ".schema", ".tables"}:
            schema = schema_lines(connection)
            text = "\n".join(schema) or "The database has no tables."
            return Output(text, {"database": place.shown, "schema": schema})
        return _execute(connection, place, sql, parameters, limit, write)


def _execute(
    connection: sqlite3.Connection,
    place: Place,
    sql: str,
    parameters: Sequence[str | int | float | None],
    limit: int,
    write: bool,
) -> Output:
    try:
        with whole(connection, write):
            cursor = connection.execute(sql, list(parameters))
            # Each row is cut before the next is read: a thousand whole ones may fill the memory.
            rows = [[cell(value) for value in row] for row in itertools.islice(cursor, limit + 1)]
    except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
        raise explained(connection, error, write) from error
    data: dict[str, Any] = {"database": place.shown}
    if cursor.description is None:
        changed = max(cursor.rowcount, 0)
        return Output(f"done; rows changed: {changed}", {**data, "changed": changed})
    columns = [column[0] for column in cursor.description]
    shown = rows[:limit]
    more = f", the first {limit} of more" if len(rows) > limit else ""
    text = rows_text(columns, shown, more)
    return Output(text, {**data, "columns": columns, "rows": shown, "complete": not more})


@tool(
    title="Explain a query",
    read_only=True,
    example={"sql": "SELECT * FROM people WHERE name = 'Ann'", "database": "people.db"},
    main=("sql", "code", "sql"),
)
async def explain_query(
    ctx: ToolContext,
    sql: Annotated[
        str, Field(min_length=1, max_length=20_000, description="one SELECT statement, as it is")
    ],
    database: Annotated[
        str,
        Field(max_length=4096, description="the SQLite file; may be left out if there is one"),
    ] = "",
) -> Output:
    """Show how SQLite would answer a query: what it scans and which indexes it uses.

    Use when a query is slow, or to check a statement without running it.

    Raises:
        ToolError: No such file or table, or a statement that would change something.
    """
    return await anyio.to_thread.run_sync(_explain, ctx, sql, database, abandon_on_cancel=True)


def _explain(ctx: ToolContext, sql: str, database: str) -> Output:
    plain = re.sub(r"^\s*EXPLAIN(\s+QUERY\s+PLAN)?\s", "", sql, flags=re.IGNORECASE)
    with database_place(ctx, database) as place, opened(place) as connection:
        try:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {plain}").fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise explained(connection, error, write=False) from error
    depth = {0: -1}
    lines = []
    for number, parent, _, detail in rows:
        depth[number] = depth.get(parent, -1) + 1
        lines.append(f"{'  ' * depth[number]}{detail}")
    scanned = re.findall(r"^\s*SCAN (\w+)(?! USING)", "\n".join(lines), re.MULTILINE)
    if scanned:
        lines.append(f"[read from start to end: {', '.join(dict.fromkeys(scanned))}]")
    return Output("\n".join(lines), {"database": place.shown, "plan": lines})
