"""The memory store: one object over facts, experiences and runs in one database.

Thread-safe, and several processes may share one database. What a method has returned is on the
disk. Searches catch up first with what other processes wrote.

    MemoryStore = Memories      remember, recall, list, correct, use, explain, …
                + Learning      record_experience, find_experiences, consult, …
                + Consolidation consolidate, unmerge, calibrate, start_background
                + Transfer      import_conversation, import_document, export_jsonl, …
                + forget, names and stats, which are about all of them
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from ryzanstein.memory.changes import ChangesOfOthers
from ryzanstein.memory.database import Database
from ryzanstein.memory.embed import Embedder, checked_embedder, get_embedder
from ryzanstein.memory.experiences import Experiences
from ryzanstein.memory.facade.experiences import Learning
from ryzanstein.memory.facade.memories import Memories
from ryzanstein.memory.facade.transfer import Transfer
from ryzanstein.memory.facade.upkeep import Consolidation
from ryzanstein.memory.facts import Facts
from ryzanstein.memory.names import Named, names_beginning
from ryzanstein.memory.records import StoreStats
from ryzanstein.memory.runs import RunStore
from ryzanstein.memory.stats import count_store
from ryzanstein.memory.upkeep import Upkeep
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
        ConfigError: The URL or the embedding is wrong, or needs a package that is not installed.
        StorageError: The file cannot be opened, is damaged, of a newer version, or not ours.
        ConnectionFailed: The database server cannot be reached.
    """
    if settings is None:
        from ryzanstein.config import load_settings

        settings = load_settings()
    return MemoryStore(url or settings.database, embedder=get_embedder(settings.embedding))


class MemoryStore(Memories, Learning, Consolidation, Transfer):
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
        self._model = embedder or get_embedder()
        self._embedder = checked_embedder(self._model)
        self._database = Database(url, busy_seconds=busy_seconds)
        self._facts = Facts(self._database, self._embedder, graph_from=graph_from)
        self._experiences = Experiences(self._database, self._embedder, graph_from=graph_from)
        self._upkeep = Upkeep(
            self._database, self._facts.searcher.synced, self._embedder, self._facts.tiers
        )
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
        """Writes what was counted, stops whatever works behind and closes the database."""
        self._upkeep.close()
        self._facts.tiers.flush()
        for searcher in (self._facts.searcher, self._experiences.searcher):
            searcher.synced.close()
        self._database.close()

    @property
    def embedder(self) -> Embedder:
        """The model that makes this store's vectors."""
        return self._model

    def forget(self, id: str) -> bool:
        """Really deletes a memory, with the older versions it replaced, or an experience.

        Text, full text index, vector, links and journal are deleted and overwritten in the file.
        A fact that was distilled from episodes goes with the last of them.

        Returns:
            False where nothing has that id.

        Raises:
            InvalidRequest: It was merged into another, which says the same; nothing was deleted.
        """
        return self._facts.forget(id) or self._experiences.forget(id)

    def names(self, what: Named, beginning: str = "", limit: int = 100) -> tuple[list[str], int]:
        """Returns ids or tags that begin so, newest or most used first, and how many there are.

        Raises:
            InvalidRequest: `what` or the limit is out of bounds.
        """
        return names_beginning(self._database, what, beginning, limit)

    def changes_of_others(self) -> ChangesOfOthers:
        """Returns what tells from now on what other processes change."""
        return ChangesOfOthers(self._database)

    def stats(self) -> StoreStats:
        """Counts what is stored, and says where it is and how it is searched."""
        searchers = {
            "memories": self._facts.searcher,
            "experiences": self._experiences.searcher,
        }
        return count_store(self._database, self._embedder, searchers)
