"""PostgreSQL with pgvector behind the store: sessions, the vector type, and what its errors mean.

Every writing transaction raises the one row of `revision` first; the row's lock makes writers take
turns, so revisions are committed in their order, as on SQLite. A reading transaction is REPEATABLE
READ: it sees one state. The server's own synchronous_commit decides when a commit is on the disk.
Vectors are kept in pgvector's type, any version of it; elsewhere they are float32 bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, func, inspect, text
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import UserDefinedType

from ryzanstein.errors import (
    ConfigError,
    ConnectionFailed,
    RyzansteinError,
    StorageError,
    TimedOut,
)

__all__ = ["PgVector", "Postgres"]

_EXTENSION = "vector"
_INSTALL = "Install it: pip install 'ryzanstein[postgres]'."
_HEADER = struct.Struct(">HH")  # what vector_send writes first: the dimension, and a zero
# Two processes that open a new database at once must not both make its tables.
_MIGRATION_LOCK = 0x72797A61
_SCHEMA = re.compile("[a-z_][a-z0-9_]{0,62}")


class PgVector(UserDefinedType[bytes]):
    """pgvector's `vector` of any dimension, read and written as little-endian float32 bytes."""

    cache_ok = True

    def get_col_spec(self, **options: Any) -> str:
        """Returns the type's name in SQL."""
        return "VECTOR"

    def bind_processor(self, dialect: Dialect) -> Callable[[bytes | None], str | None]:
        """Returns what turns bytes into pgvector's text; a float32 keeps its value in it."""

        def to_text(value: bytes | None) -> str | None:
            if value is None:
                return None
            return str(list(struct.unpack(f"<{len(value) // 4}f", value)))

        return to_text

    def column_expression(self, colexpr: ColumnElement[Any]) -> ColumnElement[Any]:
        """Reads the binary form, which costs no parsing of numbers."""
        return func.vector_send(colexpr, type_=self)

    def result_processor(
        self, dialect: Dialect, coltype: object
    ) -> Callable[[bytes | None], bytes | None]:
        """Returns what turns pgvector's binary form into little-endian float32."""

        def to_bytes(value: bytes | None) -> bytes | None:
            if value is None:
                return None
            dimension, _ = _HEADER.unpack_from(value)
            numbers = struct.unpack_from(f">{dimension}f", value, _HEADER.size)
            return struct.pack(f"<{dimension}f", *numbers)

        return to_bytes


