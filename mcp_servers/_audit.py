"""The record of tool calls: one JSON line each, in the data directory, bounded in size.

A line is written whether the call succeeded, failed or was refused, and names the subject where
that is not the owner. It is appended with one write, so that several processes may keep the same
file; a full file becomes `tool_calls.1.jsonl`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ryzanstein.subject import current

if TYPE_CHECKING:
    from ryzanstein.tools import CallRecord

__all__ = ["Audit"]

log = logging.getLogger("ryzanstein.mcp_servers")
_LARGEST = 8 << 20
_WAIT_SECONDS = 2.0
_NAME = "tool_calls.jsonl"
_OLD_NAME = "tool_calls.1.jsonl"


class Audit:
    """The file of tool calls of one data directory.

    Args:
        folder: The data directory; made with the first record.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._old = folder / _OLD_NAME

    def keep(self, record: CallRecord) -> None:
        """Appends a record; a full disk is logged, and no reason to fail the call."""
        values = asdict(record)
        if current().key:
            values |= {"subject": current().key, "subject_name": current().name}
        line = json.dumps(values, ensure_ascii=True, default=str) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._rotate()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            descriptor = os.open(self._path, flags, 0o600)
            with contextlib.closing(os.fdopen(descriptor, "wb", buffering=0)) as file:
                file.write(line.encode("ascii"))
        except OSError as error:
            log.warning("the record of a tool call could not be kept: %s", error)

    def _rotate(self) -> None:
        """Puts a file that is full aside: one process does, however many see that it is."""
        import filelock

        if not self._is_full():
            return
        with filelock.FileLock(self._path.with_suffix(".lock"), timeout=_WAIT_SECONDS):
            if self._is_full():
                os.replace(self._path, self._old)

    def _is_full(self) -> bool:
        return self._path.exists() and self._path.stat().st_size > _LARGEST

    def read(
        self, *, run_id: str | None = None, tool: str | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Returns the latest records, newest first; lines that a crash cut are left out.

        Args:
            run_id: Only those of this run.
            tool: Only those of this tool.
            limit: At most so many.
        """
        found: list[dict[str, Any]] = []
        for path in (self._path, self._old):
            for line in reversed(_lines(path)):
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if _fits(record, run_id, tool):
                        found.append(record)
                if len(found) == limit:
                    return found
        return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _fits(record: Mapping[str, Any], run_id: str | None, tool: str | None) -> bool:
    return (run_id is None or record.get("run_id") == run_id) and (
        tool is None or record.get("tool") == tool
    )
