"""Experiences in SQL: record, find similar ones, rate, and add them up for routing."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import (
    checked_limit,
    checked_name,
    checked_share,
    checked_text,
    cleaned,
)
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import (
    OUTCOMES,
    AgentPrototype,
    AgentPrototypes,
    Experience,
    ExperienceHit,
    Lesson,
    experience_weight,
)
from ryzanstein.memory.schema import ExperienceRow, RemovalRow
from ryzanstein.memory.search import Searcher
from ryzanstein.memory.spaces import EXPERIENCES
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder

__all__ = ["Experiences", "load_experiences"]

_MAX_TOOLS = 1_000
_FORMER_OUTCOMES = {"success": "verified", "failure": "failed", "unverified": "unknown"}


class Experiences:
    """The experiences of one store.

    Args:
        database: The store's database.
        embedder: Embeds tasks.
        graph_from: Rows from which the vector index builds a graph.
    """

    def __init__(self, database: Database, embedder: Embedder, *, graph_from: int) -> None:
        self.searcher = Searcher(database, EXPERIENCES, embedder, graph_from=graph_from)
        self._database = database
        self._embedder = embedder
        self._lock = threading.Lock()
        self._prototypes: tuple[int, AgentPrototypes] | None = None

    def record(
        self,
        *,
        task: str,
        agent: str,
        outcome: str,
        fitness: float,
        strategy: str = "",
        tools: Iterable[str] = (),
        lesson: str = "",
        answer: str = "",
        run_id: str | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
    ) -> Experience:
        """Stores how a run went; durable on return."""
        outcome = _FORMER_OUTCOMES.get(outcome, outcome)
        if outcome not in OUTCOMES:
            raise InvalidRequest(
                f"{outcome!r} is no outcome.", hint=f"Use one of {', '.join(OUTCOMES)}."
            )
        if tokens < 0 or not 0.0 <= seconds < float("inf"):
            raise InvalidRequest("Tokens and seconds cannot be negative or without end.")
        experience = Experience(
            id=f"exp_{secrets.token_hex(8)}",
            task=checked_text(cleaned(task), "task"),
            agent=checked_name(agent, "codename"),
            outcome=outcome,
            fitness=checked_share(fitness, "The fitness"),
            strategy=cleaned(strategy),
            tools=tuple(checked_name(tool, "tool") for tool in tools)[:_MAX_TOOLS],
            lesson=cleaned(lesson),
            answer=cleaned(answer),
            run_id=None if run_id is None else checked_name(run_id, "run id"),
            tokens=int(tokens),
            seconds=float(seconds),
            rating=None,
            created=datetime.now(UTC),
        )
        vectors = self._embedder.embed([experience.task])
        with self._database.write() as (connection, revision):
            rows = insert_experiences(connection, [experience], revision)
            store_vectors(connection, EXPERIENCES, self._embedder, rows, vectors, revision)
        return experience

    def rate(self, id: str, rating: float) -> Experience:
        """Keeps what a person said of an experience, 0 to 1."""
        rating = checked_share(rating, "The rating")
        with self._database.write() as (connection, _):
            connection.execute(
                update(ExperienceRow).where(ExperienceRow.id == id).values(rating=rating)
            )
            found = load_experiences(connection, [ExperienceRow.id == id])
        if not found:
            raise InvalidRequest(f"No experience has the id {id!r}.", hint="Search for it first.")
        return next(iter(found.values()))

    def forget(self, id: str) -> bool:
        """Deletes an experience; False where there is none."""
        with self._database.write() as (connection, revision):
            gone = delete(ExperienceRow).where(ExperienceRow.id == id)
            row = connection.execute(gone.returning(ExperienceRow.row)).scalar_one_or_none()
            if row is None:
                return False
            removal = {"space": EXPERIENCES.name, "item_row": row, "revision": revision}
            connection.execute(insert(RemovalRow).values(**removal))
        self._database.scrub()
        return True

    def get(self, id: str) -> Experience | None:
        """Returns one experience by its id."""
        with self._database.read() as connection:
            found = load_experiences(connection, [ExperienceRow.id == id])
        return next(iter(found.values()), None)

    def find(self, task: str, *, agent: str | None = None, limit: int = 3) -> list[ExperienceHit]:
        """Finds experiences of similar tasks; good ones come first, failures are not hidden."""
        if not task.strip():
            raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
        where = [] if agent is None else [ExperienceRow.agent == agent]
        found = self.searcher.search(task, checked_limit(limit), where)
        with self._database.read() as connection:
            rows = [one.row for one in found]
            records = load_experiences(connection, [ExperienceRow.row.in_(rows)])
        return [
            ExperienceHit(records[one.row], one.score, one.similarity, one.reasons)
            for one in found
            if one.row in records
        ]

    def prototypes(self) -> AgentPrototypes:
        """Adds up every agent's experiences; kept until the database changes."""
        self.searcher.synced.catch_up()
        with self._lock:
            seen = self.searcher.synced.seen
            if self._prototypes is None or self._prototypes[0] != seen:
                self._prototypes = (seen, self._add_up())
            return self._prototypes[1]

    def _add_up(self) -> AgentPrototypes:
        rows, vectors = self.searcher.synced.index.snapshot()
        query = select(
            ExperienceRow.row,
            ExperienceRow.agent,
            ExperienceRow.outcome,
            ExperienceRow.fitness,
            ExperienceRow.rating,
        ).order_by(ExperienceRow.row)
        with self._database.read() as connection:
            records = connection.execute(query).all()
        position = {row: at for at, row in enumerate(rows.tolist())}
        known = [(position[one.row], one) for one in records if one.row in position]
        agents: dict[str, AgentPrototype] = {}
        for name in sorted({one.agent for _, one in known}):
            places = [at for at, one in known if one.agent == name]
            weights = np.array([_weight(one) for _, one in known if one.agent == name], np.float32)
            agents[name] = AgentPrototype(
                len(places), float(weights.sum()), weights @ vectors[places]
            )
        dimension = self._embedder.dimension
        mean = vectors.mean(axis=0) if len(rows) else np.zeros(dimension, dtype=np.float32)
        return AgentPrototypes(self._embedder.model_id, dimension, agents, mean, len(known))


