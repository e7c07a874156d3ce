"""Keeps one space's vector index in step with the database, whoever wrote to it.

Each writing transaction has a revision. The index remembers the last one it has seen and, before
a search, reads what came later: new vectors and removed rows. An index file is a start from the
revision it was written at; it must fit the database, or everything is read. Items that have no
vector of this embedding model yet (another model wrote them) are embedded in the background, and
words find them meanwhile.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from ryzanstein.errors import RyzansteinError, StorageError, TimedOut
from ryzanstein.machine import available_cpus
from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import EmbeddingRow, RemovalRow, RevisionRow
from ryzanstein.memory.vectors.backfill import Backfill
from ryzanstein.memory.vectors.index import VectorIndex
from ryzanstein.memory.vectors.index_file import IndexFile, wipe
from ryzanstein.memory.vectors.table import checked_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.spaces import Space

__all__ = ["SyncedIndex", "store_vectors"]

_BATCH = 4_096
# Vectors of a file that are compared with the database's before it is trusted.
_COMPARED = 64


class SyncedIndex:
    """A vector index that follows the embeddings table.

    Args:
        database: Where the vectors are.
        space: Memories or experiences.
        embedder: Its model id chooses the vectors; it embeds what has none.
        graph_from: Rows from which a graph is built.
        threads: Threads that build it; None means all CPUs but one.
    """

    def __init__(
        self,
        database: Database,
        space: Space,
        embedder: Embedder,
        *,
        graph_from: int,
        threads: int | None = None,
    ) -> None:
        self._database = database
        self._space = space
        self._embedder = embedder
        threads = max(1, available_cpus() - 1) if threads is None else threads
        self._options: dict[str, Any] = {"graph_from": graph_from, "threads": threads}
        self._folder = _index_folder(database)
        self._backfill = Backfill(database, space, embedder, store_vectors)
        self._lock = threading.Lock()
        self._opened = False
        self._adopting: threading.Thread | None = None
        self.index = self._new_index()

    @property
    def seen(self) -> int:
        """The revision the index has caught up with; -1 before the first search."""
        return self.index.revision

    def catch_up(self) -> None:
        """Brings the index to the database's present state."""
        with self._lock:
            if self._opened:
                self._follow(self.index)
            else:
                self._open()
                self._opened = True
            self.index.retry()
            if self.index.replaced() and self._adopting is None:
                self._adopting = threading.Thread(target=self._adopt, name="memory-index-file")
                self._adopting.start()

    def forget(self, rows: Sequence[int]) -> None:
        """Overwrites the vectors of rows that are no more, in memory and in every index file.

        Raises:
            StorageError: One is still in a file that can be neither changed nor deleted.
        """
        gone = np.array(rows, dtype=np.int64)
        self.index.remove(gone)
        if self._folder is not None:
            wipe(self._folder, self._space.name, gone)

    def stats(self) -> dict[str, Any]:
        """Says how it is searched, what is still to do, and what is on the disk."""
        file = self.index.file
        return {
            **self.index.stats(),
            "revision": self.seen,
            "file_bytes": 0 if file is None else file.size,
        }

    def wait(self) -> None:
        """Waits until nothing is left to do in the background."""
        self._backfill.wait()
        if (adopting := self._adopting) is not None:
            adopting.join()
        self.index.wait()

    def close(self) -> None:
        """Stops the background work."""
        self._backfill.close()
        if (adopting := self._adopting) is not None:
            adopting.join()
        self.index.close()

    def _new_index(self) -> VectorIndex:
        model = self._embedder
        file = None
        if self._folder is not None:
            file = IndexFile(self._folder, self._space.name, model.model_id, model.dimension)
        return VectorIndex(model.dimension, file=file, **self._options)

    def _open(self) -> None:
        """Starts from the file where there is one that fits the database."""
        index = self._new_index()
        try:
            opened = index.open()
            fits = opened and self._follow(index, first=True)
            if fits:
                self.index.become(index)
            elif opened and index.file is not None:
                # It is of a database that was here before, and nobody else would delete it.
                with suppress(OSError):
                    index.file.discard()
            elif not opened:
                self.index.ignore_file()  # damaged: not one of a process that builds now
        finally:
            index.close()
        if not fits:
            self._follow(self.index, first=True)

    def _adopt(self) -> None:
        """Takes over the file that another process has built."""
        index = self._new_index()
        fits: bool | None = None
        try:
            fits = index.open() and self._follow(index, first=True)
        except RyzansteinError:
            pass  # a later search, which needs the database too, tries again
        with self._lock:
            if fits:
                self.index.become(index)
            elif fits is not None:
                self.index.ignore_file()
            self._adopting = None
        index.close()

    def _follow(self, index: VectorIndex, *, first: bool = False) -> bool:
        """Reads what is later than the index; the first time, says whether all is as it should."""
        with self._database.read() as connection:
            revision = connection.execute(select(RevisionRow.value)).scalar_one()
            if revision == index.revision and not first:
                return True
            removed = self._removed(connection, index)
            index.remove(removed)
            self._add(connection, index)
            if first and (index.revision > revision or not self._same(connection, index)):
                return False
            missing = self._backfill.look(connection, -1 if first else index.revision)
        before, index.revision = index.revision, revision
        if len(removed) and self._folder is not None:
            with suppress(StorageError):  # told where something is forgotten
                wipe(self._folder, self._space.name, removed)
        return not missing or self._embed(missing, index, before)

    def _embed(self, items: Sequence[tuple[int, str]], index: VectorIndex, before: int) -> bool:
        try:
            self._backfill.embed(items)
        except (StorageError, TimedOut) as error:
            # A store that is read-only or locked is still searched by meaning.
            rows = np.array([row for row, _ in items], dtype=np.int64)
            index.add(rows, self._embedder.embed([text for _, text in items]))
            if isinstance(error, TimedOut):
                index.revision = before  # the next search stores them
            return True
        return self._follow(index)

    def _removed(self, connection: Connection, index: VectorIndex) -> NDArray[np.int64]:
        if not len(index):
            return np.zeros(0, dtype=np.int64)
        query = select(RemovalRow.item_row).where(
            RemovalRow.space == self._space.name, RemovalRow.revision > index.revision
        )
        return np.array(connection.execute(query).scalars().all(), dtype=np.int64)

    def _add(self, connection: Connection, index: VectorIndex) -> None:
        dimension = self._embedder.dimension
        query = (
            select(self._space.owner, EmbeddingRow.vector)
            .where(*self._ours(), EmbeddingRow.revision > index.revision)
            .execution_options(yield_per=_BATCH)
        )
        for part in connection.execute(query).partitions():
            # A blob of another length was written by other hands; words still find its item.
            sound = [(row, vector) for row, vector in part if len(vector) == 4 * dimension]
            if not sound:
                continue
            rows, blobs = zip(*sound, strict=True)
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, dimension)
            numbers = np.isfinite(vectors).all(axis=1)
            index.add(np.array(rows, dtype=np.int64)[numbers], vectors[numbers])

    def _same(self, connection: Connection, index: VectorIndex) -> bool:
        """Compares the number of vectors, and some of them, with the database's."""
        count = select(func.count()).select_from(EmbeddingRow).where(*self._ours())
        if connection.execute(count).scalar_one() != len(index):
            return False
        rows, vectors = index.sample(_COMPARED)
        query = select(self._space.owner, EmbeddingRow.vector).where(
            *self._ours(), self._space.owner.in_(rows.tolist())
        )
        known = {row: bytes(vector) for row, vector in connection.execute(query)}
        return all(
            known.get(row) == vector.astype("<f4").tobytes()
            for row, vector in zip(rows.tolist(), vectors, strict=True)
        )

    def _ours(self) -> tuple[ColumnElement[bool], ...]:
        model = self._embedder
        return (
            self._space.owner.is_not(None),
            EmbeddingRow.model_id == model.model_id,
            EmbeddingRow.dimension == model.dimension,
        )


