"""Export and import of everything remembered, as the JSON lines of `lines`.

An export is one state of the database, read in pages, and its file is there whole or not at all.
An import reads its file twice: once to check every line before anything is written, once to add
what is not there yet, in batches of one transaction each. The records themselves say how far it
got, so an import that was killed is started again and ends as if it had not been. Vectors are made
anew with the embedding model of the store that imports, so a file fits any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.orm import aliased

from ryzanstein.durable import replacing
from ryzanstein.errors import StorageError
from ryzanstein.memory.database import Database
from ryzanstein.memory.experience_rows import insert_experiences, load_experiences
from ryzanstein.memory.line_file import check_file, read_records
from ryzanstein.memory.lines import (
    HEADER,
    CalibrationLine,
    End,
    LinkLine,
    MemoryLine,
    Record,
    encoded,
)
from ryzanstein.memory.records import Experience, ImportReport, JournalEntry
from ryzanstein.memory.rows import batches, identity_of, insert_memories, load_memories
from ryzanstein.memory.schema import (
    CalibrationRow,
    ExperienceRow,
    JournalRow,
    MemoryLinkRow,
    MemoryRow,
)
from ryzanstein.memory.spaces import EXPERIENCES, MEMORIES
from ryzanstein.memory.vectors.sync import store_vectors

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder

__all__ = ["export_jsonl", "export_lines", "import_jsonl"]

_PAGE = 1_000

Progress = Callable[[int, int], None]


def export_jsonl(database: Database, path: Path, *, progress: Progress | None = None) -> int:
    """Writes every memory, old versions too, with its journal and links, and every experience.

    Args:
        database: Of the store.
        path: The file.
        progress: Called with records written and the number of records before the export.

    Returns:
        The number of records.

    Raises:
        StorageError: The file cannot be written; a file that was there stays as it was.
    """
    lines = 0
    total = _total(database) if progress is not None else 0
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"{path} is not a file.", hint="Choose another name.")
        with replacing(path) as file:
            for line in export_lines(database):
                file.write(line.encode() + b"\n")
                lines += 1
                if progress is not None and lines % _PAGE == 0:
                    progress(lines, total)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", hint="Choose another file."
        ) from error
    return lines - 2  # the first and the last are no records


def export_lines(database: Database) -> Iterator[str]:
    """Yields the lines of an export, without their ends, from one state of the database."""
    count = 0
    yield json.dumps(HEADER)
    with database.read() as connection:
        for record in _records_of(connection):
            yield encoded(record)
            count += 1
    yield encoded(End(count))


def import_jsonl(
    database: Database, embedder: Embedder, path: Path, *, progress: Progress | None = None
) -> ImportReport:
    """Adds the records of a file that are not there yet.

    Args:
        database: Of the store.
        embedder: Makes the vectors.
        path: The file.
        progress: Called with bytes read and bytes to read; the file is read twice.

    Raises:
        InvalidRequest: A line is wrong; it is named, and nothing was imported.
        StorageError: The file cannot be read, or the store not written; batches that were written
            stay, and the import goes on from there when it is called again.
    """
    size = path.stat().st_size if progress is not None and path.is_file() else 0
    check_file(path, progress and (lambda done: progress(done, 2 * size)))
    work = _Import(database, embedder)
    records = read_records(path, progress and (lambda done: progress(size + done, 2 * size)))
    while batch := list(islice(records, _PAGE)):
        work.add(batch)
    work.finish()
    return ImportReport(work.memories, work.experiences, work.skipped, work.links)


def _total(database: Database) -> int:
    with database.read() as connection:
        tables = MemoryRow, MemoryLinkRow, ExperienceRow, CalibrationRow
        return sum(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables
        )


def _records_of(connection: Connection) -> Iterator[Record]:
    for first, last in _pages(connection, MemoryRow.row):
        entries = _journal(connection, first, last)
        within = [MemoryRow.row.between(first, last)]
        for row, memory in load_memories(connection, within).items():
            yield MemoryLine(memory, tuple(entries.get(row, ())))
    yield from _links(connection)
    for first, last in _pages(connection, ExperienceRow.row):
        yield from load_experiences(connection, [ExperienceRow.row.between(first, last)]).values()
    for one in connection.execute(select(CalibrationRow.__table__).order_by("model_id")):
        yield CalibrationLine(**{**one._mapping, "detail": json.loads(one.detail)})


def _pages(connection: Connection, key: Any) -> Iterator[tuple[int, int]]:
    """Yields the first and last row of each page."""
    last = 0
    while True:
        page = select(key).where(key > last).order_by(key).limit(_PAGE)
        rows = connection.execute(page).scalars().all()
        if not rows:
            return
        last = rows[-1]
        yield rows[0], last


def _journal(connection: Connection, first: int, last: int) -> dict[int, list[JournalEntry]]:
    row = JournalRow
    query = select(row.memory_row, row.at, row.action, row.detail)
    found: dict[int, list[JournalEntry]] = {}
    chosen = query.where(row.memory_row.between(first, last)).order_by(row.memory_row, row.row)
    for one in connection.execute(chosen):
        entry = JournalEntry(one.at, one.action, one.detail)
        found.setdefault(one.memory_row, []).append(entry)
    return found


def _links(connection: Connection) -> Iterator[LinkLine]:
    link, start, end = MemoryLinkRow, aliased(MemoryRow), aliased(MemoryRow)
    for first, last in _pages(connection, link.from_row):
        query = (
            select(start.id, end.id, link.kind, link.score, link.created)
            .join(start, start.row == link.from_row)
            .join(end, end.row == link.to_row)
            .where(link.from_row.between(first, last))
            .order_by(link.from_row, link.to_row, link.kind)
        )
        for one in connection.execute(query):
            yield LinkLine(one[0], one[1], one.kind, one.score, one.created)


@dataclass
class _Import:
    """An import under way.

    Attributes:
        database: Of the store.
        embedder: Makes the vectors.
        known_as: Ids of the store for ids of the file that hold the same text.
        memories: Added so far; likewise experiences, links, and what was skipped.
    """

    database: Database
    embedder: Embedder
    known_as: dict[str, str] = field(default_factory=dict)
    memories: int = 0
    experiences: int = 0
    links: int = 0
    skipped: int = 0

    def add(self, batch: Sequence[Record]) -> None:
        """Adds what is new of a batch, each kind in one transaction."""
        for kind, group in groupby(batch, type):
            some: list[Any] = list(group)
            if kind is MemoryLine:
                added = self.memories
                self._add_memories(some)
                self.skipped += len(some) - (self.memories - added)
            elif kind is Experience:
                added = self.experiences
                self._add_experiences(some)
                self.skipped += len(some) - (self.experiences - added)
            elif kind is LinkLine:
                self._add_links(some)
            else:
                self._add_calibrations(some)

    def finish(self) -> None:
        """Points old versions at the memory that the store had already in place of theirs."""
        with self.database.write() as (connection, _):
            for given, own in self.known_as.items():
                replaced = update(MemoryRow).where(MemoryRow.superseded_by == given)
                connection.execute(replaced.values(superseded_by=own))

    def _add_memories(self, lines: Sequence[MemoryLine]) -> None:
        with self.database.read() as connection:
            new = self._unknown(connection, lines)
        current = [one.memory for one in new if one.memory.superseded_by is None]
        vectors = self.embedder.embed([memory.text for memory in current]) if current else None
        vector_of = {memory.id: place for place, memory in enumerate(current)}
        if not new:
            return
        with self.database.write() as (connection, revision):
            # Another process may have stored some of them while they were embedded.
            new = self._unknown(connection, new)
            memories = [one.memory for one in new]
            rows = insert_memories(connection, memories, revision)
            entries = [
                {"memory_row": row, "at": entry.at, "action": entry.action, "detail": entry.detail}
                for row, one in zip(rows, new, strict=True)
                for entry in one.journal
            ]
            if entries:
                connection.execute(insert(JournalRow), entries)
            if vectors is not None:
                kept = [(row, one.id) for row, one in zip(rows, memories, strict=True)]
                kept = [(row, id) for row, id in kept if id in vector_of]
                chosen = vectors[[vector_of[id] for _, id in kept]]
                store_vectors(
                    connection, MEMORIES, self.embedder, [row for row, _ in kept], chosen, revision
                )
        self.memories += len(new)

    def _unknown(self, connection: Connection, lines: Sequence[MemoryLine]) -> list[MemoryLine]:
        """The memories that the store has neither by id nor, current ones, by what they say."""
        ids = [one.memory.id for one in lines]
        taken = set(connection.execute(select(MemoryRow.id).where(MemoryRow.id.in_(ids))).scalars())
        current = [one.memory for one in lines if one.memory.superseded_by is None]
        digests = {memory.id: identity_of(memory) for memory in current}
        said = select(MemoryRow.identity, MemoryRow.id)
        found = connection.execute(said.where(MemoryRow.identity.in_(set(digests.values()))))
        known = {one.identity: one.id for one in found}
        new: list[MemoryLine] = []
        for one in lines:
            id, digest = one.memory.id, digests.get(one.memory.id)
            if id in taken:
                continue
            if digest in known:
                self.known_as[id] = known[digest]
                continue
            new.append(one)
            taken.add(id)
            if digest is not None:
                known[digest] = id
        return new

    def _add_experiences(self, experiences: Sequence[Experience]) -> None:
        row = ExperienceRow
        ids = [one.id for one in experiences]
        vectors = self.embedder.embed([one.task for one in experiences])
        with self.database.write() as (connection, revision):
            taken = set(connection.execute(select(row.id).where(row.id.in_(ids))).scalars())
            places: list[int] = []
            for at, one in enumerate(experiences):
                if one.id not in taken:
                    taken.add(one.id)
                    places.append(at)
            rows = insert_experiences(connection, [experiences[at] for at in places], revision)
            store_vectors(connection, EXPERIENCES, self.embedder, rows, vectors[places], revision)
        self.experiences += len(rows)

    def _add_links(self, links: Sequence[LinkLine]) -> None:
        named = [(self._own(one.from_id), self._own(one.to_id), one) for one in links]
        ids = sorted({id for start, end, _ in named for id in (start, end)})
        link = MemoryLinkRow
        with self.database.write() as (connection, _):
            rows: dict[str, int] = {}
            for part in batches(ids):
                found = select(MemoryRow.id, MemoryRow.row).where(MemoryRow.id.in_(part))
                rows |= {one.id: one.row for one in connection.execute(found)}
            new = {
                (rows[start], rows[end], one.kind): one
                for start, end, one in named
                if start in rows and end in rows and start != end
            }
            for part in batches(sorted({key[0] for key in new})):
                there = select(link.from_row, link.to_row, link.kind).where(link.from_row.in_(part))
                for one in connection.execute(there):
                    new.pop((one.from_row, one.to_row, one.kind), None)
            values = [
                {"from_row": start, "to_row": end, "kind": kind, "score": one.score}
                | {"created": one.created}
                for (start, end, kind), one in new.items()
            ]
            if values:
                connection.execute(insert(link), values)
        self.links += len(values)

    def _add_calibrations(self, calibrations: Sequence[CalibrationLine]) -> None:
        with self.database.write() as (connection, _):
            known = set(connection.execute(select(CalibrationRow.model_id)).scalars())
            for one in calibrations:
                if one.model_id not in known:
                    values = {**asdict(one), "detail": json.dumps(one.detail)}
                    connection.execute(insert(CalibrationRow).values(values))
                    known.add(one.model_id)

    def _own(self, id: str) -> str:
        return self.known_as.get(id, id)
