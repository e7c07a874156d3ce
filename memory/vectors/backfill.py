"""Embeds, in the background, what has no vector of the present embedding model yet.

After a change of the model that is everything: it goes in slices of a few hundred texts, each a
transaction of its own, so that writers wait for milliseconds and a killed process has lost at most
a slice. Words find the items meanwhile, and the index reads the new vectors as it reads all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, exists, func, select

from ryzanstein.errors import RyzansteinError
from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import EmbeddingRow

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.spaces import Space

__all__ = ["Backfill"]

Item = tuple[int, str]

_LOG = logging.getLogger(__name__)
_SLICE = 256
# So many are embedded at once, before the search that asks for them.
_FEW = 64
# Writers of this process come between two slices.
_PAUSE = 0.01


class Backfill:
    """Gives vectors to items of one space.

    Args:
        database: Where the items are.
        space: Memories or experiences.
        embedder: Makes the vectors.
        store: Writes vectors: connection, space, embedder, rows, vectors, revision.
    """

    def __init__(
        self, database: Database, space: Space, embedder: Embedder, store: Callable[..., None]
    ) -> None:
        self._database = database
        self._space = space
        self._embedder = embedder
        self._store = store
        self._wanted = False
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._stopping = threading.Event()
        self.trouble = ""

    def look(self, connection: Connection, seen: int) -> list[Item]:
        """Looks for items later than a revision that have no vector.

        Returns:
            The items where they are few; many are embedded in the background.
        """
        if seen < 0 and self._complete(connection):
            return []
        table = self._space.table
        # In this order the index of revisions is read, and not the whole table.
        query = self._missing(table.revision > seen).order_by(table.revision, table.row)
        items = [(row, text) for row, text in connection.execute(query.limit(_FEW + 1))]
        if len(items) <= _FEW:
            return items
        self._start()
        return []

    def embed(self, items: Sequence[Item]) -> None:
        """Makes vectors of items and stores them.

        Raises:
            StorageError: They cannot be stored.
        """
        rows = [row for row, _ in items]
        vectors = self._embedder.embed([text for _, text in items])
        sound = np.isfinite(vectors.sum(axis=1)).tolist()
        table = self._space.table
        with self._database.write() as (connection, revision):
            alive = select(table.row).where(table.row.in_(rows), self._space.live)
            kept = set(connection.execute(alive).scalars())
            chosen = [at for at, row in enumerate(rows) if row in kept and sound[at]]
            self._store(
                connection,
                self._space,
                self._embedder,
                [rows[at] for at in chosen],
                vectors[chosen],
                revision,
            )

    def wait(self) -> None:
        """Waits until every item has a vector."""
        while (worker := self._worker) is not None and worker.is_alive():
            worker.join()

    def close(self) -> None:
        """Stops after the slice it is at."""
        self._stopping.set()
        self.wait()

    def _complete(self, connection: Connection) -> bool:
        items = select(func.count()).select_from(self._space.table).where(self._space.live)
        vectors = select(func.count()).where(
            self._space.owner.is_not(None), EmbeddingRow.model_id == self._embedder.model_id
        )
        counts = [connection.execute(query).scalar_one() for query in (items, vectors)]
        return bool(counts[0] <= counts[1])

    def _missing(self, *where: ColumnElement[bool]) -> Any:
        table = self._space.table
        embedded = exists().where(
            self._space.owner == table.row, EmbeddingRow.model_id == self._embedder.model_id
        )
        query = select(table.row, self._space.embedded)
        return query.where(self._space.live, *where, ~embedded)

    def _start(self) -> None:
        with self._lock:
            self._wanted = True
            if self._worker is None and not self._stopping.is_set():
                self._worker = threading.Thread(
                    target=self._work, name="memory-backfill", daemon=True
                )
                self._worker.start()

    def _work(self) -> None:
        try:
            while not self._stopping.is_set():
                with self._lock:
                    if not self._wanted:
                        self._worker = None
                        return
                    self._wanted = False
                self._fill()
        except RyzansteinError as error:
            # A read-only or a full database: words find the items, the next process tries again.
            self.trouble = str(error)
        except Exception as error:
            _LOG.exception("Vectors could not be made")
            self.trouble = f"{type(error).__name__} {error}".strip()
        finally:
            self._worker = None

    def _fill(self) -> None:
        start = 0
        while not self._stopping.wait(_PAUSE):
            with self._database.read() as connection:
                query = self._missing(self._space.table.row >= start)
                query = query.order_by(self._space.table.row).limit(_SLICE)
                items = [(row, text) for row, text in connection.execute(query)]
            if not items:
                return
            self.embed(items)
            start = items[-1][0] + 1
