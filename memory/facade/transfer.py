"""What comes in and goes out as files: conversations, documents, JSON Lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ryzanstein.memory.checks import checked_tags
from ryzanstein.memory.records import ConversationReport, DocumentReport, ImportReport
from ryzanstein.memory.sources.conversation import Reading, import_conversations
from ryzanstein.memory.sources.revised import import_document
from ryzanstein.memory.transfer import export_jsonl, export_lines, import_jsonl

if TYPE_CHECKING:
    from ryzanstein.memory.database import Database
    from ryzanstein.memory.embed import Embedder
    from ryzanstein.memory.facts import Facts

__all__ = ["Transfer"]


class Transfer:
    """The part of a store that imports and exports."""

    _database: Database
    _embedder: Embedder
    _facts: Facts

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
        return import_conversations(
            self._database,
            self._facts.remember,
            transcript,
            how,
            agent=agent,
            tags=checked_tags(tags),
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
            tags=checked_tags(tags),
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
