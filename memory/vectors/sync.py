"""Keeps one space's vector index in step with the database, whoever wrote to it.

Each writing transaction has a revision. The index remembers the last one it has seen and, before
a search, reads what came later: new vectors, removed rows, and items that have no vector of this
embedding model yet (another model wrote them, or they were imported), which are embedded here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, delete, exists, insert, select

from ryzanstein.errors import StorageError
from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import EmbeddingRow, RemovalRow, RevisionRow
from ryzanstein.memory.vectors.index import VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.spaces import Space

__all__ = ["SyncedIndex", "store_vectors"]

_BATCH = 512


class SyncedIndex:
    """A vector index that follows the embeddings table.

    Args:
        database: Where the vectors are.
        space: Memories or experiences.
        embedder: Its model id chooses the vectors; it embeds what has none.
        graph_from: Rows from which a graph is built.
    """

    def __init__(
        self, database: Database, space: Space, embedder: Embedder, *, graph_from: int
    ) -> None:
        self.index = VectorIndex(embedder.dimension, graph_from=graph_from)
        self._database = database
        self._space = space
        self._embedder = embedder
        self._lock = threading.Lock()
        self._seen = -1

    @property
    def seen(self) -> int:
        """The revision the index has caught up with."""
        return self._seen

    def catch_up(self) -> None:
        """Brings the index to the database's present state."""
        with self._lock:
            with self._database.read() as connection:
                revision = connection.execute(select(RevisionRow.value)).scalar_one()
                if revision == self._seen:
                    return
                self._remove(connection)
                self._add(connection)
                missing = self._missing(connection)
            self._seen = revision
            for start in range(0, len(missing), _BATCH):
                self._embed(missing[start : start + _BATCH])

    def _remove(self, connection: Connection) -> None:
        if not len(self.index):
            return
        query = select(RemovalRow.item_row).where(
            RemovalRow.space == self._space.name, RemovalRow.revision > self._seen
        )
        rows = connection.execute(query).scalars().all()
        if rows:
            self.index.remove(np.array(rows, dtype=np.int64))

    def _add(self, connection: Connection) -> None:
        owner, dimension = self._space.owner, self._embedder.dimension
        query = (
            select(owner, EmbeddingRow.vector)
            .where(
                owner.is_not(None),
                EmbeddingRow.model_id == self._embedder.model_id,
                EmbeddingRow.dimension == dimension,
                EmbeddingRow.revision > self._seen,
            )
            .execution_options(yield_per=4096)
        )
        for part in connection.execute(query).partitions():
            # A blob of another length was written by other hands; words still find its item.
            sound = [(row, vector) for row, vector in part if len(vector) == 4 * dimension]
            if not sound:
                continue
            rows, blobs = zip(*sound, strict=True)
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4").reshape(-1, dimension)
            self.index.add(np.array(rows, dtype=np.int64), vectors)

    def _missing(self, connection: Connection) -> list[tuple[int, str]]:
        table = self._space.table
        embedded = exists().where(
            self._space.owner == table.row, EmbeddingRow.model_id == self._embedder.model_id
        )
        query = select(table.row, self._space.embedded).where(
            self._space.live, table.revision > self._seen, ~embedded
        )
        return [(row, text) for row, text in connection.execute(query)]

    def _embed(self, items: Sequence[tuple[int, str]]) -> None:
        rows = [row for row, _ in items]
        vectors = self._embedder.embed([text for _, text in items])
        self.index.add(np.array(rows, dtype=np.int64), vectors)
        try:
            with self._database.write() as (connection, revision):
                table = self._space.table
                alive = select(table.row).where(table.row.in_(rows), self._space.live)
                kept = set(connection.execute(alive).scalars())
                chosen = [at for at, row in enumerate(rows) if row in kept]
                store_vectors(
                    connection,
                    self._space,
                    self._embedder,
                    [rows[at] for at in chosen],
                    vectors[chosen],
                    revision,
                )
        except StorageError:
            # A read-only store is still searched; the vectors are made again next time.
            return


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
    """
    if not rows:
        return
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
