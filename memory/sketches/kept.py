"""The sketches of a store's experiences: they follow the table, and are saved now and then.

repeats      Bloom filter of identity(task, agent, strategy, outcome): is this surely new?
uses         count-min of "tool:NAME" and "strategy:KEY": how often was it used?
tasks:AGENT  HyperLogLog of task texts: how many different tasks has an agent done?

Like the vector index they remember the revision they have seen and read what came later, so each
process sees what the others wrote. A payload that is missing or broken, a deletion, and a filter
that is full make them count the table anew.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable

from sqlalchemy import Connection, delete, exists, func, insert, select

from ryzanstein.memory.schema import ExperienceRow, RemovalRow, SketchRow
from ryzanstein.memory.sketches.bloom import BloomFilter
from ryzanstein.memory.sketches.count_min import CountMin
from ryzanstein.memory.sketches.hyperloglog import HyperLogLog
from ryzanstein.memory.sketches.payload import BrokenSketch

__all__ = ["Sketches", "identity"]

_LEAST_CAPACITY = 4_096
# Reading so many rows again when a store is opened takes milliseconds.
_UNSAVED = 512
_TASKS = "tasks:"
_SPACE = "experience"
_BATCH = 10_000


def identity(task: str, agent: str, strategy_key: str | None, outcome: str) -> str:
    """What two experiences have in common when the later one teaches nothing new."""
    return json.dumps([task, agent, strategy_key, outcome])


class Sketches:
    """Counts of the experiences; `catch_up` comes before every question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = -1
        self._unsaved = 0
        self._loaded = False
        self._empty(_LEAST_CAPACITY)

    def catch_up(self, connection: Connection, revision: int, *, save: bool = False) -> None:
        """Takes in what was recorded up to a revision.

        Args:
            connection: A transaction in which all of it can be seen.
            revision: The last one that is complete there.
            save: Writes the sketches to the database where much is new; needs a writing one.
        """
        with self._lock:
            if not self._loaded:
                self._load(connection, revision)
            if revision <= self._seen:
                return
            if self._seen < 0 or self._deleted(connection):
                self._recount(connection)
            else:
                self._read(connection)
            if self._repeats.count > self._repeats.capacity:
                self._recount(connection)
            self._seen = revision
            if save and self._unsaved >= _UNSAVED:
                self._save(connection)

    @property
    def uncounted(self) -> bool:
        """Whether the next `catch_up` reads every row: better before a writer's turn than in it."""
        return self._seen < 0

    def drop(self) -> None:
        """Forgets all counts, since something was deleted."""
        with self._lock:
            self._seen = -1

    def surely_new(self, key: str) -> bool:
        """Whether no experience of this identity is there; False has to be asked of SQL."""
        with self._lock:
            return key not in self._repeats

    def uses(self, names: Iterable[str]) -> dict[str, int]:
        """About how often each "tool:NAME" or "strategy:KEY" was used, never too low."""
        with self._lock:
            return {name: self._uses[name] for name in names}

    def distinct_tasks(self) -> dict[str, int]:
        """About how many different tasks each agent has done; "" is all agents together.

        The standard error is that of HyperLogLog(), 3 %.
        """
        with self._lock:
            together = HyperLogLog()
            for one in self._tasks.values():
                together.merge(one)
            found = {agent: len(one) for agent, one in sorted(self._tasks.items())}
            return {"": len(together), **found}

    def _empty(self, capacity: int) -> None:
        self._repeats = BloomFilter(capacity)
        self._uses = CountMin()
        self._tasks: dict[str, HyperLogLog] = {}

    def _deleted(self, connection: Connection) -> bool:
        removed = exists().where(RemovalRow.space == _SPACE, RemovalRow.revision > self._seen)
        return bool(connection.execute(select(removed)).scalar_one())

    def _recount(self, connection: Connection) -> None:
        count = connection.execute(select(func.count()).select_from(ExperienceRow)).scalar_one()
        self._empty(max(_LEAST_CAPACITY, 2 * count))
        self._seen, self._unsaved = -1, 0
        self._read(connection)

    def _read(self, connection: Connection) -> None:
        query = select(
            ExperienceRow.task,
            ExperienceRow.agent,
            ExperienceRow.strategy_key,
            ExperienceRow.outcome,
            ExperienceRow.tools,
        ).where(ExperienceRow.revision > self._seen)
        streamed = connection.execute(query.execution_options(yield_per=_BATCH))
        for part in streamed.partitions():
            self._repeats.add(*(identity(*one[:4]) for one in part))
            self._uses.add(*(f"tool:{name}" for one in part for name in json.loads(one.tools)))
            self._uses.add(*(f"strategy:{one.strategy_key}" for one in part if one.strategy_key))
            by_agent: dict[str, list[str]] = {}
            for one in part:
                by_agent.setdefault(one.agent, []).append(one.task)
            for agent, tasks in by_agent.items():
                self._tasks.setdefault(agent, HyperLogLog()).add(*tasks)
            self._unsaved += len(part)

    def _load(self, connection: Connection, revision: int) -> None:
        self._loaded = True
        rows = {one.name: one for one in connection.execute(select(SketchRow.__table__))}
        revisions = {one.revision for one in rows.values()}
        if len(revisions) != 1 or max(revisions) > revision:
            return
        try:
            repeats = BloomFilter.from_bytes(rows["repeats"].payload)
            uses = CountMin.from_bytes(rows["uses"].payload)
            tasks = {
                name.removeprefix(_TASKS): HyperLogLog.from_bytes(one.payload)
                for name, one in rows.items()
                if name.startswith(_TASKS)
            }
        except (BrokenSketch, KeyError):
            return
        self._repeats, self._uses, self._tasks = repeats, uses, tasks
        self._seen = revisions.pop()

    def _save(self, connection: Connection) -> None:
        made: dict[str, BloomFilter | CountMin | HyperLogLog] = {
            "repeats": self._repeats,
            "uses": self._uses,
        }
        made |= {f"{_TASKS}{agent}": one for agent, one in self._tasks.items()}
        values = [
            {
                "name": name,
                "kind": one.kind,
                "payload": one.to_bytes(),
                "revision": self._seen,
            }
            for name, one in made.items()
        ]
        connection.execute(delete(SketchRow))
        connection.execute(insert(SketchRow), values)
        self._unsaved = 0
