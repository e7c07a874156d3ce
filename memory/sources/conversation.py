"""Imports conversations: one episodic record a turn, with who, when, where and in what order.

    json    LoCoMo's samples, ChatGPT's and Claude's exports, lists of messages
    jsonl   one message or one conversation a line
    text    plain text and Markdown transcripts
    vtt     WebVTT and SubRip

What is stored is known by speaker, time and words, so a transcript imported again adds only the
turns that are new, and an import that was killed goes on where its last batch was committed.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import checked_tags
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import ConversationReport, Draft, Memory
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.sources.chats import is_conversation, read_chats, read_message
from ryzanstein.memory.sources.reading import read_text
from ryzanstein.memory.sources.subtitles import is_subtitles, read_subtitles
from ryzanstein.memory.sources.transcripts import read_transcript
from ryzanstein.memory.sources.turns import Conversation, Turn, conversation_id, drafts

__all__ = ["FORMATS", "Reading", "import_conversations", "read_conversations"]

FORMATS = ("json", "jsonl", "text", "vtt")
_MOST = 256_000_000
_BATCH = 512
_ENDINGS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".vtt": "vtt", ".srt": "vtt"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a transcript is to be read.

    Attributes:
        format: One of FORMATS; None means what it looks like.
        id: The conversation's; None means the transcript's own or one of its first turn.
        zone: Of times that name none.
        day: Of turns before the first date; a recording's clock counts from its midnight.
        encoding: None means UTF-8 or what a byte order mark says.
    """

    format: str | None = None
    id: str | None = None
    zone: tzinfo = UTC
    day: date | None = None
    encoding: str | None = None


def import_conversations(
    database: Database,
    remember: Callable[[Sequence[Draft]], Sequence[Memory]],
    transcript: Path | object,
    how: Reading | None = None,
    *,
    agent: str | None = None,
    tags: Sequence[str] = (),
    progress: Progress | None = None,
) -> ConversationReport:
    """Adds the turns of a transcript that are not there yet, in batches of one transaction each.

    Args:
        database: Of the store.
        remember: Stores a batch, durable on return.
        transcript: A file, or what such a JSON file holds.
        how: How to read it.
        agent: Whose records they are; None means everybody's.
        tags: Of every record.
        progress: Called with turns done and turns in all.

    Raises:
        InvalidRequest: It cannot be read as a conversation; nothing was stored.
        StorageError: It cannot be read, or a batch not be written; earlier batches stay.
    """
    checked_tags(tags)
    source = str(transcript.absolute()) if isinstance(transcript, Path) else None
    conversations = list(read_conversations(transcript, how))
    total = sum(len(one.turns) for one in conversations)
    added = known = done = 0
    for conversation in conversations:
        stored = _stored(database, conversation.id, agent)
        every = drafts(conversation, source=source, agent=agent, tags=tags)
        placed = _placed(every, stored)
        while batch := list(islice(placed, _BATCH)):
            new = [draft for _, draft, there in batch if not there]
            if new:
                remember(new)
            added += len(new)
            known += len(batch) - len(new)
            if progress is not None:
                progress(done + batch[-1][0] + 1, total)
        done += len(conversation.turns)
    left_out = sum(one.left_out for one in conversations)
    ids = tuple(dict.fromkeys(one.id for one in conversations))
    return ConversationReport(ids, total, added, known, left_out)


def read_conversations(
    transcript: Path | object, how: Reading | None = None
) -> Iterator[Conversation]:
    """Yields the conversations of a file, or of what a JSON file holds.

    Raises:
        InvalidRequest: It cannot be read as a conversation; the line or message is named.
        StorageError: The file cannot be read.
    """
    how = how or Reading()
    if how.format not in (None, *FORMATS):
        raise InvalidRequest(
            f"{how.format!r} is no format of conversations.", hint=f"Use {', '.join(FORMATS)}."
        )
    name = transcript.stem if isinstance(transcript, Path) else "conversation"
    where = str(transcript) if isinstance(transcript, Path) else "The conversation"
    try:
        found = list(_read(transcript, name, how))
    except ValueError as error:
        raise InvalidRequest(
            f"{where}: {error}.", hint="Correct it, or say which format it has."
        ) from error
    if how.id is not None and len(found) > 1:
        raise InvalidRequest(
            f"{where} holds {len(found)} conversations, which cannot have one id.",
            hint="Leave the id out.",
        )
    if not any(one.turns for one in found):
        raise InvalidRequest(f"{where} holds no words that anybody said.", hint="Give another.")
    yield from found