def insert_experiences(
    connection: Connection, experiences: Sequence[Experience], revision: int
) -> list[int]:
    """Inserts rows and returns their numbers, in order."""
    if not experiences:
        return []
    values = []
    for one in experiences:
        fields = {name: getattr(one, name) for name in Experience.__slots__}
        lessons = json.dumps([asdict(lesson) for lesson in one.lessons])
        lists = {name: json.dumps(fields[name]) for name in ("tools", "steps")}
        values.append({**fields, **lists, "lessons": lessons, "revision": revision})
    connection.execute(insert(ExperienceRow), values)
    ids = [one.id for one in experiences]
    inserted = select(ExperienceRow.id, ExperienceRow.row).where(ExperienceRow.id.in_(ids))
    rows = {found.id: found.row for found in connection.execute(inserted)}
    return [rows[id] for id in ids]


def load_experiences(
    connection: Connection, where: Sequence[ColumnElement[bool]]
) -> dict[int, Experience]:
    """Returns the experiences that meet all conditions, by row number."""
    columns = [ExperienceRow.row, *(getattr(ExperienceRow, n) for n in Experience.__slots__)]
    found: dict[int, Experience] = {}
    for one in connection.execute(select(*columns).where(*where).order_by(ExperienceRow.row)):
        fields: dict[str, Any] = dict(one._mapping)
        row = fields.pop("row")
        lists = {name: tuple(json.loads(fields[name])) for name in ("tools", "steps")}
        lessons = tuple(Lesson(**one) for one in json.loads(fields["lessons"]))
        found[row] = Experience(**{**fields, **lists, "lessons": lessons})
    return found


def _weight(one: Any) -> float:
    return experience_weight(one.outcome, one.fitness, one.rating)
