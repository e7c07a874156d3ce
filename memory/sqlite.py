"""SQLite behind the store: how it is opened, locked, wiped, and what its errors mean.

WAL mode with synchronous=FULL: the commit has reached the disk before a write is acknowledged, and
readers never wait for the writer. NORMAL would be faster but may lose the last acknowledged commits
when the power fails. A writing transaction is BEGIN IMMEDIATE, so two processes queue up for the
busy timeout rather than fail in the middle. Deleted content is zeroed.

A WAL database in a directory that may not be written cannot be read the ordinary way, since readers
too keep their place in a shared file beside it. It is then opened as immutable, which is right as
long as nobody else changes the file: before each transaction its size and time are looked at.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from ryzanstein.errors import RyzansteinError, StorageError, TimedOut

__all__ = ["SQLite"]

_PRIMARY = 0xFF  # the low byte of an extended SQLite result code
_PAUSE = 0.01
_SLICE_PAGES = 1_000  # of 4 KB, some 20 ms of work
_UNREADABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


class SQLite:
    """One SQLite file, or a database in memory.

    Args:
        url: SQLAlchemy URL.
        busy_seconds: How long a transaction waits for another process.

    Raises:
        StorageError: The file's directory cannot be made.
    """

    schema: str | None = None
    reading: dict[str, Any] = {}  # noqa: RUF012
    writing: dict[str, Any] = {"immediate": True}  # noqa: RUF012

    def __init__(self, url: URL, busy_seconds: float) -> None:
        if (url.database or "").startswith("~"):
            url = url.set(database=str(Path(str(url.database)).expanduser()))
        self.shared_connection = url.database in (None, "", ":memory:")
        self.name = url.render_as_string() if self.shared_connection else str(url.database)
        self._busy_seconds = busy_seconds
        self._frozen: tuple[object, ...] | None = None
        if not self.shared_connection:
            _make_file(str(url.database))
        self.engine = self._engine(url)

    @property
    def bytes(self) -> int | None:
        """Size of the file and its log; None where there is no file."""
        paths = [Path(f"{self.name}{suffix}") for suffix in ("", "-wal")]
        if self.shared_connection or not paths[0].is_file():
            return None
        return sum(path.stat().st_size for path in paths if path.exists())

    def open(self) -> None:
        """Makes sure that the file can be read, as immutable where that is the only way."""
        self._frozen = None
        try:
            self._look()
        except sqlite3.OperationalError as error:
            if _code(error) not in _UNREADABLE or not Path(self.name).is_file():
                raise
            log = Path(f"{self.name}-wal")
            if log.exists() and log.stat().st_size:
                raise StorageError(
                    f"{self.name}: its last changes are still in its log, {log.name}, "
                    "which cannot be read in a read-only directory.",
                    hint="Make the directory writable once, or copy both files elsewhere.",
                ) from error
            self._frozen = _signature(self.name)
            self._look()

    def refresh(self) -> None:
        """Opens an immutable file again if somebody else has changed it."""
        if self._frozen is not None and self._frozen != _signature(self.name):
            self.engine.dispose()
            self.open()

    def before_migrating(self) -> None:
        """Switches to WAL, which stays with the file."""
        with self._raw() as connection:
            self._patiently(lambda: connection.cursor().execute("PRAGMA journal_mode=WAL"))

    def migrating(self, connection: Connection) -> None:
        """Nothing more: BEGIN IMMEDIATE keeps other processes away."""

    def scrub(self, *full_text: str) -> None:
        """Wipes what deletions leave behind: words in full text tables, pages in the log.

        The words are in the way of segments that only merging all of them rewrites, which is done
        in slices: other writers take their turns between them.

        Raises:
            StorageError: Somebody reads an older state for so long that the log must be kept.
        """
        with self._raw() as connection:
            cursor = connection.cursor()
            for table in full_text:
                merge = f"INSERT INTO {table}({table}, rank) VALUES('merge', ?)"
                # Less than zero starts on all segments at once; two changes mean that none is left.
                pages, before = -_SLICE_PAGES, 0
                while pages < 0 or connection.total_changes - before >= 2:
                    before = connection.total_changes
                    self._patiently(lambda: cursor.execute(merge, (pages,)))  # noqa: B023
                    pages = _SLICE_PAGES
            # SQLite itself waits for readers, but not for another one's checkpoint.
            deadline = time.monotonic() + self._busy_seconds
            while cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise StorageError(f"{self.name}: somebody still reads what was there before.")
                time.sleep(_PAUSE)
            cursor.close()

    def explain(self, error: Exception) -> RyzansteinError | None:
        """Returns the clear error of one of SQLite's; None where it is not SQLite's."""
        if not isinstance(error, sqlite3.Error):
            return None
        code = _code(error)
        if code == sqlite3.SQLITE_BUSY:
            return TimedOut(
                f"{self.name}: another process kept the database locked.",
                hint="Try again when it has finished.",
            )
        says, hint = _EXPLANATIONS.get(code, (str(error), "Check the file and try again."))
        return StorageError(f"{self.name}: {says}.", hint=hint)

    def _engine(self, url: URL) -> Engine:
        arguments = {"check_same_thread": False, "timeout": self._busy_seconds}
        options: dict[str, Any] = {"poolclass": StaticPool} if self.shared_connection else {}
        engine = create_engine(url, connect_args=arguments, **options)
        event.listen(engine, "do_connect", self._redirect)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", self._begin)
        return engine

    def _redirect(self, dialect: object, record: object, words: list[Any], named: Any) -> None:
        if self._frozen is not None:
            words[0] = f"{Path(self.name).absolute().as_uri()}?immutable=1"
            named["uri"] = True

    def _begin(self, connection: Connection) -> None:
        # A reader's snapshot starts here too. The busy timeout does not cover every case, such as
        # another process that replays the log of one that was killed.
        immediate = connection.get_execution_options().get("immediate", False)
        cursor = connection.connection.cursor()
        if immediate:
            self._patiently(lambda: cursor.execute("BEGIN IMMEDIATE"))
        else:
            cursor.execute("BEGIN")
            self._patiently(lambda: cursor.execute("PRAGMA schema_version").fetchone())
        cursor.close()

    def _patiently(self, action: Any) -> None:
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                action()
                return
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def _look(self) -> None:
        with self._raw() as connection:
            self._patiently(lambda: connection.cursor().execute("PRAGMA schema_version").fetchone())

    @contextmanager
    def _raw(self) -> Iterator[Any]:
        connection = self.engine.raw_connection()
        try:
            yield connection
        finally:
            connection.close()


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY


def _signature(path: str) -> tuple[object, ...]:
    found = Path(path).stat()
    log = Path(f"{path}-wal")
    return found.st_ino, found.st_size, found.st_mtime_ns, log.exists() and log.stat().st_size


_FULL = (
    "the disk is full or the file may not grow; nothing of this change was stored",
    "Free some space and try again; what was stored before is safe.",
)
_DAMAGED = (
    "the file is damaged or is no SQLite database",
    "Put a backup in its place; or save what is readable with "
    "`sqlite3 FILE .recover | sqlite3 NEW`; or move the file away to start with an empty one.",
)
_EXPLANATIONS = {
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _FULL,
    sqlite3.SQLITE_READONLY: (
        "the database is read-only",
        "Make the file and its directory writable, or set RYZANSTEIN_DATABASE_URL.",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened or made",
        "Check that its directory exists and is yours, or set RYZANSTEIN_DATABASE_URL.",
    ),
}


def _make_file(database: str) -> None:
    if database.startswith("file:"):
        return
    directory = Path(database).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{directory} cannot be made: {error.strerror}.",
            hint="Set RYZANSTEIN_DATA_DIR or RYZANSTEIN_DATABASE_URL to a place of yours.",
        ) from error
    # SQLite would let every user of the machine read it. What is wrong here it says better itself.
    with contextlib.suppress(OSError):
        os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _prepare(connection: Any, record: object) -> None:
    # The driver must not begin transactions by itself: _begin does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()
