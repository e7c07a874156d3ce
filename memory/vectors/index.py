"""Vectors of one space by row number: an exact scan, and above a threshold an HNSW graph.

A cache of the embeddings table and nothing more: it can be thrown away and filled again at any
time. Below the threshold a search compares the query with every vector. Above, a graph answers;
it is built in the background while searches go on by a scan of compressed codes, and all answers
are ordered by exact cosines. A narrow filter is a scan of the rows it leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.memory.vectors.index_format import BadIndexFile
from ryzanstein.memory.vectors.live import SLICE, LiveVectors
from ryzanstein.memory.vectors.table import best, checked_vectors
from ryzanstein.memory.vectors.upkeep import Upkeep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.vectors.index_file import IndexFile

__all__ = ["GRAPH_FROM", "VectorIndex"]

# Measured: an exact scan is as quick as the graph up to about here.
GRAPH_FROM = 20_000
_PENDING = 1_024


class VectorIndex:
    """Nearest rows by cosine among unit vectors.

    Args:
        dimension: Length of a vector.
        graph_from: Rows from which a graph is built.
        pending: Rows outside the graph from which they are folded in.
        threads: Threads that build; 0 means all CPUs.
        file: Where the index is kept; None means in memory only.

    Attributes:
        file: The same.
    """

    def __init__(
        self,
        dimension: int,
        *,
        graph_from: int = GRAPH_FROM,
        pending: int = _PENDING,
        threads: int = 1,
        file: IndexFile | None = None,
    ) -> None:
        self.dimension = dimension
        self._graph_from = graph_from
        self.file = file
        self._live = LiveVectors(dimension)
        self._upkeep = Upkeep(
            self._live, graph_from=graph_from, pending=pending, threads=threads, file=file
        )

    def __len__(self) -> int:
        return len(self._live.table)

    @property
    def revision(self) -> int:
        """The database's revision up to which everything is in; -1 means nothing is."""
        return self._live.revision

    @revision.setter
    def revision(self, value: int) -> None:
        with self._live.lock.write():
            self._live.revision = value
            self._upkeep.start()

    @property
    def form(self) -> str:
        """How a search goes now: exact, a scan of codes, or hnsw with the rows still outside."""
        live = self._live
        with live.lock.read():
            if live.graph is None:
                return live.table.scanned
            waiting = live.waiting()
            return f"hnsw ({waiting} pending)" if waiting else "hnsw"

    def open(self) -> bool:
        """Takes the vectors from the index file; its graph is loaded in the background.

        Returns:
            False where there is no file, or none that can be used; then nothing has changed.
        """
        if self.file is None:
            return False
        self._upkeep.stamp = self.file.stamp()
        try:
            stored = self.file.open()
        except BadIndexFile as error:
            self._upkeep.trouble = str(error)
            return False
        self._upkeep.restore(stored)
        return True

    def replaced(self) -> bool:
        """Says whether another process has written the file that this one waits for."""
        if not self._upkeep.elsewhere or self.file is None:
            return False
        return self.file.stamp() not in (None, self._upkeep.stamp)

    def become(self, other: VectorIndex) -> None:
        """Takes over everything of another index, which gets what this one had."""
        self._live, other._live = other._live, self._live
        self._upkeep, other._upkeep = other._upkeep, self._upkeep
        self.file, other.file = other.file, self.file

    def ignore_file(self) -> None:
        """Builds by itself, since the file that another process has written cannot be used."""
        if self.file is not None:
            self._upkeep.stamp = self.file.stamp()

    def add(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Adds or replaces vectors [n, dimension]; a row given twice keeps its last vector.

        Raises:
            InvalidRequest: The vectors have another shape, or hold NaN or infinity.
        """
        vectors = checked_vectors(vectors, len(rows), self.dimension)
        live, upkeep = self._live, self._upkeep
        for start in range(0, len(rows), SLICE):
            part = slice(start, start + SLICE)
            with live.lock.write():
                live.put(rows[part], vectors[part])
                upkeep.changed(len(rows[part]))

    def remove(self, rows: NDArray[np.int64]) -> None:
        """Removes rows; unknown ones are ignored.

        Their vectors are overwritten here, and in the background in the graph; `IndexFile.wipe`
        does it on the disk.
        """
        live, upkeep = self._live, self._upkeep
        for start in range(0, len(rows), SLICE):
            part = rows[start : start + SLICE]
            with live.lock.write():
                live.drop(part)
                if len(live.table) < self._graph_from // 2:
                    live.drop_graph()
                upkeep.changed(len(part), removed=True)

    def search(
        self, query: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns at most k rows and their cosines, best first, ties by row.

        Args:
            query: float32 [dimension], unit length.
            k: How many.
            allowed: Only these rows, where given.

        Raises:
            InvalidRequest: The query has another shape, or holds NaN or infinity.
        """
        query = checked_vectors(query[None, :], 1, self.dimension)[0]
        live = self._live
        with live.lock.read():
            if allowed is None:
                slots, scores = live.nearest(query, k)
            else:
                slots = live.table.slots(allowed)
                slots, scores = live.nearest_among(query, k, slots[slots >= 0])
            rows = live.table.rows(slots)
        kept = best(scores, k)
        rows, scores = rows[kept], scores[kept]
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order]

    def cosines(self, query: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the cosine of each row, 0 for rows that have no vector here."""
        result = np.zeros(len(rows), dtype=np.float32)
        live = self._live
        with live.lock.read():
            slots = live.table.slots(rows)
            known = slots >= 0
            result[known] = live.table.cosines(query, slots[known])
        return result

    def snapshot(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns copies of all rows and their vectors, in row order, copied in slices."""
        rows = [np.zeros(0, dtype=np.int64)]
        vectors = [np.zeros((0, self.dimension), dtype=np.float32)]
        live = self._live
        for part, values in live.parts(live.table.size):
            rows.append(part[part >= 0])
            vectors.append(values[part >= 0])
        order = np.argsort(joined := np.concatenate(rows))
        return joined[order], np.concatenate(vectors)[order]

    def sample(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns so many rows from everywhere and their vectors."""
        live = self._live
        with live.lock.read():
            slots = live.table.alive()
            slots = slots[np.linspace(0, len(slots) - 1, min(count, len(slots)), dtype=np.int64)]
            return live.table.rows(slots), live.table.vectors(slots)

    def retry(self) -> None:
        """Goes on with background work that had to wait for another process or for room."""
        self._upkeep.retry()

    def wait(self) -> None:
        """Waits until nothing is left to do in the background."""
        self._upkeep.wait()

    def close(self) -> None:
        """Stops the background work after the slice it is at."""
        self._upkeep.close()

    def stats(self) -> dict[str, Any]:
        """Says how many rows there are, how they are searched and what is still to do."""
        form = self.form
        with self._live.lock.read():
            return {"form": form, **self._upkeep.stats()}