class Postgres:
    """One database on a PostgreSQL server.

    Args:
        url: SQLAlchemy URL; with `schema=NAME` in its query, one schema of the database, which is
            made where it is missing.
        busy_seconds: How long a writer waits for another one.

    Raises:
        ConfigError: The driver is not installed, or the schema's name is none.
    """

    shared_connection = False
    reading: dict[str, Any] = {"isolation_level": "REPEATABLE READ"}  # noqa: RUF012
    writing: dict[str, Any] = {"isolation_level": "READ COMMITTED"}  # noqa: RUF012

    def __init__(self, url: URL, busy_seconds: float) -> None:
        self.name = url.render_as_string(hide_password=True)
        self.schema = _schema_of(url)
        self._busy_seconds = busy_seconds
        self.engine = self._engine(url.difference_update_query(["schema"]))

    @property
    def bytes(self) -> int | None:
        """Size of the database, or of the schema, on the server."""
        query = "SELECT pg_database_size(current_database())"
        if self.schema is not None:
            query = (
                "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
                "WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'"
            )
        with self.engine.connect() as connection:
            size: int = connection.execute(text(query)).scalar_one()
        return size

    def open(self) -> None:
        """Makes the schema; without one the first query tells whether the server is there."""
        if self.schema is None:
            return
        with self.engine.connect() as connection, connection.begin():
            if inspect(connection).has_schema(self.schema):
                return
            self._alone(connection)
            # Its type is everybody's, so it must not end up in the schema of whoever comes first.
            connection.execute(
                text(f"CREATE EXTENSION IF NOT EXISTS {_EXTENSION} WITH SCHEMA public")
            )
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {self.schema}"))

    def refresh(self) -> None:
        """Nothing: the server shows every transaction the newest state."""

    def before_migrating(self) -> None:
        """Nothing: the tables are made in one transaction."""

    def migrating(self, connection: Connection) -> None:
        """Keeps other processes from migrating and makes sure that the database has pgvector."""
        self._alone(connection)
        connection.execute(text(f"CREATE EXTENSION IF NOT EXISTS {_EXTENSION}"))

    @staticmethod
    def _alone(connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})

    def scrub(self, *full_text: str) -> None:
        """Frees the space of deleted rows and drops their words from the full text index."""
        plain = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with plain as connection:
            connection.execute(
                text("VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON) memories, experiences, embeddings")
            )

    def explain(self, error: Exception) -> RyzansteinError | None:
        """Returns the clear error of one of the driver's; None where it is not the driver's."""
        if not type(error).__module__.startswith("psycopg"):
            return None
        state = getattr(error, "sqlstate", None) or ""
        said = " ".join(str(error).split())
        # Without a connection there is no state, only what the library says.
        lost = not state and type(error).__name__ == "OperationalError"
        if lost or state[:2] in _UNREACHABLE or state in _REFUSED:
            hint = _REFUSED.get(state) or _unreachable_hint(said)
            return ConnectionFailed(f"{self.name}: {said}", hint=hint)
        if state in _BUSY:
            return TimedOut(
                f"{self.name}: another process kept the database locked.",
                hint="Try again when it has finished.",
            )
        known = _EXPLANATIONS.get(state) or _EXPLANATIONS.get(state[:2])
        says, hint = known or (said, "Check the server and its log.")
        if _EXTENSION in said and state in _NO_EXTENSION:
            says, hint = _NO_EXTENSION[state]
        return StorageError(f"{self.name}: {says}", hint=hint)

    def _engine(self, url: URL) -> Engine:
        try:
            engine = create_engine(url, pool_pre_ping=True)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise ConfigError(
                f"The database URL needs a driver that is not installed: {error}.", hint=_INSTALL
            ) from error
        event.listen(engine, "connect", self._prepare)
        return engine

    def _prepare(self, connection: Any, record: object) -> None:
        before = connection.autocommit
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(self._busy_seconds * 1000)}")
            cursor.execute("SET client_min_messages = warning")
            if self.schema is not None:
                # First of all, so that whatever is made or asked for without a schema is its own.
                path = "quote_ident(%s) || ', ' || current_setting('search_path')"
                cursor.execute(f"SELECT set_config('search_path', {path}, false)", (self.schema,))
        connection.autocommit = before


def _schema_of(url: URL) -> str | None:
    name = url.query.get("schema")
    if name is not None and not (isinstance(name, str) and _SCHEMA.fullmatch(name)):
        raise ConfigError(
            f"{name!r} is no name of a schema.", hint="Small letters, digits and _, at most 63."
        )
    return name


def _unreachable_hint(said: str) -> str:
    if "password authentication failed" in said:
        return "Check the user and the password in the database URL."
    if "does not exist" in said:
        return "Make the database on the server (createdb), or correct the database URL."
    return "Check that the server runs and the database URL is right."


_UNREACHABLE = {"08", "57"}
_REFUSED = {
    "28P01": "Check the user and the password in the database URL.",
    "28000": "Check the user and the password in the database URL.",
    "3D000": "Make the database on the server (createdb), or correct the database URL.",
    "53300": "Close other connections, or raise the server's max_connections.",
}
_BUSY = {"55P03", "40P01", "40001"}
_FULL = (
    "the server's disk is full; nothing of this change was stored.",
    "Free some space and try again; what was stored before is safe.",
)
_READ_ONLY = (
    "the database is read-only.",
    "Use a server that is no standby and a user who may write, or set RYZANSTEIN_DATABASE_URL.",
)
_EXPLANATIONS = {
    "53100": _FULL,
    "25006": _READ_ONLY,
    "42501": (
        "this user may not read or change the store's tables.",
        "Use the user who made the tables, or let an administrator GRANT the rights.",
    ),
    "XX001": ("the server found damaged data.", "Restore a backup; see the server's log."),
    "XX002": ("the server found a damaged index.", "REINDEX the database; see its log."),
}
_ABSENT = (
    "the server has no pgvector.",
    "Install pgvector on the server (Debian: postgresql-NN-pgvector) and try again.",
)
_NO_EXTENSION = {
    "0A000": _ABSENT,
    "58P01": _ABSENT,
    "42501": (
        "this user may not add pgvector to the database.",
        "Let an administrator run CREATE EXTENSION vector in it.",
    ),
}
