"""What one does with memories: remember, recall, list, correct, use, explain."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from ryzanstein.memory.checks import checked_ids, checked_outcome, checked_share, checked_tags
from ryzanstein.memory.filters import Filter, FilterFields
from ryzanstein.memory.links import links_of
from ryzanstein.memory.records import Draft, Hit, JournalEntry, Link, Memory, Page, Standing
from ryzanstein.memory.rows import embeddings_of

if TYPE_CHECKING:
    from ryzanstein.memory.database import Database
    from ryzanstein.memory.facts import Facts

__all__ = ["Memories"]


class Memories:
    """The part of a store that holds memories."""

    _database: Database
    _facts: Facts

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
            tags=checked_tags(tags),
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
        does not hold now (or at the moment `at`), and what other tasks are working with. With
        `at`, what was replaced since is found too, by its words or through what replaced it.

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
            InvalidRequest: There is no such memory, it was replaced, or the time is to come.
        """
        return self._facts.correct(id, text, since)

    def history(self, id: str) -> builtins.list[Memory]:
        """Returns a memory and the older versions it replaced, oldest first."""
        return self._facts.history(id)

    def get(self, id: str) -> Memory | None:
        """Returns a memory by its id, old versions too; None where there is none."""
        return self._facts.get(id)

    def embeddings(self, id: str) -> dict[str, int]:
        """Returns the dimension of each vector of a memory, by embedding model; {} for old ones."""
        with self._database.read() as connection:
            return embeddings_of(connection, id)

    def forget_archived(self, *, before: datetime | None = None) -> int:
        """Really deletes what has been archived, before a time where given; returns how many.

        Facts that were distilled from nothing else go with it and are not counted.
        """
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