def store_vectors(
    connection: Connection,
    space: Space,
    embedder: Embedder,
    rows: Sequence[int],
    vectors: NDArray[np.float32],
    revision: int,
    *,
    fresh: bool = False,
) -> None:
    """Writes vectors [n, dimension] of the given items, in place of older ones of the model.

    Args:
        connection: The caller's transaction.
        space: Memories or experiences.
        embedder: The model of the vectors.
        rows: Their items.
        vectors: float32 [n, dimension].
        revision: The transaction's.
        fresh: Whether the items are new, so that there are no older vectors.

    Raises:
        InvalidRequest: The vectors have another shape, or hold NaN or infinity.
    """
    if not rows:
        return
    vectors = checked_vectors(vectors, len(rows), embedder.dimension)
    if not fresh:
        connection.execute(
            delete(EmbeddingRow).where(
                space.owner.in_(rows), EmbeddingRow.model_id == embedder.model_id
            )
        )
    values: list[dict[str, Any]] = [
        {
            space.owner.key: row,
            "model_id": embedder.model_id,
            "dimension": embedder.dimension,
            "vector": np.ascontiguousarray(vector, dtype="<f4").tobytes(),
            "revision": revision,
        }
        for row, vector in zip(rows, vectors, strict=True)
    ]
    connection.execute(insert(EmbeddingRow), values)


def _index_folder(database: Database) -> Path | None:
    """Returns where index files are kept: beside a file, else among what can be made again."""
    if not database.is_sqlite:
        from ryzanstein.config import load_settings

        digest = hashlib.sha256(database.name.encode()).hexdigest()[:16]
        return load_settings().cache_dir / "indexes" / digest
    path = Path(database.name)
    return path.with_name(f"{path.name}.index") if path.is_file() else None
