"""Facts that several episodes repeat become semantic records, linked to where they were said.

    for each episodic record, from where the last slice stopped:
        for each sentence of it that states a fact by itself:
            the same sentence in episodes of three or more sessions  ->  one semantic record,
                its text the newest of those sentences      record ──distilled_from──> each episode

A sentence states a fact by itself when it says something of somebody or something that it names
(no question, no "he" or "it", no "tomorrow", no thanks, and it speaks to nobody). What "I" say is
compared only with what the same speaker says. Nothing is put into other words, and the episodes
stay as they are. A later episode that says it again is linked to the record that is there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, select

from ryzanstein.memory import journal, policies
from ryzanstein.memory.agreement import agree
from ryzanstein.memory.agreement.lexicon import EXACT_DAYS, canonical
from ryzanstein.memory.agreement.statement import parse
from ryzanstein.memory.checks import checked_seconds
from ryzanstein.memory.consolidate import RELATED_FROM, never
from ryzanstein.memory.database import Database
from ryzanstein.memory.facts import new_id
from ryzanstein.memory.jobs import Place
from ryzanstein.memory.merges import add_link
from ryzanstein.memory.near import Near, Neighbours
from ryzanstein.memory.records import DISTILLED_FROM, Memory
from ryzanstein.memory.rows import (
    identity_of,
    insert_memories,
    load_known,
    load_memories,
    load_rows,
)
from ryzanstein.memory.schema import MemoryLinkRow, MemoryRow
from ryzanstein.memory.spaces import MEMORIES
from ryzanstein.memory.thresholds import load_thresholds
from ryzanstein.memory.tiers import Change, Tiers
from ryzanstein.memory.vectors.sync import store_vectors

__all__ = ["LEAST_SESSIONS", "Distillation", "Distilled", "facts_of"]

LEAST_SESSIONS = 3
_NAME = "distillation"
_BATCH = 16
_LONGEST = 300
_LEAST_TERMS = 3
_EPISODES = (MemoryRow.tier == "episodic", MemoryRow.superseded_by.is_(None))
_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?]+(?=\S)[^.!?\n]+)*[.!?]*")
_ELSEWHERE = re.compile(
    r"\b(?:he|she|they|him|her|them|his|their|you|your|yours|yourself|here|there)\b"
    r"|^\s*(?:it|this|that|these|those|and|but|so|because|which|who)\b",
    re.IGNORECASE,
)
# "Way to go, Jon!" and "Caroline, that is lovely." speak to somebody, not of something.
_ADDRESSED = re.compile(r",\s*[A-Z]\w+\s*[!.?]*$|^(?:\w+,?\s+)?[A-Z]\w+,")
_CHAT = frozenset(
    canonical(word)
    for word in "thank thanks congrats congratulations sorry welcome bye hope wish glad proud "
    "sounds let agree happy excited".split()
)
_SOON = EXACT_DAYS | {"week", "month", "year", "last", "next", "ago", "recent", "later", "soon"}


@dataclass(slots=True)
class Distilled:
    """What a slice has done so far."""

    looked_at: int = 0
    distilled: int = 0
    done: bool = False

    def __add__(self, other: Distilled) -> Distilled:
        """Returns both together, done where the later one is."""
        return Distilled(
            self.looked_at + other.looked_at, self.distilled + other.distilled, other.done
        )


@dataclass(frozen=True, slots=True)
class _Saying:
    """A sentence of an episode."""

    row: int
    memory: Memory
    sentence: str
    cosine: float


def facts_of(text: str) -> list[str]:
    """Returns the sentences of a text that state a fact by themselves."""
    return [
        sentence.strip() for sentence in _SENTENCE.findall(text) if _states_a_fact(sentence.strip())
    ]


def _states_a_fact(sentence: str) -> bool:
    if len(sentence) > _LONGEST or _ELSEWHERE.search(sentence) or _ADDRESSED.search(sentence):
        return False
    statement = parse(sentence)
    terms = statement.terms
    keys = {term.key for term in terms}
    if len(terms) < _LEAST_TERMS or +statement.markers or keys & _CHAT or _passes(keys):
        return False
    # It has somebody or something particular, or a verb that can be told from a noun.
    return any(term.kind != "word" or term.stated or term.past for term in terms) or terms[
        1
    ].text.endswith("s")


def _passes(keys: set[str]) -> bool:
    """Says whether a sentence names a day that will be another one: Friday, not every Friday."""
    return bool(keys & _SOON) and "all" not in keys


class Distillation:
    """Distillation of one store.

    Args:
        database: The store's database.
        neighbours: Finds what is near.
        tiers: Opens its transactions.
    """

    def __init__(self, database: Database, neighbours: Neighbours, tiers: Tiers) -> None:
        self._database = database
        self._neighbours = neighbours
        self._tiers = tiers

    def run(
        self, seconds: float, *, dry_run: bool = False, stop: Callable[[], bool] = never
    ) -> Distilled:
        """Looks at episodes until the end, the time is over, or it is told to stop.

        Args:
            seconds: How long; at least one episode is looked at.
            dry_run: Only count what would be made, and keep no place.
            stop: Asked between two episodes.

        Raises:
            InvalidRequest: The time is no number of seconds.
        """
        deadline = time.monotonic() + checked_seconds(seconds)
        done = Distilled()
        embedder = self._neighbours.embedder
        with self._database.read() as connection:
            # Half of an episode may be about something else: its vector is not that near.
            least = load_thresholds(connection, embedder.model_id).proposes * RELATED_FROM
        place = Place(self._database, _NAME, [embedder.model_id, least])
        for row, memory in self._after(place.row):
            if done.looked_at and (time.monotonic() >= deadline or stop()):
                break
            done.distilled += self._look(row, memory, least, dry_run)
            done.looked_at += 1
            if not dry_run:
                place.reach(row)
        else:
            done.done = True
        place.keep()
        return done

    def _look(self, row: int, memory: Memory, least: float, dry_run: bool) -> int:
        sentences = facts_of(memory.text)
        if not sentences:
            return 0
        made = 0
        vectors = self._neighbours.embedder.embed(sentences)
        known = [at for at, vector in enumerate(vectors) if vector.any()]
        found = self._neighbours.around([vectors[at] for at in known], least)
        for at, near in zip(known, found, strict=True):
            said = _Saying(row, memory, sentences[at], 1.0)
            sayings = [said, *_repetitions(said, near)]
            if _sessions(sayings) >= LEAST_SESSIONS:
                made += dry_run or self._distil(sayings)
        return made

    def _distil(self, sayings: Sequence[_Saying]) -> bool:
        """Makes one record of the sayings, or links them to that which is there."""
        embedder = self._neighbours.embedder
        with self._tiers.changing(1) as change:
            connection = change.connection
            rows = [saying.row for saying in sayings]
            there = load_memories(connection, [MemoryRow.row.in_(rows), *_EPISODES])
            standing = [saying for saying in sayings if saying.row in there]
            if _sessions(standing) < LEAST_SESSIONS:
                return False
            record = _record(standing, change)
            known = _known(connection, record, rows)
            if known is not None and known[0] in there:
                # The text is that of a whole episode, of the kind that facts have.
                record = replace(record, kind="distilled")
                known = _known(connection, record, rows)
            if known is not None:
                _link(change, known[0], known[1].id, standing)
            elif not _revised(connection, record, rows):
                [row] = insert_memories(connection, [record], change.revision)
                vectors = embedder.embed([record.text])
                store_vectors(connection, MEMORIES, embedder, [row], vectors, change.revision)
                _link(change, row, record.id, standing)
                detail = f"said in {_sessions(standing)} sessions"
                journal.write(connection, [row], "distilled", detail, change.now)
                return True
        return False

    def _after(self, row: int) -> Iterator[tuple[int, Memory]]:
        ordered = select(MemoryRow.row).where(*_EPISODES).order_by(MemoryRow.row).limit(_BATCH)
        while True:
            with self._database.read() as connection:
                rows = connection.execute(ordered.where(MemoryRow.row > row)).scalars().all()
                found = load_rows(connection, rows)
            if not rows:
                return
            self._neighbours.synced.catch_up()
            yield from found.items()
            row = rows[-1]


def _repetitions(said: _Saying, near: Sequence[Near]) -> Iterator[_Saying]:
    """Yields the episodes in which the same is said, with the sentence that says it."""
    mine = any(term.key in ("i", "we") for term in parse(said.sentence).terms)
    for one in near:
        episode = one.memory
        if one.row >= said.row or episode.tier != "episodic" or episode.superseded_by is not None:
            continue
        if episode.agent != said.memory.agent or (mine and episode.speaker != said.memory.speaker):
            continue
        for sentence in facts_of(one.memory.text):
            if agree(said.sentence, sentence).verdict == "same":
                yield _Saying(one.row, one.memory, sentence, one.cosine)
                break


def _sessions(sayings: Sequence[_Saying]) -> int:
    """Counts the sessions; what came without one counts by its source, else by its day."""
    found = set()
    for memory in (saying.memory for saying in sayings):
        day = (memory.happened or memory.created).date().isoformat()
        sitting = (memory.conversation, memory.session)
        found.add((None, memory.source or day) if sitting == (None, None) else sitting)
    return len(found)


def _record(sayings: Sequence[_Saying], change: Change) -> Memory:
    """Returns the record to make: the newest sentence, and what all sayings have in common."""
    newest = max(sayings, key=lambda saying: (saying.memory.created, saying.row))
    speakers = {saying.memory.speaker for saying in sayings}
    speaker = newest.memory.speaker if len(speakers) == 1 else None
    tags = set.intersection(*({*saying.memory.tags} for saying in sayings))
    return policies.weighed(
        Memory(
            id=new_id(),
            text=newest.sentence,
            tier="semantic",
            kind="fact",
            agent=newest.memory.agent,
            tags=tuple(sorted(tags)),
            source=newest.memory.source,
            speaker=speaker,
            context=speaker,
            novelty=min(saying.memory.novelty for saying in sayings),
            reinforced=_sessions(sayings) - 1,
            created=change.now,
            updated=change.now,
        )
    )


def _known(
    connection: Connection, record: Memory, episodes: Sequence[int]
) -> tuple[int, Memory] | None:
    """Returns the current memory that says the same and stands for these episodes, or anyhow."""
    stored = load_known(connection, [record]).get(identity_of(record))
    if stored is not None:
        return stored
    for row, memory in _distilled(connection, episodes).items():
        if memory.superseded_by is None and agree(memory.text, record.text).verdict == "same":
            return row, memory
    return None


def _revised(connection: Connection, record: Memory, episodes: Sequence[int]) -> bool:
    """Says whether such a record was made before and somebody has corrected it since."""
    return any(
        memory.superseded_by is not None and agree(memory.text, record.text).verdict == "same"
        for memory in _distilled(connection, episodes).values()
    )


def _distilled(connection: Connection, episodes: Sequence[int]) -> dict[int, Memory]:
    """Returns what was made of these episodes, old versions and what replaced them too."""
    links = select(MemoryLinkRow.from_row).where(
        MemoryLinkRow.kind == DISTILLED_FROM, MemoryLinkRow.to_row.in_(episodes)
    )
    found = load_memories(connection, [MemoryRow.row.in_(links)])
    replacing = {memory.superseded_by for memory in found.values()} - {None}
    while replacing:
        newer = load_memories(connection, [MemoryRow.id.in_(replacing)])
        replacing = {memory.superseded_by for memory in newer.values()} - {None}
        found.update(newer)
    return found


def _link(change: Change, row: int, id: str, sayings: Sequence[_Saying]) -> None:
    linked = [
        saying.row
        for saying in sayings
        if add_link(change, row, saying.row, DISTILLED_FROM, saying.cosine)
    ]
    journal.write(change.connection, linked, "distilled", f"into {id}", change.now)
