"""The memory store: one object over facts, experiences and runs in one database.

Thread-safe, and several processes may share one database. What a method has returned is on the
disk. Searches catch up first with what other processes wrote.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from ryzanstein.memory.calibrate import Pair
from ryzanstein.memory.checks import checked_ids, checked_outcome, checked_share
from ryzanstein.memory.database import Database
from ryzanstein.memory.embed import Embedder, get_embedder
from ryzanstein.memory.experiences import Experiences
from ryzanstein.memory.facts import Facts
from ryzanstein.memory.filters import Filter, FilterFields
from ryzanstein.memory.links import links_of
from ryzanstein.memory.records import (
    AgentPrototypes,
    Calibration,
    ConsolidationReport,
    ConversationReport,
    DocumentReport,
    Draft,
    Experience,
    ExperienceHit,
    Hit,
    ImportReport,
    JournalEntry,
    Lesson,
    Link,
    Memory,
    Page,
    Proposal,
    Standing,
    StoreStats,
)
from ryzanstein.memory.runs import RunStore
from ryzanstein.memory.sources.conversation import Reading, import_conversations
from ryzanstein.memory.sources.revised import import_document
from ryzanstein.memory.stats import count_store
from ryzanstein.memory.transfer import export_jsonl, export_lines, import_jsonl
from ryzanstein.memory.upkeep import Upkeep
from ryzanstein.memory.vectors.index import GRAPH_FROM

if TYPE_CHECKING:
    from ryzanstein.config import Settings
    from ryzanstein.memory.sketches.thompson import Draw

__all__ = ["MemoryStore", "open_store"]


def open_store(url: str | None = None, settings: Settings | None = None) -> MemoryStore:
    """Opens the store, making and migrating its database where needed.

    Args:
        url: SQLAlchemy URL; None means the settings' one, by default SQLite in the data directory.
        settings: None means the user's settings.

    Raises:
        ConfigError: The URL or the embedding is wrong, or needs a package that is not installed.
        StorageError: The file cannot be opened, is damaged, or is of a newer version.
        ConnectionFailed: The database server cannot be reached.
    """
    if settings is None:
        from ryzanstein.config import load_settings

        settings = load_settings()
    return MemoryStore(url or settings.database, embedder=get_embedder(settings.embedding))


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
        return self._embedder

    def remember(
        self,
        text: str,
        *,
        kind: str = "fact",
        tier: str | None = None,
        agent: str | None = None,
        tags: Iterable[str] = (),
        source: str | None = None,
        place: str | None = None,
        speaker: str | None = None,
        context: str | None = None,
        importance: float | None = None,
        happened: datetime | None = None,
        valid_from: datetime | None = None,
        valid_until: datetime | None = None,
        conversation: str | None = None,
        session: str | None = None,
        turn: int | None = None,
        task: str | None = None,
    ) -> Memory:
        """Stores a text; durable on return.

        A text that is there already (same kind and agent, letter case and spacing aside; of a
        conversation also the same turn) is not stored twice: the memory returned is the old one,
        and its `reinforced` has gone up. The arguments are the fields of Memory; `importance` is
        a mark, and what is marked 1.0 is never moved. Without a tier it goes to short-term memory,
        or to the working memory of its task.

        Raises:
            InvalidRequest: The text is empty, too long or holds control characters, or a name, a
                number or a time does not fit.
            StorageError: It could not be written; nothing was stored.
        """
        draft = Draft(
            text,
            kind=kind,
            tier=tier,
            agent=agent,
            tags=tuple(tags),
            source=source,
            place=place,
            speaker=speaker,
            context=context,
            importance=importance,
            happened=happened,
            valid_from=valid_from,
            valid_until=valid_until,
            conversation=conversation,
            session=session,
            turn=turn,
            task=task,
        )
        return self._facts.remember([draft])[0]

    def remember_many(self, drafts: Sequence[Draft]) -> builtins.list[Memory]:
        """Stores texts in one transaction, all or none; returns one memory for each draft."""
        return self._facts.remember(drafts)

    def recall(
        self, query: str, *, limit: int = 5, **where: Unpack[FilterFields]
    ) -> builtins.list[Hit]:
        """Finds memories by meaning and words, best first; fewer than `limit` where little fits.

        What was found counts as used, and comes back where it had been archived. Left out is what
        does not hold now (or at the moment `at`), and what other tasks are working with.

        Args:
            query: What to look for, in any words.
            limit: 1 to 1,000.
            **where: Which memories are meant: the fields of Filter.

        Raises:
            InvalidRequest: The query is empty, or the limit or a filter is out of bounds.
        """
        return self._facts.recall(query, Filter(**where), limit)

    def list(
        self, *, limit: int = 50, cursor: str | None = None, **where: Unpack[FilterFields]
    ) -> Page:
        """Returns what is stored, newest first, a page at a time; archived memories too.

        Args:
            limit: 1 to 1,000.
            cursor: That of the page before; None starts with the newest.
            **where: Which memories are meant: the fields of Filter. With `at`, what held at that
                moment, though it was replaced since.

        Raises:
            InvalidRequest: The cursor, the limit or a filter is none.
        """
        return self._facts.list(Filter(**where), limit, cursor)

    def correct(self, id: str, text: str, *, since: datetime | None = None) -> Memory:
        """Replaces a memory's text; the old version stays in `history` and leaves the search.

        Args:
            id: Of the current version.
            text: What holds instead.
            since: From when on the new text holds and the old one no longer; None means now.

        Raises:
            InvalidRequest: There is no such memory, or it was replaced already.
        """
        return self._facts.correct(id, text, since)

    def history(self, id: str) -> builtins.list[Memory]:
        """Returns a memory and the older versions it replaced, oldest first."""
        return self._facts.history(id)

    def get(self, id: str) -> Memory | None:
        """Returns a memory by its id, old versions too; None where there is none."""
        return self._facts.get(id)

    def forget(self, id: str) -> bool:
        """Really deletes a memory, with the older versions it replaced, or an experience.

        Text, full text index, vector, links and journal are deleted and overwritten in the file.

        Returns:
            False where nothing has that id.
        """
        return self._facts.forget(id) or self._experiences.forget(id)

    def forget_archived(self, *, before: datetime | None = None) -> int:
        """Really deletes what has been archived, before a time where given; returns how many."""
        return self._facts.forget_archived(before)

    def use(self, ids: Iterable[str], *, outcome: float | None = None) -> builtins.list[Memory]:
        """Says that memories were used, and whether it helped; archived ones come back.

        Args:
            ids: Of current versions.
            outcome: -1 (it misled) to 1 (it helped); None where that is not known.

        Raises:
            InvalidRequest: An id is unknown, and nothing was changed; or the outcome is none.
        """
        chosen = None if outcome is None else checked_outcome(outcome)
        return self._facts.tiers.use(checked_ids(ids), chosen)

    def mark(self, id: str, importance: float | None) -> Memory:
        """Says how much a memory matters, 0 to 1; at 1 no policy moves it; None takes it back.

        Raises:
            InvalidRequest: There is no such memory, or the number is out of bounds.
        """
        chosen = None if importance is None else checked_share(importance, "The importance")
        return self._facts.tiers.mark(id, chosen)

    def end_task(self, task: str) -> int:
        """Ends a task: its working memories are promoted or archived; returns how many."""
        return self._facts.tiers.end_task(task)

    def settle(self, seconds: float = 1.0) -> int:
        """Writes counted uses and makes room in full tiers until done or the time is over.

        Every write does a small part of this; returns how many memories changed their tier.
        """
        return self._facts.tiers.settle(seconds)

    def explain(self, id: str) -> Standing:
        """Says why a memory is where it is, how strong it is, and what would happen to it next.

        Raises:
            InvalidRequest: No memory has that id.
        """
        return self._facts.tiers.explain(id)

    def next_out(self, tier: str, *, limit: int = 10) -> builtins.list[Standing]:
        """Returns what would leave a tier next, the first one first; none where none leaves."""
        return self._facts.tiers.next_out(tier, limit)

    def journal(self, id: str) -> builtins.list[JournalEntry]:
        """Returns what happened to a memory and why, oldest first.

        Raises:
            InvalidRequest: No memory has that id.
        """
        return self._facts.journal(id)

    def links(self, id: str) -> builtins.list[Link]:
        """Returns what a memory was made from, what was made of it, and what contradicts it.

        Raises:
            InvalidRequest: No memory has that id.
        """
        return links_of(self._database, id)

    def consolidate(self, *, seconds: float = 1.0, dry_run: bool = False) -> ConsolidationReport:
        """Merges what says the same, marks what contradicts, distils what episodes repeat.

        Goes on where the last slice stopped, whoever did it, and ends after that time at most.

        Args:
            seconds: Length of the slice.
            dry_run: Only count what would be done.

        Raises:
            InvalidRequest: The time is not a number of seconds.
        """
        return self._upkeep.consolidate(seconds, dry_run=dry_run)

    def proposals(self, *, limit: int = 20) -> builtins.list[Proposal]:
        """Lists memories that are near each other and were not merged, and says why."""
        return self._upkeep.proposals(limit)

    def unmerge(self, id: str) -> builtins.list[Memory]:
        """Takes a merged memory apart: its sources hold again and are never merged again.

        Raises:
            InvalidRequest: There is no such memory, it was replaced, or it was not merged.
        """
        return self._upkeep.unmerge(id)

    def calibrate(self, pairs: Path | Iterable[Pair | Mapping[str, Any]]) -> Calibration:
        """Measures the thresholds of merging for this embedding model on labelled pairs.

        Args:
            pairs: A file (JSON Lines of a, b, same, or STS-B's tab-separated values), or pairs.

        Raises:
            InvalidRequest: A pair cannot be used, or there are too few that say the same or not.
        """
        return self._upkeep.calibrate(pairs)

    def thresholds(self) -> Calibration:
        """Returns the thresholds of merging in force; without `pairs` they are the defaults."""
        return self._upkeep.thresholds()

    def start_background(self, *, every: float = 1.0) -> None:
        """Settles tiers and consolidates in a thread until the store is closed; for servers.

        Args:
            every: Seconds between two slices of 50 ms.
        """
        self._upkeep.start(every)

    def record_experience(
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
        """Stores how a finished run went; durable on return. Texts are cut at 1,000,000 characters.

        A fitness of None is made of the outcome and of the cost among similar runs. A run that says
        the same as an earlier one (task, agent, strategy, outcome) renews that one. What is far
        better than its neighbourhood ever was comes back with `breakthrough` set.

        Raises:
            InvalidRequest: The task is empty, or outcome, fitness, cost or lessons do not fit.
        """
        return self._experiences.record(
            task=task,
            agent=agent,
            outcome=outcome,
            fitness=fitness,
            strategy=strategy,
            tools=tools,
            steps=steps,
            reason=reason,
            lesson=lesson,
            lessons=lessons,
            answer=answer,
            run_id=run_id,
            trace_id=trace_id,
            tier=tier,
            tokens=tokens,
            seconds=seconds,
        )

    def find_experiences(
        self, task: str, *, agent: str | None = None, tier: int | None = None, limit: int = 2
    ) -> builtins.list[ExperienceHit]:
        """Finds the one or two most useful experiences of similar tasks, and says why each is.

        Args:
            task: What is to be done.
            agent: Only this agent's experiences, and breakthroughs of the tier.
            tier: The asking agent's, for which breakthroughs of its tier are brought up.
            limit: 1 to 1,000.

        Raises:
            InvalidRequest: The task is empty, or the limit or the tier is out of bounds.
        """
        return self._experiences.find(task, agent=agent, tier=tier, limit=limit)

    def breakthroughs(
        self, *, tier: int | None = None, refuted: bool | None = None, limit: int = 20
    ) -> builtins.list[Experience]:
        """Returns experiences flagged as breakthroughs, newest first; refuted None means all."""
        return self._experiences.breakthroughs(tier=tier, refuted=refuted, limit=limit)

    def consult(
        self, candidates: Sequence[str], task: str, *, seed: int | None = None
    ) -> builtins.list[Draw]:
        """Draws whom to ask about a task (Thompson sampling); the first is the one to ask.

        Args:
            candidates: Codenames, 1 to 1,000.
            task: What it is about.
            seed: For the same draws again.

        Raises:
            InvalidRequest: The task is empty, or there is no candidate or a wrong name.
        """
        return self._experiences.consult(candidates, task, seed=seed)

    def tool_uses(self, tools: Iterable[str]) -> dict[str, int]:
        """About how often runs used each tool: never too low, too high by .1 % of all uses."""
        return self._experiences.uses(tools)

    def distinct_tasks(self) -> dict[str, int]:
        """About how many different tasks each agent has done (standard error 3 %); "" is all."""
        return self._experiences.distinct_tasks()

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

    def import_conversation(
        self,
        transcript: Path | object,
        how: Reading | None = None,
        *,
        agent: str | None = None,
        tags: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> ConversationReport:
        """Stores the turns of a transcript that are not there yet, as episodic memories.

        Args:
            transcript: A file, or what such a JSON file holds.
            how: Its format, id, time zone and encoding; None means what it looks like.
            agent: Whose memories they are; None means everybody's.
            tags: Of every memory.
            progress: Called with turns done and turns in all.

        Raises:
            InvalidRequest: It cannot be read as a conversation; nothing was stored.
            StorageError: It cannot be read, or not be written; what was stored stays, and the
                import goes on from there when it is called again.
        """
        chosen = tuple(tags)
        return import_conversations(
            self._database,
            self.remember_many,
            transcript,
            how,
            agent=agent,
            tags=chosen,
            progress=progress,
        )

    def import_document(
        self,
        document: Path | str,
        *,
        source: str | None = None,
        format: str | None = None,
        encoding: str | None = None,
        agent: str | None = None,
        tags: Iterable[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> DocumentReport:
        """Stores a document's passages as semantic memories, or brings them up to date.

        Args:
            document: A file (Markdown, text or PDF), or a text itself.
            source: How it is cited, a path or URL; None means the file's path.
            format: markdown, text or pdf; None means what the file's name says.
            encoding: Of a text; None means UTF-8 or what a byte order mark says.
            agent: Whose memories they are; None means everybody's.
            tags: Of every new memory.
            progress: Called with passages embedded and passages to embed.

        Raises:
            InvalidRequest: It cannot be read as a document; nothing was stored.
            StorageError: It cannot be read, or not be written; nothing was stored.
        """
        return import_document(
            self._database,
            self._facts,
            document,
            source=source,
            format=format,
            encoding=encoding,
            agent=agent,
            tags=tuple(tags),
            progress=progress,
        )

    def export_jsonl(
        self, path: Path, *, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Writes all memories, links and experiences to a file; returns how many.

        Args:
            path: The file; it is there whole, or stays what it was.
            progress: Called with records written and records in all.
        """
        return export_jsonl(self._database, path, progress=progress)

    def export_lines(self) -> Iterator[str]:
        """Yields the lines of an export, without their ends, from one state of the store."""
        return export_lines(self._database)

    def import_jsonl(
        self, path: Path, *, progress: Callable[[int, int], None] | None = None
    ) -> ImportReport:
        """Adds what a file has and this store has not; can be repeated, and goes on where it was.

        Args:
            path: A file that `export_jsonl` wrote.
            progress: Called with bytes read and bytes to read; the file is read twice.

        Raises:
            InvalidRequest: A line is wrong; it is named, and nothing was imported.
        """
        return import_jsonl(self._database, self._embedder, path, progress=progress)

    def stats(self) -> StoreStats:
        """Counts what is stored, and says where it is and how it is searched."""
        searchers = {
            "memories": self._facts.searcher,
            "experiences": self._experiences.searcher,
        }
        return count_store(self._database, self._embedder, searchers)
