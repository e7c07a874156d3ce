"""The memory store: one object over facts, experiences and runs in one database.

Thread-safe, and several processes may share one database. What a method has returned is on the
disk. Searches catch up first with what other processes wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute

from ryzanstein.memory.database import Database
from ryzanstein.memory.embed import Embedder, get_embedder
from ryzanstein.memory.experiences import Experiences
from ryzanstein.memory.facts import Facts
from ryzanstein.memory.records import (
    AgentPrototypes,
    Experience,
    ExperienceHit,
    Hit,
    ImportReport,
    Memory,
    StoreStats,
)
from ryzanstein.memory.runs import RunStore
from ryzanstein.memory.schema import ExperienceRow, MemoryRow, RunRow
from ryzanstein.memory.transfer import export_jsonl, import_jsonl
from ryzanstein.memory.vectors.index import GRAPH_FROM

if TYPE_CHECKING:
    from ryzanstein.config import Settings

__all__ = ["MemoryStore", "open_store"]


def open_store(url: str | None = None, settings: Settings | None = None) -> MemoryStore:
    """Opens the store, making and migrating its database where needed.

    Args:
        url: SQLAlchemy URL; None means the settings' one, by default SQLite in the data directory.
        settings: None means the user's settings.

    Raises:
        ConfigError: The URL is wrong or needs a driver that is not installed.
        StorageError: The file cannot be opened, is damaged, or is of a newer version.
        ConnectionFailed: The database server cannot be reached.
    """
    if url is None:
        if settings is None:
            from ryzanstein.config import load_settings

            settings = load_settings()
        url = settings.database
    return MemoryStore(url)


class MemoryStore:
    """Facts, experiences and runs in one database.

    Args:
        url: SQLAlchemy URL.
        embedder: None means the default embedder.
        graph_from: Rows from which a vector index builds a graph.
        busy_seconds: How long a write waits for another process.
    """

    def __init__(
        self,
        url: str,
        *,
        embedder: Embedder | None = None,
        graph_from: int = GRAPH_FROM,
        busy_seconds: float = 30.0,
    ) -> None:
        self._embedder = embedder or get_embedder()
        self._database = Database(url, busy_seconds=busy_seconds)
        self._facts = Facts(self._database, self._embedder, graph_from=graph_from)
        self._experiences = Experiences(self._database, self._embedder, graph_from=graph_from)
        self.runs = RunStore(self._database)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stops index workers and closes the database."""
        for searcher in (self._facts.searcher, self._experiences.searcher):
            searcher.synced.index.close()
        self._database.close()

    @property
    def embedder(self) -> Embedder:
        """The model that makes this store's vectors."""
        return self._embedder

    def remember(
        self,
        text: str,
        *,
        kind: str = "fact",
        agent: str | None = None,
        tags: Iterable[str] = (),
        source: str | None = None,
        importance: float = 0.5,
    ) -> Memory:
        """Stores a text; durable on return.

        A text that is there already (same kind and agent, letter case and spacing aside) is not
        stored twice: the memory returned is the old one, and its `reinforced` has gone up.

        Raises:
            InvalidRequest: The text is empty or too long, or a name or number does not fit.
            StorageError: It could not be written; nothing was stored.
        """
        return self._facts.remember(
            text, kind=kind, agent=agent, tags=tags, source=source, importance=importance
        )

    def recall(
        self,
        query: str,
        *,
        limit: int = 5,
        agent: str | None = None,
        tags: Iterable[str] = (),
        kind: str | None = None,
    ) -> list[Hit]:
        """Finds memories by meaning and words, best first; fewer than `limit` where little fits.

        Args:
            query: What to look for, in any words.
            limit: 1 to 1,000.
            agent: Only this agent's memories and those that belong to no agent.
            tags: Only memories that have all of these.
            kind: Only memories of this kind.

        Raises:
            InvalidRequest: The query is empty, or the limit is out of bounds.
        """
        return self._facts.recall(query, limit=limit, agent=agent, tags=tags, kind=kind)

    def correct(self, id: str, text: str) -> Memory:
        """Replaces a memory's text; the old version stays in `history` and leaves the search.

        Raises:
            InvalidRequest: There is no such memory, or it was replaced already.
        """
        return self._facts.correct(id, text)

    def history(self, id: str) -> list[Memory]:
        """Returns a memory and the older versions it replaced, oldest first."""
        return self._facts.history(id)

    def get(self, id: str) -> Memory | None:
        """Returns a memory by its id, old versions too; None where there is none."""
        return self._facts.get(id)

    def forget(self, id: str) -> bool:
        """Really deletes a memory, with the older versions it replaced, or an experience.

        Text, full text index and vector are deleted and overwritten in the database file.

        Returns:
            False where nothing has that id.
        """
        return self._facts.forget(id) or self._experiences.forget(id)

    def record_experience(
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
        """Stores how a run went; durable on return. Texts are cut at 1,000,000 characters.

        Raises:
            InvalidRequest: The task is empty, or outcome, fitness or cost do not fit.
        """
        return self._experiences.record(
            task=task,
            agent=agent,
            outcome=outcome,
            fitness=fitness,
            strategy=strategy,
            tools=tools,
            lesson=lesson,
            answer=answer,
            run_id=run_id,
            tokens=tokens,
            seconds=seconds,
        )

    def find_experiences(
        self, task: str, *, agent: str | None = None, limit: int = 3
    ) -> list[ExperienceHit]:
        """Finds experiences of similar tasks: similarity together with how well they went."""
        return self._experiences.find(task, agent=agent, limit=limit)

    def get_experience(self, id: str) -> Experience | None:
        """Returns an experience by its id; None where there is none."""
        return self._experiences.get(id)

    def rate_experience(self, id: str, rating: float) -> Experience:
        """Keeps a person's rating, 0 to 1; it outweighs what the run thought of itself.

        Raises:
            InvalidRequest: There is no such experience, or the rating is out of bounds.
        """
        return self._experiences.rate(id, rating)

    def prototypes(self) -> AgentPrototypes:
        """Adds up every agent's experiences for routing; kept until the database changes."""
        return self._experiences.prototypes()

    def export_jsonl(self, path: Path) -> int:
        """Writes all memories and experiences to a file; returns how many."""
        return export_jsonl(self._database, path)

    def import_jsonl(self, path: Path) -> ImportReport:
        """Adds what a file has and this store has not; can be repeated."""
        return import_jsonl(self._database, self._embedder, path)

    def stats(self) -> StoreStats:
        """Counts what is stored, and says where it is and how it is searched."""
        current = MemoryRow.superseded_by.is_(None)
        with self._database.read() as connection:

            def count(table: type, *where: ColumnElement[bool]) -> int:
                query = select(func.count()).select_from(table).where(*where)
                return connection.execute(query).scalar_one()

            def grouped(
                column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None],
                *where: ColumnElement[bool],
            ) -> dict[str, int]:
                query = select(column, func.count()).where(*where).group_by(column).order_by(column)
                return {name or "": number for name, number in connection.execute(query)}

            return StoreStats(
                memories=count(MemoryRow, current),
                superseded=count(MemoryRow, ~current),
                experiences=count(ExperienceRow),
                runs=count(RunRow),
                by_kind=grouped(MemoryRow.kind, current),
                by_agent=grouped(ExperienceRow.agent),
                by_outcome=grouped(ExperienceRow.outcome),
                database=self._database.name,
                bytes=self._database.bytes,
                model_id=self._embedder.model_id,
                dimension=self._embedder.dimension,
                full_text="fts5" if self._database.full_text else "like",
                index={
                    "memories": self._facts.searcher.synced.index.form,
                    "experiences": self._experiences.searcher.synced.index.form,
                },
            )
