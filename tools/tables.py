"""SQL and statistics on data files, by DuckDB; runs in the worker process.

Files are read into memory first. Only then does a statement that somebody wrote run, on a
connection that can open no file, load no extension, see no Python object and change none of this.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import io
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from ryzanstein.errors import ToolError

__all__ = [
    "compute_statistics",
    "convert_data",
    "describe_data",
    "describe_values",
    "query_data",
    "sample_rows",
]

_MEMORY = "512MB"
_THREADS = 2
_CELL = 500
_EDGE = 4096
_LOOKED_AT = 1 << 20
_MOST_COLUMNS = 200
_MOST_CORRELATED = 12
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_LOCKED = ("SET enable_external_access = false", "SET lock_configuration = true")
_READERS = {
    # Without skip = 0 lines that do not fit the later ones would be left out silently.
    "csv": "read_csv(?, skip = 0)",
    "tsv": "read_csv(?, skip = 0, delim = '\t')",
    "json": "read_json(?)",
    "jsonl": "read_json(?, format = 'newline_delimited')",
    "parquet": "read_parquet(?)",
}
_WRITERS = {
    "csv": "FORMAT csv, HEADER true",
    "tsv": "FORMAT csv, HEADER true, DELIMITER '\t'",
    "json": "FORMAT json, ARRAY true",
    "jsonl": "FORMAT json, ARRAY false",
    "parquet": "FORMAT parquet",
}
_READING = {"SELECT", "EXPLAIN", "MULTI"}
_READ_CALL = re.compile(
    r"\b(?:read_csv|read_csv_auto|read_json|read_json_auto|read_ndjson|read_parquet)\s*"
    r"\(\s*'([^']*)'[^()]*\)",
    re.IGNORECASE,
)

_File = Mapping[str, Any]  # path, device, inode, kind, names


def query_data(files: Sequence[_File], sql: str, limit: int) -> dict[str, Any]:
    """Runs one reading statement on files, each a table under each of its names.

    Returns:
        columns, rows, complete, tables, faults (why files could not be read).
    """
    with _connected() as connection:
        tables, faults = [], []
        for file in files:
            try:
                tables.append(_load(connection, file))
            except ToolError as error:
                faults.append(error)
        for lock in _LOCKED:
            connection.execute(lock)
        sql = _READ_CALL.sub(lambda found: _quoted(found[1]), sql)
        try:
            _require_reading(connection, sql)
            cursor = connection.execute(sql)
            rows = cursor.fetchmany(limit + 1)
        except duckdb.Error as error:
            missing = isinstance(error, duckdb.CatalogException | duckdb.PermissionException)
            # A table that is missing may be a file that could not be read.
            raise (faults[0] if missing and faults else _explained(error, tables)) from None
        columns = [column[0] for column in cursor.description or ()]
    return {
        "columns": columns,
        "rows": [[_cell(value) for value in row] for row in rows[:limit]],
        "complete": len(rows) <= limit,
        "tables": tables,
        "faults": [fault.message for fault in faults],
    }


def describe_data(file: _File) -> dict[str, Any]:
    """Returns the number of rows, and type, gaps, distinct values and range of each column."""
    with _connected() as connection:
        _load(connection, file)
        (rows,) = _one(connection, "SELECT count(*) FROM data")
        found = connection.execute("SUMMARIZE data").fetchmany(_MOST_COLUMNS)
        names = [column[0] for column in connection.description or ()]
    columns = [
        {
            "name": row["column_name"],
            "type": row["column_type"],
            "empty": round(float(row["null_percentage"] or 0) * rows / 100),
            "distinct": row["approx_unique"],
            "min": _cell(row["min"]),
            "max": _cell(row["max"]),
            "mean": _cell(row["avg"]),
        }
        for row in (dict(zip(names, each, strict=True)) for each in found)
    ]
    return {"rows": rows, "columns": columns}


def compute_statistics(
    file: _File, columns: Sequence[str], group: str, quantiles: Sequence[float]
) -> dict[str, Any]:
    """Returns statistics of numeric columns, by group where one is named, and correlations."""
    with _connected() as connection:
        _load(connection, file)
        return _statistics(connection, columns, group, quantiles)


def describe_values(values: Sequence[float], quantiles: Sequence[float]) -> dict[str, Any]:
    """Returns the same of a list of numbers."""
    with _connected() as connection:
        connection.execute("CREATE TABLE data AS SELECT unnest(?::DOUBLE[]) AS value", [values])
        return _statistics(connection, (), "", quantiles)


def sample_rows(file: _File, rows: int, seed: int | None) -> dict[str, Any]:
    """Returns random rows, the same for the same seed, or the first ones without a seed."""
    wanted = f"SELECT * FROM data LIMIT {int(rows)}"
    if seed is not None:
        sample = f"reservoir({int(rows)} ROWS) REPEATABLE ({int(seed)})"
        wanted = f"SELECT * FROM data USING SAMPLE {sample}"
    with _connected() as connection:
        # One thread: several would draw other rows each time.
        connection.execute("SET threads = 1")
        _load(connection, file)
        (total,) = _one(connection, "SELECT count(*) FROM data")
        cursor = connection.execute(wanted)
        found = [[_cell(value) for value in row] for row in cursor.fetchall()]
        columns = [column[0] for column in cursor.description or ()]
    return {"columns": columns, "rows": found, "total": total}


def convert_data(file: _File, kind: str, target: str) -> dict[str, Any]:
    """Writes the rows of a file into another one, in another form.

    Args:
        file: What to read.
        kind: A key of the table of writers.
        target: Path of a new file in a directory of the caller's own.
    """
    with _connected() as connection:
        _load(connection, file)
        (rows,) = _one(connection, "SELECT count(*) FROM data")
        columns = [row[0] for row in connection.execute("DESCRIBE data").fetchall()]
        connection.execute(f"COPY data TO {_text(target)} ({_WRITERS[kind]})")
    return {"rows": rows, "columns": columns}


@contextlib.contextmanager
def _connected() -> Iterator[duckdb.DuckDBPyConnection]:
    settings: dict[str, Any] = {
        "threads": _THREADS,
        "memory_limit": _MEMORY,
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }
    with duckdb.connect(":memory:", config=settings) as connection:
        yield connection


def _load(connection: duckdb.DuckDBPyConnection, file: _File) -> str:
    """Reads a file into a table `data` or of its first name; the other names become views."""
    names = list(file.get("names", ())) or ["data"]
    reader = _READERS[file["kind"]]
    descriptor = os.open(file["path"], os.O_RDONLY)
    try:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != (file["device"], file["inode"]):
            raise ToolError(f"{names[-1]} changed while it was opened.", hint="Try again.")
        _require_whole(descriptor, file)
        # By descriptor: the name could lead elsewhere by now, and a * in it would be a pattern.
        where = f"/dev/fd/{descriptor}" if os.path.isdir("/dev/fd") else file["path"]
        _create(connection, names[0], reader, where, file["shown"])
        if file["kind"] == "csv":
            _require_columns(connection, names[0], descriptor, file["shown"])
    finally:
        os.close(descriptor)
    for name in names[1:]:
        connection.execute(f"CREATE VIEW {_quoted(name)} AS SELECT * FROM {_quoted(names[0])}")
    described = connection.execute(f"DESCRIBE {_quoted(names[0])}").fetchmany(_MOST_COLUMNS)
    return f"{names[0]}({', '.join(f'{row[0]} {row[1]}' for row in described)})"


def _require_whole(descriptor: int, file: _File) -> None:
    """DuckDB takes an empty file for a table, and reads a truncated list of JSON without a word."""
    size = os.fstat(descriptor).st_size
    if size == 0:
        raise ToolError(f"{file['shown']} is empty.", hint="Choose another file.")
    if file["kind"] != "json":
        return
    first = os.pread(descriptor, _EDGE, 0).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    last = os.pread(descriptor, _EDGE, max(0, size - _EDGE)).rstrip()[-1:]
    if first == b"[" and last != b"]":
        raise ToolError(f"{file['shown']} is no JSON: it ends early.", hint="Correct the file.")


def _require_columns(
    connection: duckdb.DuckDBPyConnection, name: str, descriptor: int, shown: str
) -> None:
    """Finds the line that made DuckDB take a table of uneven lines for one wide column."""
    columns = [row[0] for row in connection.execute(f"DESCRIBE {_quoted(name)}").fetchmany(2)]
    mark = next((mark for mark in ",;\t|" if mark in columns[0]), "")
    if len(columns) > 1 or not mark:
        return
    text = os.pread(descriptor, _LOOKED_AT, 0).decode("utf-8", "replace")
    lines = csv.reader(io.StringIO(text), delimiter=mark)
    wide = len(next(lines, []))
    number = next((lines.line_num for cells in lines if cells and len(cells) != wide), 0)
    where = f"line {number} has another number of cells than the first" if number else "quotes"
    raise ToolError(f"{shown} is no table: {where}.", hint="Correct the lines that do not fit.")


def _create(
    connection: duckdb.DuckDBPyConnection, name: str, reader: str, where: str, shown: str
) -> None:
    create = f"CREATE TABLE {_quoted(name)} AS SELECT * FROM "
    try:
        connection.execute(create + reader, [where])
    except duckdb.Error as error:
        said = str(error)
        if reader.startswith("read_csv") and re.search(r"(?i)unicode|utf-8", said):
            latin = reader.replace("?", "?, encoding = 'latin-1'")
            with contextlib.suppress(duckdb.Error):
                connection.execute(create + latin, [where])
                return
        lines = [line.strip() for line in said.replace(where, shown).splitlines() if line.strip()]
        raise ToolError(
            f"{shown} cannot be read: {' '.join(lines[:3])[:400]}",
            hint="Look at it with read_file and correct the lines that do not fit.",
        ) from None


def _require_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise ToolError(f"There are {len(statements)} statements.", hint="Send one at a time.")
    kind = str(statements[0].type).rpartition(".")[2]
    if kind not in _READING:
        raise ToolError(
            f"Only reading is allowed here, not {kind}.",
            hint="Use SELECT, or the word schema; convert_data writes files.",
        )


def _explained(error: duckdb.Error, tables: Sequence[str]) -> ToolError:
    listed = f"Tables: {'; '.join(tables) or 'none; name the file in FROM or in files'}."
    said = str(error)
    if isinstance(error, duckdb.PermissionException):
        return ToolError(
            "SQL reaches only the files of this call, and no other file, address or extension.",
            hint=f"Write FROM with the name of a table. {listed}",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return ToolError(f"The query needs more than {_MEMORY} of memory.", hint="Ask for less.")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return ToolError(f"SQL error: {' '.join(lines[:3])[:500]}", hint=listed[:1000])


def _statistics(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[str],
    group: str,
    quantiles: Sequence[float],
) -> dict[str, Any]:
    kinds = {row[0]: row[1] for row in connection.execute("DESCRIBE data").fetchall()}
    for name in (*columns, *([group] if group else ())):
        if name not in kinds:
            raise ToolError(f"There is no column {name!r}.", hint=f"Columns: {', '.join(kinds)}.")
    numeric = [name for name in columns or kinds if _is_numeric(kinds[name]) and name != group]
    if not numeric or (columns and len(numeric) < len(columns)):
        others = ", ".join(name for name in columns or kinds if name not in numeric)
        raise ToolError(f"Not a column of numbers: {others}.", hint="Name one that holds numbers.")
    numeric = numeric[:_MOST_COLUMNS]
    asked = tuple(quantiles) or _QUANTILES
    found = [
        {"column": name, **each}
        for name in numeric
        for each in _of_column(connection, name, group, asked)
    ]
    return {"statistics": found, "correlations": _correlations(connection, numeric)}


def _is_numeric(kind: str) -> bool:
    words = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "NUMERIC", "REAL")
    return any(word in kind for word in words) and not kind.startswith(("INTERVAL", "STRUCT"))


def _of_column(
    connection: duckdb.DuckDBPyConnection, name: str, group: str, quantiles: Sequence[float]
) -> list[dict[str, Any]]:
    what = f"{_quoted(name)}::DOUBLE"
    keys = {"count": f"count({what})", "empty": f"count(*) - count({what})", "sum": f"sum({what})"}
    keys |= {"mean": f"avg({what})", "sd": f"stddev_samp({what})", "min": f"min({what})"}
    keys |= {f"q{share:g}": f"quantile_cont({what}, {share!r})" for share in quantiles}
    keys |= {"max": f"max({what})", "mode": f"mode({what})"}
    picked = ", ".join(keys.values())
    if group:
        by = _quoted(group)
        rows = connection.execute(
            f"SELECT {by}, {picked} FROM data GROUP BY 1 ORDER BY 1 LIMIT {_MOST_COLUMNS}"
        ).fetchall()
        return [
            {group: _cell(row[0]), **dict(zip(keys, map(_cell, row[1:]), strict=True))}
            for row in rows
        ]
    row = _one(connection, f"SELECT {picked} FROM data")
    return [dict(zip(keys, map(_cell, row), strict=True))]


def _correlations(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Pearson's, of each pair of columns."""
    columns = columns[:_MOST_CORRELATED]
    pairs = [(a, b) for index, a in enumerate(columns) for b in columns[index + 1 :]]
    if not pairs:
        return []
    wanted = [f"corr({_quoted(a)}::DOUBLE, {_quoted(b)}::DOUBLE)" for a, b in pairs]
    row = _one(connection, f"SELECT {', '.join(wanted)} FROM data")
    return [
        {"columns": list(pair), "r": _cell(value)} for pair, value in zip(pairs, row, strict=True)
    ]


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _cell(value: Any) -> Any:
    """Turns a value into what JSON can hold, and shortens it."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case decimal.Decimal():
            return float(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case bytes():
            return f"<{len(value)} bytes {value[:16].hex()}>"
        case list() | dict() | tuple():
            value = json.dumps(value, default=str, ensure_ascii=False)
    text = str(value)
    return text if len(text) <= _CELL else f"{text[:_CELL]}... ({len(text)} characters)"
