"""One database behind the store: transactions, migrations and errors in plain words.

What differs between SQLite and PostgreSQL is in sqlite.py and postgres.py, behind `Backend`.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.resources import files
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, inspect, make_url, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from ryzanstein.errors import ConfigError, RyzansteinError, StorageError, TimedOut
from ryzanstein.memory.migrations import HEAD
from ryzanstein.memory.postgres import Postgres
from ryzanstein.memory.schema import MemoryRow, RevisionRow
from ryzanstein.memory.sqlite import SQLite

__all__ = ["Backend", "Database"]

# Every write begins with it: built once.
_RAISE = update(RevisionRow).values(value=RevisionRow.value + 1).returning(RevisionRow.value)
_ALEMBIC = threading.Lock()
_BUSY_SECONDS = 30.0
_OWN_REVISIONS = 1000
_POSTGRES = "postgresql+psycopg"
_OURS = re.compile("[0-9]{4}")  # so that revisions compare as texts
_ANOTHER = "point RYZANSTEIN_DATABASE_URL to another database"
_EXAMPLE = "For example sqlite:////home/me/memory.db or postgresql+psycopg://user@host/name."


class Backend(Protocol):
    """What a kind of database must offer.

    Attributes:
        name: What to call the database in messages; no password in it.
        schema: Where its tables are, among others of the same database; None: its default one.
        engine: Its connections.
        shared_connection: All threads have one connection and must take turns.
        reading: Execution options of a transaction that sees one state.
        writing: Execution options of a transaction that waits for its turn.
    """

    name: str
    schema: str | None
    engine: Engine
    shared_connection: bool
    reading: dict[str, Any]
    writing: dict[str, Any]

    @property
    def bytes(self) -> int | None:
        """Size of the database; None where that says nothing."""

    def open(self) -> None:
        """Called once, before the first transaction."""

    def refresh(self) -> None:
        """Called before every transaction."""

    def before_migrating(self) -> None:
        """Called outside of any transaction."""

    def migrating(self, connection: Connection) -> None:
        """Called first in the transaction that migrates."""

    def scrub(self, *full_text: str) -> None:
        """Wipes what deletions leave behind, also in these full text tables."""

    def explain(self, error: Exception) -> RyzansteinError | None:
        """Returns the clear error of one of the driver's; None where it is not the driver's."""


class Database:
    """An open, migrated database.

    Args:
        url: SQLAlchemy URL.
        busy_seconds: How long a writer waits for another one.

    Raises:
        ConfigError: The URL is no URL, or its driver is not installed.
        ConnectionFailed: The server cannot be reached.
        StorageError: The file cannot be opened, is damaged, of a newer version, or not ours.
    """

    def __init__(self, url: str, *, busy_seconds: float = _BUSY_SECONDS) -> None:
        parsed = _parse(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        kind = SQLite if self.is_sqlite else Postgres
        self._backend: Backend = kind(parsed, busy_seconds)
        self._writers = threading.RLock()
        self._own: deque[int] = deque(maxlen=_OWN_REVISIONS)
        self._closed = False
        try:
            with self._translated():
                self._backend.open()
                self._migrate()
                self.full_text = self._full_text()
        except RyzansteinError:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The file's path, or the URL without its password."""
        return self._backend.name

    @property
    def bytes(self) -> int | None:
        """Size of the database; None where that says nothing."""
        with self._translated():
            return self._opened().bytes

    @property
    def engine(self) -> Engine:
        """The connections."""
        return self._backend.engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Opens one transaction that sees one state of the database."""
        with self._turn(), self._translated():
            self._opened().refresh()
            with self._connect(self._backend.reading) as connection, connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[tuple[Connection, int]]:
        """Opens one writing transaction and gives its revision; it is durable once left.

        Raises:
            StorageError: The database is read-only, damaged, or the disk is full.
            TimedOut: Another process kept the database locked.
        """
        with self._writers, self._translated():
            self._opened().refresh()
            with self._connect(self._backend.writing) as connection, connection.begin():
                revision = connection.execute(_RAISE).scalar_one()
                yield connection, revision
            self._own.append(revision)

    def own_since(self, revision: int) -> frozenset[int]:
        """Returns the later revisions that this object's transactions made, the latest 1,000.

        One that is being committed at the moment may be missing.
        """
        return frozenset(one for one in tuple(self._own) if one > revision)

    def scrub(self) -> None:
        """Wipes what deletions leave behind: words in the full text index, pages in the log.

        Raises:
            StorageError: There is no room to do it in, or others keep using what was there before;
                what was deleted stays deleted.
        """
        tables = ("memories_fts", "experiences_fts") if self.full_text else ()
        try:
            with self._turn(), self._translated():
                self._opened().scrub(*tables)
        except (StorageError, TimedOut) as error:
            raise StorageError(
                "It is forgotten, but its words could not be wiped from the freed parts of "
                f"{self.name}.",
                hint=f"The next deletion wipes them too. {error.hint}".strip(),
            ) from error

    def close(self) -> None:
        """Closes every connection; SQLite folds its log into the file with the last one."""
        self._closed = True
        self.engine.dispose()

    def _opened(self) -> Backend:
        if self._closed:
            raise StorageError(f"{self.name} is closed.", hint="Open the store again.")
        return self._backend

    def _turn(self) -> AbstractContextManager[Any]:
        """What a thread holds while it uses a connection that all of them share."""
        return self._writers if self._backend.shared_connection else nullcontext()

    def _connect(self, options: dict[str, Any]) -> Any:
        return self.engine.connect().execution_options(**options)

    def _migrate(self) -> None:
        if self._version() == HEAD:
            return
        self._backend.before_migrating()
        with (
            self._writers,
            self._connect(self._backend.writing) as connection,
            connection.begin(),
        ):
            self._backend.migrating(connection)
            self._upgrade(connection)

    def _version(self) -> str | None:
        with self.engine.connect() as connection:
            # Asked for first: another process may make all tables between two looks.
            schema = self._backend.schema
            filled = inspect(connection).has_table(MemoryRow.__tablename__, schema)
            version: str | None = None
            if inspect(connection).has_table("alembic_version", schema):
                found = connection.execute(text("SELECT version_num FROM alembic_version"))
                version = found.scalars().first()
        if version is None and filled:
            raise self._foreign("it has a table of memories that Ryzanstein did not make")
        if version is not None and not _OURS.fullmatch(version):
            raise self._foreign(f"its version {version[:40]!r} is none of ours")
        if version is not None and version > HEAD:
            raise StorageError(
                f"{self.name} was written by a newer version of Ryzanstein ({version}).",
                hint=f"Upgrade Ryzanstein, or {_ANOTHER}.",
            )
        return version

    def _foreign(self, why: str) -> StorageError:
        hint = f"Leave it as it is and {_ANOTHER}."
        return StorageError(f"{self.name} is not a Ryzanstein database: {why}.", hint=hint)

    def _upgrade(self, connection: Connection) -> None:
        # Alembic takes a third of a second to import and is needed once in a database's life.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(files("ryzanstein.memory") / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        config.attributes["schema"] = self._backend.schema
        # Alembic keeps the migration under way in module variables: of two threads, one would
        # migrate the database of the other.
        with _ALEMBIC:
            command.upgrade(config, "head")

    def _full_text(self) -> bool:
        with self.engine.connect() as connection:
            return self.is_sqlite and inspect(connection).has_table("memories_fts")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
            clear = self._backend.explain(cause)
            if clear is None:
                raise
            raise clear from error


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername=_POSTGRES)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"{url!r} is not a database URL.", hint=_EXAMPLE) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The database URL needs a driver that is not installed: {error.name}.",
            hint="For PostgreSQL: pip install 'ryzanstein[postgres]'.",
        ) from error
    if parsed.get_backend_name() != "sqlite" and parsed.drivername != _POSTGRES:
        raise ConfigError(f"{parsed.drivername} is no database URL of ours.", hint=_EXAMPLE)
    return parsed
