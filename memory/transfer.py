"""Export and import as JSON Lines: one record a line, readable, without vectors.

    {"type": "ryzanstein-memory", "version": 1}
    {"type": "memory", "id": "mem_…", "text": "…", "kind": "fact", …}
    {"type": "experience", "id": "exp_…", "task": "…", "agent": "APEX", …}

Vectors are made anew with the embedding model of the store that imports, so a file fits any.
An import checks the whole file first, skips what is there already, and can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.checks import (
    checked_name,
    checked_share,
    checked_tags,
    checked_text,
    cleaned,
)
from ryzanstein.memory.database import Database
from ryzanstein.memory.experience_rows import insert_experiences, load_experiences
from ryzanstein.memory.rows import identity_of, insert_memories, load_memories
from ryzanstein.memory.records import OUTCOMES, Experience, ImportReport, Memory
from ryzanstein.memory.schema import ExperienceRow, MemoryRow
from ryzanstein.memory.spaces import EXPERIENCES, MEMORIES
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder

__all__ = ["export_jsonl", "import_jsonl"]

_HEADER = {"type": "ryzanstein-memory", "version": 1}
_BATCH = 500
_MOMENTS = ("last_used", "happened", "valid_from", "valid_until", "archived")


def export_jsonl(database: Database, path: Path) -> int:
    """Writes every memory, old versions too, and every experience; returns their number.

    Raises:
        StorageError: The file cannot be written; a file that was there stays as it was.
    """
    partial = path.with_name(f"{path.name}.partial")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(_HEADER) + "\n")
            for line in _lines(database):
                file.write(json.dumps(line, ensure_ascii=False, default=_encode) + "\n")
                count += 1
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):  # on a read-only disk this fails too
            partial.unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", hint="Choose another file."
        ) from error
    return count


def import_jsonl(database: Database, embedder: Embedder, path: Path) -> ImportReport:
    """Adds the records of a file that are not there yet.

    Raises:
        InvalidRequest: A line is wrong; it is named, and nothing was imported.
        StorageError: The file cannot be read.
    """
    for _ in _records(path):
        pass  # the whole file is read once before anything is written
    memories = experiences = skipped = 0
    records = _records(path)
    while batch := list(islice(records, _BATCH)):
        facts = [one for one in batch if isinstance(one, Memory)]
        runs = [one for one in batch if isinstance(one, Experience)]
        added = _add_memories(database, embedder, facts), _add_experiences(database, embedder, runs)
        memories += added[0]
        experiences += added[1]
        skipped += len(batch) - sum(added)
    return ImportReport(memories, experiences, skipped)


def _lines(database: Database) -> Iterator[dict[str, Any]]:
    with database.read() as connection:
        for memory in _pages(connection, MemoryRow, load_memories):
            yield {"type": "memory", **asdict(memory)}
        for experience in _pages(connection, ExperienceRow, load_experiences):
            yield {"type": "experience", **asdict(experience)}


def _pages(connection: Connection, table: Any, load: Any) -> Iterator[Any]:
    rows = connection.execute(select(table.row).order_by(table.row)).scalars().all()
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        yield from load(connection, [table.row.in_(part)]).values()


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _records(path: Path) -> Iterator[Memory | Experience]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    record = _record(line, f"{path}:{number}", first=number == 1)
                    if record is not None:
                        yield record
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text.", hint="Give an exported file.") from error


def _record(line: str, where: str, *, first: bool) -> Memory | Experience | None:
    try:
        fields = json.loads(line)
        kind = fields.pop("type")
        if first:
            if kind != _HEADER["type"] or fields.get("version") != _HEADER["version"]:
                raise ValueError("not an export of this version")
            return None
        fields["created"] = _moment(fields["created"])
        if kind == "memory":
            return _memory(fields)
        if kind == "experience":
            return _experience(fields)
        raise ValueError(f"unknown type {kind!r}")
    except (KeyError, TypeError, ValueError, AttributeError, InvalidRequest) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidRequest(
            f"{where}: {reason}.".replace("..", "."), hint="Correct the line and import again."
        ) from error


def _memory(fields: dict[str, Any]) -> Memory:
    memory = Memory(
        **{
            "tier": "long_term",
            **fields,
            "updated": _moment(fields["updated"]),
            **{name: _moment(fields[name]) for name in _MOMENTS if fields.get(name) is not None},
            "tags": checked_tags(fields["tags"]),
        }
    )
    for name in (memory.id, memory.kind, memory.agent or "-", memory.superseded_by or "-"):
        checked_name(name, "name")
    checked_text(memory.text, "text")
    checked_share(memory.importance, "The importance")
    if memory.reinforced < 0:
        raise ValueError("reinforced is negative")
    return memory


def _experience(fields: dict[str, Any]) -> Experience:
    texts = {name: cleaned(fields[name]) for name in ("task", "strategy", "lesson", "answer")}
    experience = Experience(**{**fields, **texts, "tools": tuple(fields["tools"])})
    for name in (experience.id, experience.agent, experience.run_id or "-", *experience.tools):
        checked_name(name, "name")
    checked_text(experience.task, "task")
    checked_share(experience.fitness, "The fitness")
    if experience.rating is not None:
        checked_share(experience.rating, "The rating")
    if experience.outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {experience.outcome!r}")
    if experience.tokens < 0 or not 0 <= experience.seconds < float("inf"):
        raise ValueError("tokens and seconds cannot be negative or without end")
    return experience


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return moment


def _add_memories(database: Database, embedder: Embedder, memories: Sequence[Memory]) -> int:
    if not memories:
        return 0
    vectors = embedder.embed([memory.text for memory in memories])
    digests = [identity_of(one) if one.superseded_by is None else None for one in memories]
    with database.write() as (connection, revision):
        ids = select(MemoryRow.id).where(MemoryRow.id.in_([one.id for one in memories]))
        taken = set(connection.execute(ids).scalars())
        same = select(MemoryRow.identity).where(MemoryRow.identity.in_(digests))
        known = set(connection.execute(same).scalars())
        places: list[int] = []
        for at, memory in enumerate(memories):
            if memory.id not in taken and digests[at] not in known:
                places.append(at)
                taken.add(memory.id)
                known.update({digests[at]} - {None})
        rows = insert_memories(connection, [memories[at] for at in places], revision)
        current = [at for at, place in enumerate(places) if digests[place] is not None]
        chosen = vectors[[places[at] for at in current]]
        store_vectors(
            connection, MEMORIES, embedder, [rows[at] for at in current], chosen, revision
        )
    return len(rows)


def _add_experiences(
    database: Database, embedder: Embedder, experiences: Sequence[Experience]
) -> int:
    if not experiences:
        return 0
    vectors = embedder.embed([experience.task for experience in experiences])
    with database.write() as (connection, revision):
        ids = [one.id for one in experiences]
        query = select(ExperienceRow.id).where(ExperienceRow.id.in_(ids))
        taken = set(connection.execute(query).scalars())
        places: list[int] = []
        for at, experience in enumerate(experiences):
            if experience.id not in taken:
                taken.add(experience.id)
                places.append(at)
        rows = insert_experiences(connection, [experiences[at] for at in places], revision)
        store_vectors(connection, EXPERIENCES, embedder, rows, vectors[places], revision)
    return len(rows)
