"""Memories that lie near others in meaning, found and loaded for a handful of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import select

from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Memory
from ryzanstein.memory.rows import load_rows
from ryzanstein.memory.schema import EmbeddingRow, MemoryRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.vectors.sync import SyncedIndex

__all__ = ["Near", "Neighbours"]

_NEAREST, _MOST = 16, 256
_CROWDED = 0.75


@dataclass(frozen=True, slots=True)
class Near:
    """A neighbour of a memory."""

    row: int
    memory: Memory
    cosine: float


class Neighbours:
    """Finds the memories nearest to vectors.

    Args:
        database: Where they are.
        synced: Index of their vectors.
        embedder: Its model's vectors.
    """

    def __init__(self, database: Database, synced: SyncedIndex, embedder: Embedder) -> None:
        self.embedder = embedder
        self.synced = synced
        self._database = database

    def around(self, vectors: Sequence[NDArray[np.float32]], least: float) -> list[list[Near]]:
        """Returns the nearest 16 memories above a cosine of each vector, nearest first.

        Where all of those are very near it looks at up to 256, so that a crowd of other agents'
        memories of the same text hides none. The index may be behind: see `synced.catch_up`.
        """
        found = [self._rows(vector, least) for vector in vectors]
        with self._database.read() as connection:
            memories = load_rows(connection, sorted({row for rows in found for row in rows}))
        return [
            [Near(row, memories[row], cosine) for row, cosine in rows.items() if row in memories]
            for rows in found
        ]

    def vectors(self, memories: Mapping[int, Memory]) -> dict[int, NDArray[np.float32]]:
        """Returns each memory's vector, made where it has none yet; none for texts of no words."""
        query = (
            select(MemoryRow.row, EmbeddingRow.vector)
            .join(EmbeddingRow, EmbeddingRow.memory_row == MemoryRow.row)
            .where(
                MemoryRow.row.in_(list(memories)),
                EmbeddingRow.model_id == self.embedder.model_id,
                EmbeddingRow.dimension == self.embedder.dimension,
            )
        )
        with self._database.read() as connection:
            kept = {
                row: np.frombuffer(blob, dtype="<f4") for row, blob in connection.execute(query)
            }
        missing = [row for row in memories if row not in kept]
        if missing:
            made = self.embedder.embed([memories[row].text for row in missing])
            kept.update(zip(missing, made, strict=True))
        return {row: vector for row, vector in kept.items() if vector.any()}

    def _rows(self, vector: NDArray[np.float32], least: float) -> dict[int, float]:
        wanted = _NEAREST
        while True:
            rows, cosines = self.synced.index.search(vector, wanted)
            if len(rows) < wanted or cosines[-1] < max(least, _CROWDED) or wanted >= _MOST:
                break
            wanted *= 4
        pairs = zip(rows.tolist(), cosines.tolist(), strict=True)
        return {row: cosine for row, cosine in pairs if cosine >= least}
