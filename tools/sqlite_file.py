"""Opens a SQLite file of the allowed directories so that a statement reaches nothing else.

    reading     mode=ro, PRAGMA query_only, an authorizer that knows only reading
    writing     that and the changes that stay in the file; whole or not at all
    both        no ATTACH, no load_extension, no PRAGMA but those that describe; a time limit

SQLite opens by path, and a journal beside the file is opened by name: a link there would be
followed out of the roots, so none may be one.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import stat
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.context import ToolContext
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.walk import Walker

__all__ = [
    "cell",
    "database_place",
    "explained",
    "may_replace",
    "opened",
    "schema_lines",
    "whole",
]

_MAGIC = b"SQLite format 3\0"
_SECONDS = 10.0
_LOCK_SECONDS = 3.0
_CELL = 500
_HINT = 2000
_BESIDE = ("-journal", "-wal", "-shm")
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
_TEXT_FUNCTIONS = ("printf", "format")
_MOST_LETTERS = 10_000_000
_WIDTH = re.compile(r"\d{8,}")
_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LENGTH: _MOST_LETTERS,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
}


@contextlib.contextmanager
def database_place(ctx: ToolContext, database: str) -> Iterator[Place]:
    """Opens the place of the database, or of the only one there is where none is named.

    Raises:
        ToolError: None is named and there is none or more than one.
    """
    with Roots(ctx.roots).place(database.strip() or _only_database(ctx)) as place:
        yield place


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


@contextlib.contextmanager
def opened(place: Place, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """Opens a database with everything refused that is not meant.

    Raises:
        ToolError: It does not exist, is no database, or a link lies beside it.
    """
    with contextlib.closing(_connect(place, write)) as connection:
        yield connection


def _connect(place: Place, write: bool) -> sqlite3.Connection:
    descriptor = place.open_file()
    try:
        found = os.fstat(descriptor)
        if found.st_size and os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
            raise ToolError(f"{place.shown} is no SQLite database.", hint="Use read_file for text.")
        _refuse_links_beside(place)
        uri = f"file:{urllib.parse.quote(str(place.path))}?mode={'rw' if write else 'ro'}"
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=_LOCK_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise ToolError(f"{place.shown}: {error}.", hint="Check the file.") from error
        # SQLite opens by path: make sure that it is still the file that was checked.
        now = os.stat(place.path, follow_symlinks=False)
        if (now.st_dev, now.st_ino) != (found.st_dev, found.st_ino):
            connection.close()
            raise ToolError(f"{place.shown} changed while it was opened.", hint="Try again.")
    finally:
        os.close(descriptor)
    _restrict(connection, write)
    return connection


def _refuse_links_beside(place: Place) -> None:
    for end in _BESIDE:
        name = f"{place.target}{end}"
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=place.directory, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise ToolError(
                    f"{place.shown}{end} is no regular file, so the database is not opened.",
                    hint="Remove it first.",
                )


def _restrict(connection: sqlite3.Connection, write: bool) -> None:
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    _bound_widths(connection)
    connection.execute("PRAGMA trusted_schema = OFF")
    if not write:
        connection.execute("PRAGMA query_only = ON")
    connection.set_authorizer(_authorizer(_WRITING if write else _READING))
    deadline = time.monotonic() + _SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 2000)


def _bound_widths(connection: sqlite3.Connection) -> None:
    """Keeps printf from counting to a width of 2**31, which nothing interrupts before SQLite 3.41.

    A view or trigger may not call functions of ours, so where one has printf it stays SQLite's own.
    """
    wanted = (
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type IN ('view', 'trigger', 'index') "
        "AND (sql LIKE '%printf%(%' OR sql LIKE '%format%(%'))"
    )
    try:
        if connection.execute(wanted).fetchone()[0]:
            return
    except sqlite3.Error:  # damaged or locked, which the statement itself says
        return
    plain = sqlite3.connect(":memory:", check_same_thread=False)

    def formatted(pattern: Any = None, *values: Any) -> Any:
        told = [pattern, *(values if "*" in str(pattern) else ())]
        if any(map(_is_wide, told)):
            raise ValueError("a width is too big")
        marks = ",".join("?" * (1 + len(values)))
        return plain.execute(f"SELECT printf({marks})", [pattern, *values]).fetchone()[0]

    for name in _TEXT_FUNCTIONS:
        connection.create_function(name, -1, formatted, deterministic=True)


def _is_wide(value: Any) -> bool:
    if isinstance(value, float):
        return abs(value) > _MOST_LETTERS
    return _WIDTH.search(str(value)) is not None


def _authorizer(allowed: set[int]) -> Any:
    def decide(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if (first or "").lower() in _PRAGMAS else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FORBIDDEN_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    return decide


@contextlib.contextmanager
def whole(connection: sqlite3.Connection, write: bool) -> Iterator[None]:
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


def cell(value: Any) -> str | int | float | None:
    """Returns a value as it is shown: bytes and long texts only begin."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes {value[:16].hex()}>"
    if isinstance(value, str) and len(value) > _CELL:
        return f"{value[:_CELL]}... ({len(value)} characters)"
    return value  # type: ignore[no-any-return]


def explained(connection: sqlite3.Connection, error: Exception, write: bool) -> ToolError:
    """Returns SQLite's complaint with what can be done about it, such as the tables there are."""
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
    if "database is locked" in said or "database table is locked" in said:
        return ToolError("Another program is writing to the database.", hint="Try again later.")
    if "one statement" in said:
        return ToolError("There is more than one statement.", hint="Send one at a time.")
    schema = schema_lines(connection)
    missing = said.rpartition("no such table: ")[2] if "no such table" in said else ""
    tables = [line.partition("(")[0] for line in schema]
    guess = did_you_mean(missing, tables) if missing else ""
    listed = "; ".join(schema)
    if len(listed) > _HINT:
        listed = f"{listed[:_HINT]}... ({len(schema)} tables)"
    return ToolError(f"SQL error: {said}.", hint=f"{guess} Tables: {listed}".strip())


def may_replace(connection: sqlite3.Connection) -> bool:
    """Whether an INSERT may change or delete rows: by a trigger, or a table's own ON CONFLICT."""
    wanted = (
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'trigger' "
        "OR sql LIKE '%conflict%')"
    )
    try:
        return bool(connection.execute(wanted).fetchone()[0])
    except sqlite3.Error:  # damaged or locked: nothing is known of it
        return True


def schema_lines(connection: sqlite3.Connection) -> list[str]:
    """Returns a line a table, name(column type, …); a broken view has no columns.

    Raises:
        ToolError: The file is damaged.
    """
    connection.set_progress_handler(None, 0)
    connection.set_authorizer(None)
    wanted = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name"
    try:
        tables = [str(row[0]) for row in connection.execute(wanted)]
        return [
            f"{table}({_columns(connection, table)})"
            for table in tables
            if not table.startswith("sqlite_")
        ]
    except sqlite3.Error as error:
        raise ToolError(f"The database cannot be read: {error}.", hint="Check the file.") from error


def _columns(connection: sqlite3.Connection, table: str) -> str:
    wanted = "SELECT name, type FROM pragma_table_info(?)"
    try:
        return ", ".join(" ".join(row).strip() for row in connection.execute(wanted, [table]))
    except sqlite3.OperationalError:  # a view of a table that is gone
        return ""
