"""What a neighbourhood of experiences says: whether a run is a breakthrough, and whom to consult.

    neighbourhood   the 32 runs most like this one, of any agent, with a cosine of .5 or more
    breakthrough    checked or rated, and of a fitness that is an outlier (fitness.outlier) among
                    the 8 or more neighbours that came before it: so never the first of all
    refuted         the median of the same strategy's later runs near it fell below that old median,
                    or a rating took its own fitness there

A breakthrough is judged by what was known before it, so that its history can be read again at any
time; the flag of a refuted one stays, with the mark that it was refuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, bindparam, select, update

from ryzanstein.memory.fitness import outlier
from ryzanstein.memory.schema import EmbeddingRow, ExperienceRow
from ryzanstein.memory.sketches.thompson import Draw, belief, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.records import Experience
    from ryzanstein.memory.vectors.index import VectorIndex

__all__ = ["ALIKE", "LEAST_NEIGHBOURS", "STANDING", "Insight", "Neighbour"]

# Cosine from which a task is like another: of CLINC150's pairs above it 55 % are of one intent, of
# all its pairs 0.7 %.
ALIKE = 0.5
LEAST_NEIGHBOURS = 8
_NEIGHBOURS = 32
_SOUGHT = 256
_FAR_AROUND = 512
# Of CLINC150's pairs with these cosines one in eleven and four in five are of one intent.
_UNLIKE, _THE_SAME = 0.3, 0.7
# Nobody checked these runs, so they tell less of how good an agent is.
_UNCHECKED = 0.3
_CHECKED = ("verified", "rated")

STANDING = ExperienceRow.breakthrough.is_not(None) & ExperienceRow.refuted.is_(False)
_NEIGHBOURS_OF = select(
    ExperienceRow.row,
    ExperienceRow.agent,
    ExperienceRow.outcome,
    ExperienceRow.fitness,
    ExperienceRow.tokens,
    ExperienceRow.seconds,
    ExperienceRow.strategy_key,
).where(ExperienceRow.row.in_(bindparam("rows", expanding=True)))
_STANDING_OF_STRATEGY = select(ExperienceRow.row, ExperienceRow.fitness).where(
    STANDING, ExperienceRow.strategy_key == bindparam("key")
)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A run like the one in question."""

    row: int
    similarity: float
    agent: str
    outcome: str
    fitness: float
    tokens: int
    seconds: float
    strategy_key: str | None


class Insight:
    """Questions about the neighbourhood of a task.

    Args:
        index: Vectors of the experiences' tasks; must have caught up.
        model_id: Embedding model of the index.
    """

    def __init__(self, index: VectorIndex, model_id: str) -> None:
        self._index = index
        self._model_id = model_id

    def neighbours(
        self,
        connection: Connection,
        vector: NDArray[np.float32],
        *,
        before: int | None = None,
        most: int = _NEIGHBOURS,
        least: float = ALIKE,
    ) -> list[Neighbour]:
        """Runs of tasks like a vector's, nearest first.

        Args:
            connection: A transaction.
            vector: float32 [dimension], unit length.
            before: Only runs of a row below this one.
            most: How many.
            least: Their least cosine.
        """
        rows, cosines = self._index.search(vector, max(_SOUGHT, most))
        near = {
            row: cosine
            for row, cosine in zip(rows.tolist(), cosines.tolist(), strict=True)
            if cosine >= least and (before is None or row < before)
        }
        nearest = sorted(near, key=lambda row: -near[row])[:most]
        if not nearest:
            return []
        found = connection.execute(_NEIGHBOURS_OF, {"rows": nearest})
        made = [Neighbour(similarity=near[one.row], **one._mapping) for one in found]
        return sorted(made, key=lambda one: (-one.similarity, one.row))

    def breakthrough(
        self, outcome: str, fitness: float, neighbours: Sequence[Neighbour]
    ) -> float | None:
        """The robust z of a run that is a breakthrough among those before it, else None."""
        if outcome not in _CHECKED or len(neighbours) < LEAST_NEIGHBOURS:
            return None
        score = outlier(fitness, [one.fitness for one in neighbours])
        return None if score is None else round(score, 3)

    def refute(
        self,
        connection: Connection,
        run: Experience,
        vector: NDArray[np.float32],
        row: int,
    ) -> None:
        """Marks the breakthroughs of a run's strategy near its task that its runs took back.

        Args:
            connection: The transaction that wrote the run.
            run: As it was written, or rated.
            vector: Of its task.
            row: Of the run, which the index need not have yet.
        """
        if run.strategy_key is None:
            return
        found = connection.execute(_STANDING_OF_STRATEGY, {"key": run.strategy_key}).all()
        if not found:
            return
        rows = np.array([one.row for one in found], dtype=np.int64)
        near = (self._index.cosines(vector, rows) >= ALIKE) | (rows == row)
        taken_back = [
            one.row
            for one, is_near in zip(found, near.tolist(), strict=True)
            if is_near and self._taken_back(connection, one, run, row)
        ]
        if taken_back:
            marked = update(ExperienceRow).where(ExperienceRow.row.in_(taken_back))
            connection.execute(marked.values(refuted=True))

    def draw(
        self,
        connection: Connection,
        candidates: Sequence[str],
        vector: NDArray[np.float32],
        random: np.random.Generator,
    ) -> list[Draw]:
        """Draws from what is known of each candidate at such tasks; whom to ask comes first."""
        known = self.neighbours(connection, vector, most=_FAR_AROUND, least=_UNLIKE)
        beliefs = {
            name: belief((one.fitness, _trust(one)) for one in known if one.agent == name)
            for name in candidates
        }
        return ranked(beliefs, random)

    def _taken_back(self, connection: Connection, one: Any, run: Experience, row: int) -> bool:
        vector = self._vector(connection, one.row)
        if vector is None:
            return False
        near = self.neighbours(connection, vector, most=_FAR_AROUND)
        history = [past.fitness for past in near if past.row < one.row][:_NEIGHBOURS]
        later = [run.fitness] if row != one.row else []
        later += [
            past.fitness
            for past in near
            if past.row > one.row and past.row != row and past.strategy_key == run.strategy_key
        ]
        if not history:
            return False
        old = float(np.median(history))
        return one.fitness < old or (bool(later) and float(np.median(later)) < old)

    def _vector(self, connection: Connection, row: int) -> NDArray[np.float32] | None:
        query = select(EmbeddingRow.vector).where(
            EmbeddingRow.experience_row == row, EmbeddingRow.model_id == self._model_id
        )
        blob = connection.execute(query).scalar_one_or_none()
        return None if blob is None else np.frombuffer(blob, dtype="<f4").astype(np.float32)


def _trust(one: Neighbour) -> float:
    """What a run says of its agent: the more, the nearer it is, and more where it was checked."""
    nearness = min((one.similarity - _UNLIKE) / (_THE_SAME - _UNLIKE), 1.0)
    return nearness * (_UNCHECKED if one.outcome == "unknown" else 1.0)
