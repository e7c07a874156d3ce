"""Export and import of the memory, from and to files or the standard streams."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ryzanstein.cli._client import read_text
from ryzanstein.mcp_servers._shared import shared

__all__ = ["export_to", "import_from", "records"]


def export_to(target: Path | TextIO) -> int:
    """Writes everything as JSON lines; returns the number of records."""
    if isinstance(target, Path):
        return shared().store.export_jsonl(target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.jsonl"
        count = shared().store.export_jsonl(path)
        with path.open(encoding="utf-8") as lines:
            target.writelines(lines)
    return count


def records() -> list[dict[str, Any]]:
    """Returns everything that an export holds, its first line too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.jsonl"
        shared().store.export_jsonl(path)
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def import_from(file: str) -> dict[str, int]:
    """Adds the records of a file, or of stdin for `-`; returns what was added and skipped."""
    if file != "-":
        return asdict(shared().store.import_jsonl(Path(file)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stdin.jsonl"
        path.write_text(read_text("-"), encoding="utf-8", newline="")
        return asdict(shared().store.import_jsonl(path))