def _read(transcript: Path | object, name: str, how: Reading) -> Iterator[Conversation]:
    if not isinstance(transcript, Path):
        yield from _named(read_chats(transcript, name=name, zone=how.zone), how)
        return
    text = read_text(transcript, _MOST, how.encoding)
    form = how.format or _ENDINGS.get(transcript.suffix.lower()) or _guess(text)
    if form == "json":
        yield from _named(read_chats(_parsed(text), name=name, zone=how.zone), how)
    elif form == "jsonl":
        yield from _named(_json_lines(text, name, how.zone), how)
    else:
        turns = _spoken(text, form, how)
        yield Conversation(conversation_id(how.id, name, turns), turns)


def _spoken(text: str, form: str, how: Reading) -> list[Turn]:
    if form == "text":
        return read_transcript(text, zone=how.zone, day=how.day)
    begins = None
    if how.day is not None:
        begins = datetime(how.day.year, how.day.month, how.day.day, tzinfo=how.zone)
    return read_subtitles(text, begins=begins and begins.astimezone(UTC))


def _guess(text: str) -> str:
    start = text.lstrip("\ufeff \t\n")
    if start[:1] in ("{", "["):
        try:
            json.loads(start.split("\n", 1)[0])
        except ValueError:
            # A time in brackets opens a transcript, not a list.
            return "json" if start[0] == "{" or start[1:].lstrip()[:1] in ("{", "[") else "text"
        return "jsonl" if "\n{" in start else "json"
    return "vtt" if is_subtitles(text) else "text"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("line 1: it is nested too deep") from error


def _json_lines(text: str, name: str, zone: tzinfo) -> Iterator[Conversation]:
    """Conversations of lines that are one each; lines that are messages are one together."""
    turns: list[Turn] = []
    left_out = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            if is_conversation(value):
                yield from read_chats(value, name=f"{name}-{number}", zone=zone)
                continue
            turn = read_message(value, f"line {number}", zone)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error
            raise ValueError(f"line {number}: {reason}") from error
        left_out += turn is None
        turns += [] if turn is None else [turn]
    if turns or left_out:
        yield Conversation(conversation_id(None, name, turns), turns, left_out)


def _named(found: Iterator[Conversation], how: Reading) -> Iterator[Conversation]:
    for one in found:
        if how.id is None:
            yield one
        else:
            yield Conversation(conversation_id(how.id, "", one.turns), one.turns, one.left_out)


def _stored(database: Database, conversation: str, agent: str | None) -> dict[str, deque[int]]:
    """Numbers of the turns that are stored, corrected and merged ones too, by key."""
    row = MemoryRow
    query = select(row.speaker, row.happened, row.text, row.turn)
    chosen = query.where(row.conversation == conversation, row.agent == agent).order_by(row.turn)
    found: dict[str, deque[int]] = defaultdict(deque)
    with database.read() as connection:
        for one in connection.execute(chosen.execution_options(yield_per=4096)):
            found[_key(one.speaker, one.happened, one.text)].append(one.turn or 0)
    return found


def _placed(
    every: Iterable[Draft], stored: dict[str, deque[int]]
) -> Iterator[tuple[int, Draft, bool]]:
    """Yields each record with its turn and whether it is stored; new ones are numbered on."""
    shift = 0  # a transcript may have lost its beginning since
    for draft in every:
        number = draft.turn or 0
        there = stored.get(_key(draft.speaker, draft.happened, draft.text))
        if there:
            shift = there.popleft() - number
            yield number, draft, True
        else:
            yield number, replace(draft, turn=number + shift), False


def _key(speaker: str | None, happened: datetime | None, text: str) -> str:
    when = "" if happened is None else happened.isoformat()
    return hashlib.sha256("\x00".join((speaker or "", when, text)).encode()).hexdigest()
