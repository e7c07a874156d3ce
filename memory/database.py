"""One database behind the store: connections, transactions, migrations and errors in plain words.

SQLite runs in WAL mode with synchronous=FULL: the commit has reached the disk before a write is
acknowledged, and readers never wait for the writer. NORMAL would be faster but may lose the last
acknowledged commits when the power fails. A writing transaction is BEGIN IMMEDIATE, so two
processes queue up for the busy timeout rather than fail in the middle. Deleted content is zeroed.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    inspect,
    make_url,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import StaticPool

from ryzanstein.errors import ConfigError, ConnectionFailed, RyzansteinError, StorageError, TimedOut
from ryzanstein.memory.migrations import HEAD
from ryzanstein.memory.schema import RevisionRow

__all__ = ["Database"]

_BUSY_SECONDS = 30.0
_PRIMARY = 0xFF  # the low byte of an extended SQLite result code
_EXAMPLE = "For example sqlite:////home/me/memory.db or postgresql+psycopg://user@host/name."


class Database:
    """An open, migrated database.

    Args:
        url: SQLAlchemy URL.
        busy_seconds: How long a writer waits for another one.

    Raises:
        ConfigError: The URL is no URL, or its driver is not installed.
        ConnectionFailed: The server cannot be reached.
        StorageError: The file cannot be opened, is damaged, or is of a newer version.
    """

    def __init__(self, url: str, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        self.url = _parse(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._in_memory = self.is_sqlite and self.url.database in (None, "", ":memory:")
        self._busy_seconds = busy_seconds
        self._writers = threading.RLock()
        self.engine = self._engine()
        try:
            with self._translated():
                self._migrate()
                self.full_text = self._full_text()
        except RyzansteinError:
            self.engine.dispose()
            raise

    @property
    def name(self) -> str:
        """The file's path, or the URL without its password."""
        if self.is_sqlite and not self._in_memory:
            return str(self.url.database)
        return self.url.render_as_string(hide_password=True)

    @property
    def bytes(self) -> int | None:
        """Size of the file and its log; None where there is no file."""
        paths = [Path(f"{self.url.database}{suffix}") for suffix in ("", "-wal")]
        if not self.is_sqlite or not paths[0].is_file():
            return None
        return sum(path.stat().st_size for path in paths if path.exists())

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Opens one transaction that sees one state of the database."""
        # A database in memory has one connection for all threads.
        lock = self._writers if self._in_memory else threading.Lock()
        with lock, self._translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[tuple[Connection, int]]:
        """Opens one writing transaction and gives its revision; it is durable once left.

        Raises:
            StorageError: The database is read-only, damaged, or the disk is full.
            TimedOut: Another process kept the database locked.
        """
        with self._writers, self._translated(), self.engine.connect() as plain:
            connection = plain.execution_options(immediate=True)
            with connection.begin():
                raised = update(RevisionRow).values(value=RevisionRow.value + 1)
                revision = connection.execute(raised.returning(RevisionRow.value)).scalar_one()
                yield connection, revision

    def scrub(self) -> None:
        """Wipes what deletions leave behind: words in the full text index, pages in the log."""
        if not self.is_sqlite:
            return
        with self._writers, self._translated():
            connection = self.engine.raw_connection()
            try:
                cursor = connection.cursor()
                if self.full_text:
                    for table in ("memories_fts", "experiences_fts"):
                        cursor.execute(f"INSERT INTO {table}({table}) VALUES('optimize')")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                cursor.close()
            finally:
                connection.close()

    def close(self) -> None:
        """Closes every connection; SQLite folds its log into the file with the last one."""
        self.engine.dispose()

    def _engine(self) -> Engine:
        if not self.is_sqlite:
            try:
                return create_engine(self.url, pool_pre_ping=True)
            except (NoSuchModuleError, ModuleNotFoundError) as error:
                raise ConfigError(
                    f"The database URL needs a driver that is not installed: {error}.",
                    hint="Install the driver, or use the default SQLite database.",
                ) from error
        _make_directory(self.url)
        arguments = {"check_same_thread": False, "timeout": self._busy_seconds}
        options: dict[str, Any] = {"poolclass": StaticPool} if self._in_memory else {}
        engine = create_engine(self.url, connect_args=arguments, **options)
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    def _migrate(self) -> None:
        if self._version() == HEAD:
            return
        if self.is_sqlite:
            self._use_wal()
        with self._writers, self.engine.connect() as plain:
            connection = plain.execution_options(immediate=True)
            with connection.begin():
                self._upgrade(connection)

    def _version(self) -> str | None:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version"))
            version: str | None = found.scalar_one_or_none()
        if version is not None and version > HEAD:
            raise StorageError(
                f"{self.name} was written by a newer version of Ryzanstein ({version}).",
                hint="Upgrade Ryzanstein, or point RYZANSTEIN_DATABASE_URL to another database.",
            )
        return version

    def _use_wal(self) -> None:
        # The switch needs the file alone and does not always wait for the busy timeout.
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                connection = self.engine.raw_connection()
                try:
                    connection.cursor().execute("PRAGMA journal_mode=WAL")
                finally:
                    connection.close()
                return
            except sqlite3.OperationalError as error:
                code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
                if code != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @staticmethod
    def _upgrade(connection: Connection) -> None:
        # Alembic takes a third of a second to import and is needed once in a database's life.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(files("ryzanstein.memory") / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    def _full_text(self) -> bool:
        with self.engine.connect() as connection:
            return self.is_sqlite and inspect(connection).has_table("memories_fts")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> RyzansteinError:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
        if not self.is_sqlite:
            kind = ConnectionFailed if isinstance(error, DBAPIError) else StorageError
            reason = " ".join(str(cause).split())
            return kind(f"{self.name}: {reason}", hint="Check the server and the database URL.")
        code = getattr(cause, "sqlite_errorcode", 0) & _PRIMARY
        if code == sqlite3.SQLITE_BUSY:
            return TimedOut(
                f"{self.name}: another process kept the database locked.",
                hint="Try again when it has finished.",
            )
        says, hint = _EXPLANATIONS.get(code, (str(cause), "Check the file and try again."))
        return StorageError(f"{self.name}: {says}.", hint=hint)


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


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"{url!r} is not a database URL.", hint=_EXAMPLE) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The database URL needs a driver that is not installed: {error.name}.",
            hint=f"Install it: pip install {error.name}.",
        ) from error
    if parsed.get_backend_name() == "sqlite" and (parsed.database or "").startswith("~"):
        parsed = parsed.set(database=str(Path(str(parsed.database)).expanduser()))
    return parsed


def _make_directory(url: URL) -> None:
    if url.database in (None, "", ":memory:") or str(url.database).startswith("file:"):
        return
    directory = Path(str(url.database)).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{directory} cannot be made: {error.strerror}.",
            hint="Set RYZANSTEIN_DATA_DIR or RYZANSTEIN_DATABASE_URL to a place of yours.",
        ) from error


def _prepare(connection: Any, record: object) -> None:
    # The driver must not begin transactions by itself: _begin does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
