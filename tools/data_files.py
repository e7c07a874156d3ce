"""Finds the data files that a call means, opens them inside the roots, and names them for SQL."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import ToolContext
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.walk import Walker

__all__ = ["KINDS", "data_file", "data_files", "kind_of", "listed_files", "meant_files"]

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
_LARGEST = 256 << 20
_MOST_LISTED = 500
_WALK_SECONDS = 3.0


def kind_of(name: str) -> str:
    """Returns how a file of that name is read.

    Raises:
        ToolError: It is no data file.
    """
    kind = KINDS.get(PurePosixPath(name.lower()).suffix)
    if kind is None:
        endings = ", ".join(KINDS)
        raise ToolError(f"{name} is no data file known here.", hint=f"Known endings: {endings}.")
    return kind


@contextlib.contextmanager
def data_file(ctx: ToolContext, path: str) -> Iterator[dict[str, Any]]:
    """Yields what the worker needs to open a file, and makes sure that it is this very one.

    Raises:
        ToolError: It is not there, not allowed, no data file, or too large.
    """
    with Roots(ctx.roots).place(path) as place:
        descriptor = place.open_file()
        try:
            yield _described(place, descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def data_files(ctx: ToolContext, paths: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Yields the same of several files, each with the names that SQL may call it by."""
    taken: set[str] = set()
    with contextlib.ExitStack() as stack:
        found = []
        for path in paths:
            file = stack.enter_context(data_file(ctx, path))
            names = [_table_name(file["shown"], taken), file["shown"], path]
            names.append(PurePosixPath(file["shown"]).name)
            file["names"] = [name for name in dict.fromkeys(names) if name.lower() not in taken]
            taken.update(name.lower() for name in file["names"])
            found.append(file)
        yield found


def listed_files(ctx: ToolContext) -> list[str]:
    """Returns the data files in the first root; of plain texts only those that are tables."""
    found: list[str] = []
    with Roots(ctx.roots).place(".") as place:
        for entry in Walker(place, seconds=_WALK_SECONDS):
            suffix = PurePosixPath(entry.name.lower()).suffix
            if not entry.is_directory and suffix in KINDS and suffix != ".txt":
                found.append(entry.path)
            if len(found) >= _MOST_LISTED:
                break
    return found


def meant_files(ctx: ToolContext, sql: str) -> list[str]:
    """Returns the data files whose path, name or stem stands in a statement; or the only one."""
    words = {word.lower() for word in re.findall(r"[\w./-]+", sql)}
    words |= {quoted.lower() for quoted in re.findall(r"['\"]([^'\"]+)['\"]", sql)}
    listed = listed_files(ctx)
    found: dict[str, None] = {}
    for word in sorted(words):
        # The whole path says more than a name, and a name more than what stands before its dot.
        for names in (_paths, _file_names, _stems):
            matching = [path for path in listed if word in names(path.lower())]
            if matching:
                found |= dict.fromkeys(matching)
                break
    return list(found) or (listed if len(listed) == 1 else [])


def _paths(path: str) -> tuple[str, ...]:
    return path, f"./{path}"


def _file_names(path: str) -> tuple[str, ...]:
    return (PurePosixPath(path).name,)


def _stems(path: str) -> tuple[str, ...]:
    stem = PurePosixPath(path).stem
    return stem, _plain(stem)


def _table_name(shown: str, taken: set[str]) -> str:
    stem = PurePosixPath(shown).stem
    name = stem if stem.lower() not in taken else shown
    return name if stem.isidentifier() or name != stem else _plain(stem)


def _plain(stem: str) -> str:
    return re.sub(r"\W", "_", stem)


def _described(place: Place, descriptor: int) -> dict[str, Any]:
    found = os.fstat(descriptor)
    if found.st_size > _LARGEST:
        raise ToolError(
            f"{place.shown} is larger than {_LARGEST >> 20} MiB.", hint="Use a smaller file."
        )
    return {
        "path": str(place.path),
        "device": found.st_dev,
        "inode": found.st_ino,
        "kind": kind_of(place.shown),
        "shown": place.shown,
    }
