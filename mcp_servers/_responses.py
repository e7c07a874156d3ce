"""Answers that are kept, so that the same question to the same model is not paid for twice.

One SQLite file beside the memory, for any number of processes. An answer belongs to a scope, which
is the model and its parameters, and to a prompt. It is found

exactly    by the digest of scope and prompt
nearly     among the prompts of its scope, by the vector, and only where both texts say the same:
           a vector alone takes "add 2 and 3" for "add 2 and 4"

An answer goes when its time is over, or as the one used the longest ago when there are too many
bytes. Nothing here is the only copy of anything: a damaged file is begun anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ryzanstein.errors import InvalidRequest, StorageError

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder

__all__ = ["EXACT", "Response", "ResponseCache", "ResponseStats"]

log = logging.getLogger("ryzanstein.mcp_servers")

_Found = TypeVar("_Found")

EXACT: Final = 1.0
_VERSION: Final = 1
_BUSY_SECONDS: Final = 30.0
_COMPARED: Final = 20_000  # prompts of a scope whose vectors are looked at, the latest used
_NEAREST: Final = 5  # of them whose texts are compared
_DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# Of a time, later than all that is there: what was used last stays last where the clock goes back.
_LATEST: Final = "(SELECT max(?, coalesce(max(used), 0) + 1e-6) FROM responses)"
_TABLES: Final = (
    "DROP TABLE IF EXISTS responses",
    "DROP TABLE IF EXISTS lookups",
    """CREATE TABLE responses (
      id TEXT PRIMARY KEY, scope TEXT NOT NULL, model TEXT NOT NULL, prompt TEXT NOT NULL,
      response TEXT NOT NULL, embedding TEXT, vector BLOB, bytes INTEGER NOT NULL,
      created REAL NOT NULL, expires REAL NOT NULL, used REAL NOT NULL, hits INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX responses_scope ON responses (scope, used)",
    "CREATE INDEX responses_used ON responses (used, bytes)",
    "CREATE INDEX responses_expires ON responses (expires)",
    "CREATE TABLE lookups (outcome TEXT PRIMARY KEY, count INTEGER NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that is kept; times are seconds since the epoch."""

    id: str
    model: str
    prompt: str
    response: str
    bytes: int
    created: float
    expires: float
    hits: int
    similarity: float = EXACT


@dataclass(frozen=True, slots=True)
class ResponseStats:
    """How many answers there are, what they take, and how lookups went."""

    responses: int
    bytes: int
    exact: int
    near: int
    missed: int


class ResponseCache:
    """The answers in one file.

    Args:
        path: The file; made with the first answer, readable by its owner alone.
        max_bytes: Prompts, answers and vectors together are kept below it.
        embedder: Made when a prompt is first compared.
    """

    def __init__(self, path: Path, max_bytes: int, embedder: Callable[[], Embedder]) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._embedder = embedder
        self._lock = threading.Lock()

    def store(
        self, prompt: str, response: str, model: str, parameters: Mapping[str, Any], seconds: float
    ) -> Response:
        """Keeps an answer, in place of an older one to the same question.

        Raises:
            InvalidRequest: It is larger than everything may be together.
            StorageError: The disk cannot take it.
        """
        scope = _scope(model, parameters)
        vector, embedding = self._vector(prompt)
        size = len(prompt.encode()) + len(response.encode()) + len(vector)
        if size > self.max_bytes:
            raise InvalidRequest(
                f"An answer of {size:,} bytes is larger than the cache, {self.max_bytes:,}.",
                hint="Raise the setting responses_mb.",
            )
        now = time.time()
        kept = Response(
            _id(scope, prompt), model, prompt, response, size, now, now + seconds, hits=0
        )
        row = (kept.id, scope, model, prompt, response, embedding, vector, size, now, kept.expires)

        def put(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM responses WHERE expires <= ?", (now,))
            connection.execute(
                f"INSERT OR REPLACE INTO responses VALUES ({'?, ' * 10}{_LATEST}, 0)", (*row, now)
            )
            (total,) = connection.execute("SELECT sum(bytes) FROM responses").fetchone()
            if total > self.max_bytes:
                self._shrink(connection)

        self._within(put)
        return kept

    def lookup(
        self, prompt: str, model: str, parameters: Mapping[str, Any], least: float
    ) -> Response | None:
        """Finds the answer to a question, or to one that says the same.

        Args:
            prompt: The question.
            model: Whose answer.
            parameters: It was asked with.
            least: Cosine from which on another prompt is looked at; 1.0 for this prompt only.

        Raises:
            StorageError: The file cannot be read.
        """
        if not self.path.exists():
            return None
        scope, now = _scope(model, parameters), time.time()

        def look(connection: sqlite3.Connection) -> Response | None:
            id, similarity = _id(scope, prompt), EXACT
            found = _live(connection, id, now)
            if found is None and least < EXACT:
                id, similarity = self._nearest(connection, scope, prompt, least, now)
                found = _live(connection, id, now)
            outcome = "missed" if found is None else "exact" if similarity == EXACT else "near"
            connection.execute(
                "INSERT INTO lookups VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
                (outcome,),
            )
            if found is None:
                return None
            connection.execute(
                f"UPDATE responses SET used = {_LATEST}, hits = hits + 1 WHERE id = ?", (now, id)
            )
            return Response(**{**found, "hits": found["hits"] + 1}, similarity=similarity)

        return self._within(look)

    def evict(self, ids: Sequence[str], keep_bytes: int | None, model: str | None) -> list[int]:
        """Drops chosen answers, or those used the longest ago; returns the bytes of each.

        Args:
            ids: Those to drop.
            keep_bytes: At most so many are left; None where there are ids.
            model: Only answers of this model; None for any.
        """
        if not self.path.exists():
            return []

        def drop(connection: sqlite3.Connection) -> list[int]:
            rows = connection.execute(
                "SELECT id, bytes FROM responses WHERE ? IN ('', model) ORDER BY used DESC",
                (model or "",),
            ).fetchall()
            if keep_bytes is None:
                gone = [(id, size) for id, size in rows if id in set(ids)]
            else:
                gone = _beyond(rows, keep_bytes)
            connection.executemany("DELETE FROM responses WHERE id = ?", [(id,) for id, _ in gone])
            return [size for _, size in gone]

        return self._within(drop)

    def stats(self) -> ResponseStats:
        """Counts what is here and how it was used."""
        if not self.path.exists():
            return ResponseStats(0, 0, 0, 0, 0)

        def count(connection: sqlite3.Connection) -> ResponseStats:
            responses, size = connection.execute(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM responses WHERE expires > ?",
                (time.time(),),
            ).fetchone()
            lookups = dict(connection.execute("SELECT outcome, count FROM lookups"))
            counted = (lookups.get(outcome, 0) for outcome in ("exact", "near", "missed"))
            return ResponseStats(responses, size, *counted)

        return self._within(count)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT id, bytes FROM responses ORDER BY used DESC").fetchall()
        gone = [(id,) for id, _ in _beyond(rows, self.max_bytes)]
        connection.executemany("DELETE FROM responses WHERE id = ?", gone)

    def _nearest(
        self, connection: sqlite3.Connection, scope: str, prompt: str, least: float, now: float
    ) -> tuple[str, float]:
        """Id and similarity of the nearest prompt that says the same; "" without one."""
        import numpy as np

        from ryzanstein.memory.agreement import MAX_COMPARED, agree

        if len(prompt) > MAX_COMPARED:
            return "", 0.0
        vector, embedding = self._vector(prompt)
        rows = connection.execute(
            "SELECT id, vector FROM responses WHERE scope = ? AND embedding = ? AND expires > ? "
            "ORDER BY used DESC LIMIT ?",
            (scope, embedding, now, _COMPARED),
        ).fetchall()
        if not rows:
            return "", 0.0
        vectors = np.frombuffer(b"".join(row[1] for row in rows), np.float16)
        asked = np.frombuffer(vector, np.float16).astype(np.float32)
        near = vectors.reshape(len(rows), -1).astype(np.float32) @ asked
        for at in np.argsort(-near)[:_NEAREST]:
            if near[at] < least:
                break
            found = _live(connection, rows[at][0], now)
            if found is not None and agree(found["prompt"], prompt).verdict == "same":
                return rows[at][0], min(round(float(near[at]), 4), EXACT - 1e-4)
        return "", 0.0

    def _vector(self, prompt: str) -> tuple[bytes, str]:
        embedder = self._embedder()
        return embedder.embed([prompt])[0].astype("<f2").tobytes(), embedder.model_id

    def _within(self, work: Callable[[sqlite3.Connection], _Found]) -> _Found:
        """Does work in a transaction; a file that turns out damaged is begun anew for it."""
        try:
            try:
                return self._done(work)
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                    raise
                log.warning("the kept answers are damaged and begun anew: %s", error)
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self.path}{suffix}").unlink(missing_ok=True)
                return self._done(work)
        except (sqlite3.Error, OSError) as error:
            why = getattr(error, "strerror", None) or error
            raise StorageError(
                f"The kept answers cannot be used: {why}.", hint="Is the disk full or read-only?"
            ) from error

    def _done(self, work: Callable[[sqlite3.Connection], _Found]) -> _Found:
        with self._lock:
            connection = self._connected()
        with contextlib.closing(connection), connection:
            connection.execute("BEGIN IMMEDIATE")
            return work(connection)

    def _connected(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            if _version(connection) != _VERSION:
                _begin(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _begin(connection: sqlite3.Connection) -> None:
    """Makes the tables, unless another process did so while this one waited for its turn."""
    with contextlib.suppress(sqlite3.OperationalError):  # another process is at it
        connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) != _VERSION:
            for statement in _TABLES:
                connection.execute(statement)


def _scope(model: str, parameters: Mapping[str, Any]) -> str:
    text = json.dumps([model, parameters], sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def _id(scope: str, prompt: str) -> str:
    data = f"{scope}\n{prompt}".encode("utf-8", "surrogatepass")
    return f"res_{hashlib.blake2b(data, digest_size=12).hexdigest()}"


def _live(connection: sqlite3.Connection, id: str, now: float) -> dict[str, Any] | None:
    """The row of an answer whose time is not over."""
    names = ("id", "model", "prompt", "response", "bytes", "created", "expires", "hits")
    row = connection.execute(
        f"SELECT {', '.join(names)} FROM responses WHERE id = ? AND expires > ?", (id, now)
    ).fetchone()
    return None if row is None else dict(zip(names, row, strict=True))


def _beyond(rows: Sequence[tuple[str, int]], most: int) -> list[tuple[str, int]]:
    """Those of `rows`, the latest used first, that are too much."""
    total, gone = 0, []
    for id, size in rows:
        total += size
        if total > most:
            gone.append((id, size))
    return gone
