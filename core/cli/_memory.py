"""What `ryzanstein memory` does with the store itself: files in and out, lists, merges."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ryzanstein.cli._client import read_text
from ryzanstein.cli._progress import Bytes, Steps
from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers._memory_replies import Learnt, Stored, wire
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.memory.sources.moments import asked_moment

__all__ = [
    "broken_through",
    "calibrated",
    "export_to",
    "forgotten_archived",
    "import_files",
    "listed",
    "marked",
    "proposed",
    "records",
    "unmerged",
]

_CONVERSATIONS = {".json", ".ndjson", ".srt", ".vtt"}
_RECORDS = '"ryzanstein-memory"'


def listed(
    *,
    since: str | None,
    until: str | None,
    at: str | None,
    limit: int,
    cursor: str | None,
    **where: Any,
) -> dict[str, Any]:
    """Returns a page of what is stored and the cursor of the next one."""
    page = shared().store.list(
        limit=limit,
        cursor=cursor,
        since=asked_moment(since, "--since"),
        until=asked_moment(until, "--until"),
        at=asked_moment(at, "--at"),
        **where,
    )
    memories = [wire(Stored, memory).model_dump() for memory in page.memories]
    return {"memories": memories, "cursor": page.cursor}


def marked(id: str, importance: str) -> dict[str, Any]:
    """Marks a memory's importance, a number or none, and returns the memory."""
    try:
        value = None if importance.lower() == "none" else float(importance)
    except ValueError as error:
        raise InvalidRequest(
            f"{importance!r} is no importance.", hint="Give a number from 0 to 1, or none."
        ) from error
    return wire(Stored, shared().store.mark(id, value)).model_dump()


def forgotten_archived(before: str | None) -> int:
    """Deletes what was archived, before a time where one is given; returns how many."""
    return shared().store.forget_archived(before=asked_moment(before, "--before"))


def broken_through(*, tier: int | None, limit: int) -> list[dict[str, Any]]:
    """Returns experiences flagged as breakthroughs, the newest first."""
    found = shared().store.breakthroughs(tier=tier, limit=limit)
    return [wire(Learnt, one).model_dump() for one in found]


def proposed(limit: int) -> list[dict[str, Any]]:
    """Returns pairs of memories that are near each other and were not merged."""
    return [
        {
            "memory": wire(Stored, one.memory).model_dump(),
            "other": wire(Stored, one.other).model_dump(),
            "similarity": one.similarity,
            "verdict": one.verdict,
            "reasons": list(one.reasons),
        }
        for one in shared().store.proposals(limit=limit)
    ]


def unmerged(id: str) -> list[dict[str, Any]]:
    """Undoes a merge and returns the memories that are current again."""
    return [wire(Stored, memory).model_dump() for memory in shared().store.unmerge(id)]


def calibrated(file: Path) -> dict[str, Any]:
    """Measures and keeps thresholds of consolidation from a file of labelled pairs."""
    return asdict(shared().store.calibrate(file))


def export_to(target: Path | TextIO) -> int:
    """Writes everything as JSON lines; returns the number of records.

    To a stream the lines go one by one; a file is there whole or not at all.
    """
    if isinstance(target, Path):
        with Steps("Writing records") as bar:
            return shared().store.export_jsonl(target, progress=bar.show)
    count = 0
    for line in shared().store.export_lines():
        target.write(f"{line}\n")
        count += 1
    return count


def records() -> list[dict[str, Any]]:
    """Returns everything that an export holds, its first and last lines too."""
    return [json.loads(line) for line in shared().store.export_lines()]


def import_files(
    files: Sequence[str], *, kind: str, agent: str | None, tags: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Adds what files hold; yields a report a file, with a `summary` for people.

    Args:
        files: Paths; - is stdin, which holds exported records.
        kind: records, conversation, document, or auto.
        agent: Whose conversations and documents they are; None means everybody's.
        tags: Of every turn and passage.
    """
    for file in files:
        found = _kind(file) if kind == "auto" else kind
        if found != "records" and file == "-":
            raise InvalidRequest("stdin holds records only.", hint="Give the file's name.")
        if found == "records":
            report = _import_records(file)
        else:
            report = _IMPORTS[found](Path(file), agent, tags)
        yield {"file": file, "kind": found, **report}


def _kind(file: str) -> str:
    path = Path(file)
    if path.suffix.lower() in _CONVERSATIONS:
        return "conversation"
    if file == "-":
        return "records"
    return _lines(path) if path.suffix.lower() == ".jsonl" else "document"


def _lines(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            return "records" if _RECORDS in lines.readline() else "conversation"
    except OSError:  # whoever reads all of it says what is wrong
        return "records"


def _import_records(file: str) -> dict[str, Any]:
    if file == "-":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stdin.jsonl"
            path.write_text(read_text("-"), encoding="utf-8", newline="")
            try:
                report = shared().store.import_jsonl(path)
            except InvalidRequest as error:
                said = error.message.replace(str(path), "stdin")
                raise InvalidRequest(said, hint=error.hint) from error
    else:
        with Bytes(Path(file).name, "Reading") as bar:
            report = shared().store.import_jsonl(Path(file), progress=bar.show)
    text = "{memories} memories and {experiences} experiences are added, {skipped} were there."
    values = asdict(report)
    return {**values, "summary": text.format(**values)}


def _import_conversation(path: Path, agent: str | None, tags: Sequence[str]) -> dict[str, Any]:
    with Steps(f"Reading {path.name}") as bar:
        report = shared().store.import_conversation(path, agent=agent, tags=tags, progress=bar.show)
    text = f"{path}: {report.added} turns are added, {report.known} were there."
    return {**asdict(report), "summary": text}


def _import_document(path: Path, agent: str | None, tags: Sequence[str]) -> dict[str, Any]:
    with Steps(f"Reading {path.name}") as bar:
        report = shared().store.import_document(path, agent=agent, tags=tags, progress=bar.show)
    text = (
        f"{path}: {report.added} passages are added, {report.kept} were there, "
        f"{report.replaced + report.ended} are out of date now."
    )
    return {**asdict(report), "summary": text}


_IMPORTS = {"conversation": _import_conversation, "document": _import_document}
