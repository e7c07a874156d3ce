"""What is in a database."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.sqlite_file import cell, database_place, explained, opened
from ryzanstein.tools.toolbox import tool

_MOST_TABLES = 200
_SAMPLES = 2
_NOTHING: Mapping[str, Any] = {"columns": [], "foreign_keys": [], "indexes": []}


@tool(
    title="Describe a database",
    read_only=True,
    untrusted=True,
    example={"database": "people.db"},
    main=("database", "line"),
)
async def describe_database(
    ctx: ToolContext,
    database: Annotated[
        str,
        Field(max_length=4096, description="the SQLite file; may be left out if there is one"),
    ] = "",
    table: Annotated[
        str, Field(max_length=200, description="only this table, with a few of its rows")
    ] = "",
) -> Output:
    """Show a database's tables with columns, keys, indexes and numbers of rows.

    Use before the first query to a database that you do not know.

    Raises:
        ToolError: No such file, or it is no database.
    """
    return await anyio.to_thread.run_sync(
        _describe, ctx, database, table.strip(), abandon_on_cancel=True
    )


def _describe(ctx: ToolContext, database: str, table: str) -> Output:
    with database_place(ctx, database) as place, opened(place) as connection:
        try:
            tables = _tables(connection, table)
            if table and not tables:
                raise sqlite3.OperationalError(f"no such table: {table}")
            described = [_table(connection, name, kind) for name, kind in tables[:_MOST_TABLES]]
            if table:
                described[0]["sample"] = _sample(connection, tables[0][0])
        except sqlite3.Error as error:
            raise explained(connection, error, write=False) from error
        shown = place.shown
    text = "\n".join(_lines(one) for one in described) or "The database has no tables."
    if len(tables) > _MOST_TABLES:
        text += f"\n[the first {_MOST_TABLES} of {len(tables)} tables]"
    return Output(text, {"database": shown, "tables": described})


def _tables(connection: sqlite3.Connection, table: str) -> list[tuple[str, str]]:
    found = connection.execute(
        "SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    wanted = table.lower()
    return [(str(name), str(kind)) for name, kind in found if not wanted or name.lower() == wanted]


def _table(connection: sqlite3.Connection, name: str, kind: str) -> dict[str, Any]:
    quoted = _quoted(name)
    if kind == "view" and (fault := _broken(connection, quoted)):
        return {"name": name, "kind": f"broken view ({fault})", "rows": 0, **_NOTHING}
    columns = connection.execute(f"PRAGMA table_info({quoted})").fetchall()
    keys = connection.execute(f"PRAGMA foreign_key_list({quoted})").fetchall()
    indexes = connection.execute(f"PRAGMA index_list({quoted})").fetchall()
    rows = connection.execute(f"SELECT count(*) FROM {quoted}").fetchone()[0]
    return {
        "name": name,
        "kind": kind,
        "rows": rows,
        "columns": [
            {"name": column, "type": type_, "required": bool(required or key), "key": bool(key)}
            for _, column, type_, required, _, key in columns
        ],
        "foreign_keys": [
            {"column": own, "table": to, "to": far} for _, _, to, own, far, *_ in keys
        ],
        "indexes": [
            {"name": index, "unique": bool(unique), "columns": _indexed(connection, index)}
            for _, index, unique, *_ in indexes
        ],
    }


def _broken(connection: sqlite3.Connection, view: str) -> str:
    """Why a view cannot be read, such as that its table is gone; empty where it can."""
    try:
        connection.execute(f"SELECT * FROM {view} LIMIT 0")
    except sqlite3.OperationalError as error:
        if "interrupted" in str(error):
            raise
        return str(error)
    return ""


def _indexed(connection: sqlite3.Connection, index: str) -> str:
    found = connection.execute(f"PRAGMA index_info({_quoted(index)})").fetchall()
    return ", ".join(str(row[2] or "an expression") for row in found)


def _sample(connection: sqlite3.Connection, name: str) -> list[list[Any]]:
    rows = connection.execute(f"SELECT * FROM {_quoted(name)} LIMIT {_SAMPLES}").fetchall()
    return [[cell(value) for value in row] for row in rows]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _lines(table: dict[str, Any]) -> str:
    columns = ", ".join(_column(one) for one in table["columns"])
    lines = [f"{table['kind']} {table['name']}({columns}): {table['rows']} rows"]
    lines += [
        f"  {key['column']} refers to {key['table']}({key['to'] or 'its key'})"
        for key in table["foreign_keys"]
    ]
    lines += [
        f"  {'unique ' * one['unique']}index {one['name']} on {one['columns']}"
        for one in table["indexes"]
    ]
    lines += [f"  such as {' | '.join(map(str, row))}" for row in table.get("sample", [])]
    return "\n".join(lines)


def _column(column: dict[str, Any]) -> str:
    marks = " PRIMARY KEY" if column["key"] else " NOT NULL" if column["required"] else ""
    return f"{column['name']} {column['type']}".strip() + marks
