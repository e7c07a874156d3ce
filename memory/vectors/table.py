"""The exact vectors of an index, float32, by slot; blocks of them, so that growing copies none.

    row number ──▶ slot ──▶ block = slot // 65,536, place = slot % 65,536

A slot keeps its vector until its row leaves; then it is zeroed and given to the next new row. A
block is memory of its own, or a private view of an index file: pages of a file are shared among
processes and can be dropped by the system. Beside each block there may be its codes in a compressed
form: a scan reads them and rescores its best. Not thread-safe: the owner holds a lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels._vectors import dot_f32, top

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.vectors.form import Form

__all__ = ["BLOCK", "VectorTable", "best", "checked_vectors"]

BLOCK = 65_536
_EMPTY = -1
# Up to so many free slots a scan just asks for more; beyond, it is told which are in use.
_FREE = 64


class VectorTable:
    """Vectors by slot, and which row each belongs to.

    Args:
        dimension: Length of a vector.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._blocks: list[NDArray[np.float32]] = []
        self._codes: list[NDArray[Any]] = []
        self._form: Form | None = None
        self._rows = np.zeros(0, dtype=np.int64)
        self._slots = np.zeros(0, dtype=np.int32)  # by row number; 0 means none, else slot + 1
        self._free: list[int] = []
        self.size = 0
        self.coded = 0  # slots below this one have codes

    def __len__(self) -> int:
        return self.size - len(self._free)

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Stores vectors [n, dimension], in place of those the rows had; returns their slots.

        A row given twice keeps its last vector.
        """
        if not len(rows):
            return np.zeros(0, dtype=np.int64)
        rows, last = np.unique(rows[::-1], return_index=True)
        vectors = vectors[::-1][last]
        slots = self.slots(rows)
        fresh = np.flatnonzero(slots == _EMPTY)
        slots[fresh] = self._new_slots(len(fresh))
        self._know_rows(int(rows[-1]))
        self._rows[slots] = rows
        self._slots[rows] = slots + 1
        for number, inside, places in _by_block(slots):
            self._write(number, places, vectors[inside])
        return slots

    def drop(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Zeroes and frees the slots of rows, unknown ones aside; returns the slots."""
        rows = np.unique(rows)
        slots: NDArray[np.int64] = self.slots(rows)
        used = slots != _EMPTY
        rows, slots = rows[used], slots[used]
        self._rows[slots] = _EMPTY
        self._slots[rows] = 0
        for number, _, places in _by_block(slots):
            self._write(number, places, np.zeros((len(places), self.dimension), np.float32))
        self._free += slots.tolist()
        return slots

    def slots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the slot of each row, -1 where it has none."""
        known = (rows >= 0) & (rows < len(self._slots))
        slots = np.full(len(rows), _EMPTY, dtype=np.int64)
        slots[known] = self._slots[rows[known]] - 1
        return slots

    def rows(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the row of each slot, -1 of free ones."""
        rows: NDArray[np.int64] = self._rows[slots]
        return rows

    def alive(self, start: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """Returns the slots in use from `start` to before `end`."""
        end = self.size if end is None else min(end, self.size)
        return np.flatnonzero(self._rows[start:end] != _EMPTY) + start

    def vectors(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns copies of vectors, [n, dimension]."""
        result = np.empty((len(slots), self.dimension), dtype=np.float32)
        for number, inside, places in _by_block(slots):
            result[inside] = self._blocks[number][places]
        return result

    def cosines(self, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the inner product of the query with each slot's vector."""
        scores = np.empty(len(slots), dtype=np.float32)
        for number, inside, places in _by_block(slots):
            scores[inside] = dot_f32(self._blocks[number], query, places)
        return scores

    def nearest(
        self, query: NDArray[np.float32], k: int, among: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the k best slots in use, or among those given, and their cosines, in no order."""
        if self._form is None or self.coded < self.size:
            return self._nearest_exactly(query, k) if among is None else self._best(query, k, among)
        if among is None and len(self._free) > _FREE:
            among = self.alive()
        wanted = self._form.candidates(k)
        if among is None:
            wanted += len(self._free)
        elif len(among) <= 2 * wanted:
            return self._best(query, k, among)
        return self._best(query, k, self._candidates(self._form, query, wanted, among))

    @property
    def scanned(self) -> str:
        """Names the form that a scan of everything reads."""
        coded = self._form is not None and self.coded >= self.size
        return f"scan of {self._form.name}" if coded and self._form is not None else "exact"

    def encode_with(self, form: Form) -> None:
        """Begins to keep codes of this form; `encode` makes those of the vectors that are here."""
        if form.name == "float32":
            self._form, self._codes, self.coded = None, [], self.size
            return
        self._form, self.coded = form, 0
        self._codes = [self._new_codes(form) for _ in self._blocks]

    def encode(self, count: int) -> None:
        """Makes the codes of so many more slots."""
        slots = np.arange(self.coded, min(self.coded + count, self.size))
        for number, _, places in _by_block(slots):
            self._write_codes(number, places, self._blocks[number][places])
        self.coded += len(slots)

    def replace_block(
        self, number: int, block: NDArray[np.float32], changed: NDArray[np.int64]
    ) -> None:
        """Puts another array in a block's place; it differs in the changed slots only."""
        places = changed[changed // BLOCK == number] - number * BLOCK
        block[places] = self._blocks[number][places]
        self._blocks[number] = block

    def restore(self, rows: NDArray[np.int64], blocks: list[NDArray[np.float32]]) -> None:
        """Takes over rows by slot, -1 for free ones, and blocks [65,536, dimension] of vectors."""
        self.size, self.coded = len(rows), 0
        self._rows, self._blocks, self._codes, self._form = rows, blocks, [], None
        self._free = np.flatnonzero(rows == _EMPTY).tolist()
        used = self.alive()
        self._slots = np.zeros(0, dtype=np.int32)
        if len(used):
            self._know_rows(int(rows.max()))
            self._slots[rows[used]] = used + 1

    def _best(
        self, query: NDArray[np.float32], k: int, slots: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        scores = self.cosines(query, slots)
        kept = best(scores, k)
        return slots[kept], scores[kept]

    def _nearest_exactly(
        self, query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        slots, scores = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
        for start, block in zip(range(0, self.size, BLOCK), self._blocks, strict=False):
            used = min(BLOCK, self.size - start)
            places = self.alive(start, start + used) - start if self._free else None
            near, cosines = top("dot_f32", block[:used], query, k, places)
            slots.append(near + start)
            scores.append(cosines)
        joined, values = np.concatenate(slots), np.concatenate(scores)
        kept = best(values, k)
        return joined[kept], values[kept]

    def _candidates(
        self,
        form: Form,
        query: NDArray[np.float32],
        wanted: int,
        among: NDArray[np.int64] | None,
    ) -> NDArray[np.int64]:
        """Returns slots in use whose codes are near."""
        parts: list[tuple[int, NDArray[np.int64] | None]]
        if among is None:
            parts = [(number, None) for number in range(-(-self.size // BLOCK))]
        else:
            parts = [(number, places) for number, _, places in _by_block(among)]
        found, scores = [], []
        for number, places in parts:
            codes = self._codes[number][: min(BLOCK, self.size - number * BLOCK)]
            near, values = form.scan(codes, query, wanted, places)
            found.append(near + number * BLOCK)
            scores.append(values)
        slots = np.concatenate(found)
        slots = slots[best(np.concatenate(scores), wanted)]
        used: NDArray[np.int64] = slots[self._rows[slots] != _EMPTY]
        return used

    def _write(self, number: int, places: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._blocks[number][places] = vectors
        self._write_codes(number, places, vectors)

    def _write_codes(
        self, number: int, places: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> None:
        if self._form is not None:
            self._codes[number][places] = self._form.encode(vectors)

    def _new_codes(self, form: Form) -> NDArray[Any]:
        return np.zeros((BLOCK, form.width), dtype=form.dtype)

    def _new_slots(self, count: int) -> NDArray[np.int64]:
        reused = self._free[len(self._free) - min(count, len(self._free)) :]
        del self._free[len(self._free) - len(reused) :]
        added = count - len(reused)
        slots = np.array([*reused, *range(self.size, self.size + added)], dtype=np.int64)
        if self.size and self.coded == self.size:
            self.coded += added
        self.size += added
        while len(self._blocks) * BLOCK < self.size:
            # Zeroed memory is lent page by page, as it is first written.
            self._blocks.append(np.zeros((BLOCK, self.dimension), dtype=np.float32))
            if self._form is not None:
                self._codes.append(self._new_codes(self._form))
        if self.size > len(self._rows):
            self._rows = _grown(self._rows, self.size, _EMPTY)
        return slots

    def _know_rows(self, largest: int) -> None:
        if largest >= len(self._slots):
            self._slots = _grown(self._slots, largest + 1, 0)


def checked_vectors(
    vectors: NDArray[np.float32], count: int, dimension: int
) -> NDArray[np.float32]:
    """Returns vectors as float32 [count, dimension].

    Raises:
        InvalidRequest: They have another shape, or hold NaN or infinity.
    """
    if vectors.shape != (count, dimension) or vectors.dtype.kind not in "fiu":
        raise InvalidRequest(
            f"The vectors are {vectors.dtype} {vectors.shape}, not float32 {(count, dimension)}.",
            hint="The embedding model gives one vector of the store's dimension for each text.",
        )
    # One pass and no temporary of its size: a sum is finite only if no term is NaN or infinite.
    if not np.isfinite(np.einsum("nd,nd->n", vectors, vectors)).all():
        raise InvalidRequest(
            "A vector holds NaN or infinity.", hint="Check the embedding model that made it."
        )
    return vectors.astype(np.float32, copy=False)


def best(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns where the k largest scores are, in no order."""
    if k >= len(scores):
        return np.arange(len(scores))
    return np.argpartition(-scores, k)[:k] if k > 0 else np.zeros(0, dtype=np.int64)


def _by_block(
    slots: NDArray[np.int64],
) -> list[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
    """Splits slots into (block, where in `slots`, places in the block)."""
    numbers = slots // BLOCK
    order = np.arange(len(slots))
    if (np.diff(numbers) < 0).any():
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    return [
        (number := int(slots[inside[0]]) // BLOCK, inside, slots[inside] - number * BLOCK)
        for inside in np.split(order, starts[1:])
        if len(inside)
    ]


def _grown(array: NDArray, need: int, fill: int) -> NDArray:  # type: ignore[type-arg]
    larger = np.full(max(need, len(array) + len(array) // 2, 64), fill, dtype=array.dtype)
    larger[: len(array)] = array
    return larger
