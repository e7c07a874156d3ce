"""Experiences in SQL: recorded once their outcome is known, found, rated, added up for routing."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import (
    checked_limit,
    checked_name,
    checked_share,
    checked_text,
    cleaned,
    possible_id,
)
from ryzanstein.memory.database import Database
from ryzanstein.memory.experience_fields import (
    checked_cost,
    checked_lesson,
    checked_tier,
    flattened,
    known_outcome,
    known_reason,
)
from ryzanstein.memory.experience_rows import (
    as_columns,
    experiences_of,
    insert_experiences,
    load_experiences,
    strategy_key,
)
from ryzanstein.memory.fitness import QUALITIES, expense, joined, own_fitness, rerated
from ryzanstein.memory.insight import ALIKE, STANDING, Insight, Neighbour
from ryzanstein.memory.prototypes import AgentExamples, add_up
from ryzanstein.memory.records import (
    AgentPrototypes,
    Experience,
    ExperienceHit,
    Lesson,
    Reason,
    experience_weight,
)
from ryzanstein.memory.schema import ExperienceRow, RemovalRow, RevisionRow, SketchRow
from ryzanstein.memory.search import Searcher
from ryzanstein.memory.sketches.kept import Sketches, identity
from ryzanstein.memory.spaces import EXPERIENCES
from ryzanstein.memory.useful import lifted, useful
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.sketches.thompson import Draw

__all__ = ["Experiences"]

_MAX_TOOLS = 1_000
_MAX_STEPS = 100
_MAX_LESSONS = 20
_MAX_CANDIDATES = 1_000
# What a task is about stands at its beginning.
_MOST_OF_TASK = 500
_STANDING_ROWS = select(ExperienceRow.row).where(STANDING)
# Experiences from which the one or two most useful are chosen.
_CONSIDERED = 24


class Experiences:
    """The experiences of one store.

    Args:
        database: The store's database.
        embedder: Embeds tasks.
        graph_from: Rows from which the vector index builds a graph.
    """

    def __init__(self, database: Database, embedder: Embedder, *, graph_from: int) -> None:
        self.searcher = Searcher(database, EXPERIENCES, embedder, graph_from=graph_from)
        self._insight = Insight(self.searcher.synced.index, embedder.model_id)
        self._sketches = Sketches()
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
        fitness: float | None = None,
        strategy: str = "",
        tools: Iterable[str] = (),
        steps: Iterable[str] = (),
        reason: str = "",
        lesson: str = "",
        lessons: Iterable[Lesson | Mapping[str, str]] = (),
        answer: str = "",
        run_id: str | None = None,
        trace_id: str | None = None,
        tier: int | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
    ) -> Experience:
        """Stores how a run went; durable on return."""
        taught = tuple(checked_lesson(one) for one in lessons)[:_MAX_LESSONS]
        used = tuple(checked_name(tool, "tool") for tool in tools)[:_MAX_TOOLS]
        done = cleaned(strategy)
        given = Experience(
            id=f"exp_{secrets.token_hex(8)}",
            task=checked_text(cleaned(task), "task"),
            agent=checked_name(agent, "codename"),
            outcome=known_outcome(outcome),
            fitness=0.0 if fitness is None else checked_share(fitness, "The fitness"),
            strategy=done,
            tools=used,
            lesson=flattened(cleaned(lesson), taught),
            answer=cleaned(answer),
            run_id=None if run_id is None else checked_name(run_id, "run id"),
            tokens=int(checked_cost(tokens)),
            seconds=float(checked_cost(seconds)),
            rating=None,
            created=datetime.now(UTC),
            steps=tuple(cleaned(step) for step in steps)[:_MAX_STEPS],
            reason=cleaned(reason),
            lessons=taught,
            trace_id=None if trace_id is None else checked_name(trace_id, "trace id"),
            tier=checked_tier(tier),
            strategy_key=strategy_key(done, used),
        )
        return self._store(given, fitness is not None)

    def _store(self, given: Experience, judged: bool) -> Experience:
        """Writes an experience; `judged` says that its fitness is the caller's own."""
        vectors = self._embedder.embed([given.task])
        self.searcher.synced.catch_up()
        if self._sketches.uncounted:
            self._counted()
        with self._database.write() as (connection, revision):
            self._sketches.catch_up(connection, revision - 1, save=True)
            earlier = self._same_run(connection, given)
            row = None if earlier is None else earlier[0]
            before = self._insight.neighbours(connection, vectors[0], before=row)
            kept = given if judged else replace(given, fitness=_fitness(given, before))
            if earlier is not None and _identity(earlier[1]) != _identity(kept):
                return self._revised(connection, *earlier, kept, vectors[0], before, revision)
            twin = earlier or self._twin(connection, kept)
            if twin is not None:
                return self._refreshed(connection, *twin, kept, vectors[0])
            found = self._insight.breakthrough(kept.outcome, kept.fitness, before)
            kept = replace(kept, breakthrough=found, reason=known_reason(kept))
            rows = insert_experiences(connection, [kept], revision)
            store_vectors(connection, EXPERIENCES, self._embedder, rows, vectors, revision)
            self._insight.refute(connection, kept, vectors[0], rows[0])
        return kept

    def _same_run(self, connection: Connection, one: Experience) -> tuple[int, Experience] | None:
        """What an agent's run was kept as before: one that was killed then is recorded again."""
        if one.run_id is None:
            return None
        where = [
            ExperienceRow.run_id == one.run_id,
            ExperienceRow.agent == one.agent,
            ExperienceRow.task == one.task,
        ]
        return next(iter(load_experiences(connection, where).items()), None)

    def _twin(self, connection: Connection, one: Experience) -> tuple[int, Experience] | None:
        """The experience that says the same already, with its row; seldom asked of SQL."""
        if self._sketches.surely_new(_identity(one)):
            return None
        same_strategy = (
            ExperienceRow.strategy_key.is_(None)
            if one.strategy_key is None
            else ExperienceRow.strategy_key == one.strategy_key
        )
        where = [
            ExperienceRow.agent == one.agent,
            ExperienceRow.outcome == one.outcome,
            same_strategy,
            ExperienceRow.task == one.task,
        ]
        return next(iter(load_experiences(connection, where).items()), None)

    def _refreshed(
        self,
        connection: Connection,
        row: int,
        twin: Experience,
        again: Experience,
        vector: NDArray[np.float32],
    ) -> Experience:
        """The twin with what the latest run of it says; what people said of it stays."""
        kept = replace(
            again,
            id=twin.id,
            created=twin.created,
            rating=twin.rating,
            fitness=joined(again.fitness, twin.rating),
            breakthrough=twin.breakthrough,
            refuted=twin.refuted,
            steps=again.steps or twin.steps,
            lesson=again.lesson or twin.lesson,
            lessons=again.lessons or twin.lessons,
            reason=again.reason or twin.reason,
        )
        values = as_columns(kept)
        connection.execute(update(ExperienceRow).where(ExperienceRow.row == row).values(values))
        self._insight.refute(connection, kept, vector, row)
        return experiences_of(connection, [row])[row]

    def _revised(
        self,
        connection: Connection,
        row: int,
        earlier: Experience,
        again: Experience,
        vector: NDArray[np.float32],
        before: Sequence[Neighbour],
        revision: int,
    ) -> Experience:
        """The experience of a run that ended otherwise, when it was gone on with, than it said."""
        rated = earlier.rating is not None and again.outcome == "unknown"
        kept = replace(
            again,
            id=earlier.id,
            created=earlier.created,
            rating=earlier.rating,
            outcome="rated" if rated else again.outcome,
            fitness=joined(again.fitness, earlier.rating),
            reason=known_reason(again),
        )
        kept = replace(
            kept, breakthrough=self._insight.breakthrough(kept.outcome, kept.fitness, before)
        )
        values = {**as_columns(kept), "revision": revision}  # every process counts its new identity
        connection.execute(update(ExperienceRow).where(ExperienceRow.row == row).values(values))
        self._insight.refute(connection, kept, vector, row)
        return experiences_of(connection, [row])[row]

    def rate(self, id: str, rating: float) -> Experience:
        """Keeps what a person said of an experience, 0 to 1, and joins it to the fitness."""
        rating = checked_share(rating, "The rating")
        found = self.get(id)
        if found is None:
            raise _unknown(id)
        vector = self._embedder.embed([found.task])[0]
        self.searcher.synced.catch_up()
        with self._database.write() as (connection, revision):
            rows = load_experiences(connection, [ExperienceRow.id == id])
            if not rows:
                raise _unknown(id)
            row, one = next(iter(rows.items()))
            outcome = "rated" if one.outcome == "unknown" else one.outcome
            fitness = rerated(one.fitness, one.rating, rating)
            before = self._insight.neighbours(connection, vector, before=row)
            score = one.breakthrough or self._insight.breakthrough(outcome, fitness, before)
            changed: dict[str, Any] = {"rating": rating, "outcome": outcome, "fitness": fitness}
            if outcome != one.outcome:
                changed["revision"] = revision  # so that every process counts its new identity
            where = update(ExperienceRow).where(ExperienceRow.row == row)
            connection.execute(where.values(**changed, breakthrough=score))
            rated = replace(one, fitness=fitness)
            self._insight.refute(connection, rated, vector, row)
            return experiences_of(connection, [row])[row]

    def forget(self, id: str) -> bool:
        """Deletes an experience; False where there is none."""
        if not possible_id(id):
            return False
        with self._database.write() as (connection, revision):
            gone = delete(ExperienceRow).where(ExperienceRow.id == id)
            row = connection.execute(gone.returning(ExperienceRow.row)).scalar_one_or_none()
            if row is None:
                return False
            removal = {"space": EXPERIENCES.name, "item_row": row, "revision": revision}
            connection.execute(insert(RemovalRow).values(**removal))
            # A filter could still be asked whether the task was ever there.
            connection.execute(delete(SketchRow))
        self._sketches.drop()
        try:
            self.searcher.synced.forget([row])
        finally:
            self._database.scrub()
        return True

    def get(self, id: str) -> Experience | None:
        """Returns one experience by its id."""
        if not possible_id(id):
            return None
        with self._database.read() as connection:
            found = load_experiences(connection, [ExperienceRow.id == id])
        return next(iter(found.values()), None)

    def newest(self, limit: int) -> list[Experience]:
        """Returns the newest experiences."""
        query = select(ExperienceRow.row).order_by(ExperienceRow.row.desc())
        with self._database.read() as connection:
            rows = connection.execute(query.limit(checked_limit(limit))).scalars().all()
            found = experiences_of(connection, rows)
        return [found[row] for row in rows]

    def find(
        self, task: str, *, agent: str | None = None, tier: int | None = None, limit: int = 2
    ) -> list[ExperienceHit]:
        """Finds the most useful experiences of similar tasks, and says why each is."""
        if not task.strip():
            raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
        limit, tier = checked_limit(limit), checked_tier(tier)
        mine: list[ColumnElement[bool]] = []
        if agent is not None:
            shared = STANDING & (ExperienceRow.tier == tier)
            mine = [or_(ExperienceRow.agent == agent, shared)]
        vector = self._embedder.embed([task])[0]
        found = self.searcher.search(task, max(limit, _CONSIDERED), mine, vector=vector)
        with self._database.read() as connection:
            near = self._near_breakthroughs(connection, vector)
            rows = [one.row for one in found]
            records = experiences_of(connection, [*rows, *near])
        hits = [
            ExperienceHit(records[one.row], one.score, one.similarity, one.reasons)
            for one in found
            if one.row in records
        ]
        lifts = {records[row].strategy_key for row in near if row in records}
        hits += [
            _brought(records[row], cosine)
            for row, cosine in near.items()
            if row not in rows and row in records and tier is not None and records[row].tier == tier
        ]
        return useful([lifted(hit, tier, lifts) for hit in hits], tier, limit)

    def _near_breakthroughs(
        self, connection: Connection, vector: NDArray[np.float32]
    ) -> dict[int, float]:
        """Rows of the breakthroughs that stand and are of a task like this one, with cosines."""
        rows = np.array(connection.execute(_STANDING_ROWS).scalars().all(), dtype=np.int64)
        cosines = self.searcher.synced.index.cosines(vector, rows)
        near = cosines >= ALIKE
        return dict(zip(rows[near].tolist(), cosines[near].tolist(), strict=True))

    def breakthroughs(
        self, *, tier: int | None = None, refuted: bool | None = None, limit: int = 20
    ) -> list[Experience]:
        """Returns breakthroughs, the newest first; `refuted` None means standing ones and not."""
        where: list[ColumnElement[bool]] = [ExperienceRow.breakthrough.is_not(None)]
        if tier is not None:
            where.append(ExperienceRow.tier == checked_tier(tier))
        if refuted is not None:
            where.append(ExperienceRow.refuted.is_(refuted))
        newest = select(ExperienceRow.row).where(*where).order_by(ExperienceRow.row.desc())
        with self._database.read() as connection:
            rows = connection.execute(newest.limit(checked_limit(limit))).scalars().all()
            found = experiences_of(connection, rows)
        return list(found.values())[::-1]

    def consult(
        self, candidates: Sequence[str], task: str, *, seed: int | None = None
    ) -> list[Draw]:
        """Draws whom to ask about a task from what is known of each; the first is the one."""
        if not task.strip():
            raise InvalidRequest("The task is empty.", hint="Say what is to be done.")
        names = {checked_name(name, "codename") for name in candidates}
        if not 1 <= len(names) <= _MAX_CANDIDATES:
            raise InvalidRequest(
                f"{len(names)} candidates were given.", hint=f"Name 1 to {_MAX_CANDIDATES} agents."
            )
        vector = self._embedder.embed([task])[0]
        self.searcher.synced.catch_up()
        with self._database.read() as connection:
            random = np.random.default_rng(seed)
            return self._insight.draw(connection, sorted(names), vector, random)

    def uses(self, tools: Iterable[str]) -> dict[str, int]:
        """About how often each tool was used: never too low, too high by .1 % of all uses."""
        names = {f"tool:{tool}": tool for tool in tools}
        return {names[name]: count for name, count in self._counted().uses(names).items()}

    def distinct_tasks(self) -> dict[str, int]:
        """About how many different tasks each agent has done (standard error 3 %); "" is all."""
        return self._counted().distinct_tasks()

    def _counted(self) -> Sketches:
        with self._database.read() as connection:
            revision = connection.execute(select(RevisionRow.value)).scalar_one()
            self._sketches.catch_up(connection, revision)
        return self._sketches

    def prototypes(self) -> AgentPrototypes:
        """Adds up every agent's experiences; kept until the database changes."""
        self.searcher.synced.catch_up()
        with self._lock:
            seen = self.searcher.synced.seen
            if self._prototypes is None or self._prototypes[0] != seen:
                self._prototypes = (seen, self._add_up())
            return self._prototypes[1]

    def _add_up(self) -> AgentPrototypes:
        records, vectors = self._embedded()
        weights = np.array([_weight(one) for one in records], np.float32)
        agents = [one.agent for one in records]
        return add_up(self._embedder.model_id, agents, weights, vectors)

    def examples(self, per_agent: int) -> AgentExamples:
        """The newest experiences that did good, at most so many of an agent, oldest first."""
        self.searcher.synced.catch_up()
        records, vectors = self._embedded()
        places: dict[str, list[int]] = {}
        for at, one in enumerate(records):
            if _weight(one) > 0:
                places.setdefault(one.agent, []).append(at)
        chosen = sorted(at for mine in places.values() for at in mine[-per_agent:])
        query = select(ExperienceRow.row, func.substr(ExperienceRow.task, 1, _MOST_OF_TASK))
        rows = [records[at].row for at in chosen]
        with self._database.read() as connection:
            found = connection.execute(query.where(ExperienceRow.row.in_(rows))).all()
        tasks = {one.row: one[1] for one in found}
        chosen = [at for at in chosen if records[at].row in tasks]
        return AgentExamples(
            self._embedder.model_id,
            tuple(records[at].agent for at in chosen),
            tuple(tasks[records[at].row] for at in chosen),
            np.array([_weight(records[at]) for at in chosen], np.float32),
            vectors[chosen],
        )

    def _embedded(self) -> tuple[list[Any], NDArray[np.float32]]:
        """What weighs each experience that has a vector, and its vector, oldest first."""
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
        known = [one for one in records if one.row in position]
        places = np.array([position[one.row] for one in known], np.int64)
        return known, vectors[places]


def _brought(one: Experience, cosine: float) -> ExperienceHit:
    """A breakthrough that the search did not bring, for it is near among very many."""
    reasons = (
        Reason("meaning", f"similarity {cosine:.2f}", cosine),
        Reason("outcome", f"{one.outcome}, fitness {one.fitness:.2f}", one.weight),
    )
    return ExperienceHit(one, sum(reason.weight for reason in reasons), cosine, reasons)


def _fitness(one: Experience, neighbours: Sequence[Neighbour]) -> float:
    """What a run's outcome and its cost among its neighbours come to."""
    quality = QUALITIES[one.outcome] if one.answer or one.outcome != "failed" else 0.0
    tokens = expense(one.tokens, [near.tokens for near in neighbours])
    return own_fitness(quality, tokens, expense(one.seconds, [near.seconds for near in neighbours]))


def _identity(one: Experience) -> str:
    return identity(one.task, one.agent, one.strategy_key, one.outcome)


def _unknown(id: str) -> InvalidRequest:
    return InvalidRequest(f"No experience has the id {id!r:.80}.", hint="Search for it first.")


def _weight(one: Any) -> float:
    return experience_weight(one.outcome, one.fitness, one.rating)
