"""What a task names that is really there, with a first look: files, folders, databases, git.

A person at a desk would open the file someone talks about before answering; a small model guesses
at names and columns instead. So before the first step the names in the task are looked up through
the tools server, reading only, and what they are goes into the prompt:

    file         its text, or the beginning of it
    database     its tables, with two rows each
    folder       the files in it
    repository   its status and its latest commits
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ryzanstein.agents.clients.services import Services

__all__ = ["GIT", "Named", "Place", "find_names", "head", "look"]

DATABASES = frozenset({".db", ".sqlite", ".sqlite3", ".db3"})
MOST = 3
HEAD_LINES = 12
HEAD_CHARACTERS = 1500
SAMPLE_ROWS = 2
MOST_TABLES = 6
MOST_COLUMNS = 4
MOST_VALUES = 12
LONGEST_VALUE = 40
MOST_SHOWN = 40
LATEST_COMMITS = 3
_WORD = re.compile(r"[\w@~+./\\-]*[\w/]")
_PLACE = re.compile(r"\b(files?|folders?|director(?:y|ies))\b", re.I)
GIT = re.compile(r"\b(git|commit(?:s|ted)?|branch(?:es)?|repositor(?:y|ies)|repo)\b", re.I)
_TABLE = re.compile(r"^[\"'`\[]?(\w+)[\"'`\]]?\s*\((.*)\)", re.M)
_TEXT_COLUMN = re.compile(r"[\"'`\[]?(\w+)[\"'`\]]?\s+(?:TEXT|VARCHAR|CHAR)\b", re.I)


@dataclass(frozen=True, slots=True)
class Named:
    """Something a task names: its path, what it is, and what a first look shows."""

    path: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """The files of the allowed folder; `complete` says whether all of them are listed."""

    files: tuple[str, ...] = ()
    complete: bool = False

    @property
    def folders(self) -> tuple[str, ...]:
        """Every folder a listed file is in."""
        found = [str(parent) for file in self.files for parent in PurePosixPath(file).parents]
        return tuple(name for name in dict.fromkeys(found) if name != ".")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The place, and what in it the task names."""

    place: Place = Place()
    named: tuple[Named, ...] = ()


def find_names(task: str, place: Place) -> list[str]:
    """Paths that a task names: whole, by a file name that is there once, or as a folder's name."""
    by_name: dict[str, list[str]] = {}
    for path in (*place.files, *place.folders):
        by_name.setdefault(PurePosixPath(path).name.casefold(), []).append(path)
    whole = {path.casefold(): path for path in (*place.files, *place.folders)}
    found: list[str] = []
    for word in _WORD.findall(task):
        plain = word.removeprefix("./").rstrip("./").casefold()
        alike = by_name.get(plain, [])
        path = whole.get(plain) or (alike[0] if len(alike) == 1 else "")
        if path and path not in found:
            found.append(path)
    return found[:MOST]


async def look(task: str, services: Services) -> Surroundings:
    """Looks up what the task names."""
    outcome = await services.call_tool("list_files", {})
    data = outcome.data if outcome.ok and isinstance(outcome.data, dict) else {}
    files = tuple(str(entry["path"]) for entry in data.get("files", ()))
    place = Place(files, bool(data.get("complete", False)))
    found = [await _look_at(path, task, place, services) for path in find_names(task, place)]
    named = [one for one in found if one is not None]
    if not named and GIT.search(task):
        repository = await _repository(".", services)
        named += [repository] if repository else []
    if not named and files and _PLACE.search(task):
        named.append(Named(".", "folder", _joined(files)))
    return Surroundings(place, tuple(named))


async def _look_at(path: str, task: str, place: Place, services: Services) -> Named | None:
    if PurePosixPath(path).suffix.lower() in DATABASES:
        return await _database(path, services)
    if path in place.folders:
        repository = await _repository(path, services) if GIT.search(task) else None
        inside = [file for file in place.files if file.startswith(f"{path}/")]
        return repository or Named(path, "folder", _joined(inside))
    outcome = await services.call_tool("read_file", {"path": path})
    return Named(path, "file", head(outcome.text)) if outcome.ok else None


async def _repository(path: str, services: Services) -> Named | None:
    status = await services.call_tool("git_inspect", {"command": "status", "path": path})
    if not status.ok:
        return None
    command = f"log -n {LATEST_COMMITS}"
    latest = await services.call_tool("git_inspect", {"command": command, "path": path})
    return Named(
        path,
        "repository",
        f"Status:\n{head(status.text)}\nThe latest {LATEST_COMMITS} commits:\n{head(latest.text)}",
    )


async def _database(path: str, services: Services) -> Named | None:
    """Tables and columns, first rows, and the values of text columns that have few."""
    schema = await services.call_tool("query_sqlite", {"sql": "schema", "database": path})
    if not schema.ok:
        return None
    parts = [schema.text.strip()]
    tables = _TABLE.findall(schema.text)[:MOST_TABLES]
    for table, columns in tables:
        query = f'SELECT * FROM "{table}" LIMIT {SAMPLE_ROWS}'
        rows = await services.call_tool("query_sqlite", {"sql": query, "database": path})
        if rows.ok:
            parts.append(f"First rows of {table}:\n{rows.text.strip()}")
        parts += await _values(path, table, _TEXT_COLUMN.findall(columns), services)
    return Named(path, "database", "\n".join(parts))


async def _values(path: str, table: str, columns: Sequence[str], services: Services) -> list[str]:
    """The values of text columns with few: a query needs them spelled as they are."""
    found = []
    for column in columns[:MOST_COLUMNS]:
        query = f'SELECT DISTINCT "{column}" FROM "{table}" LIMIT {MOST_VALUES + 1}'
        outcome = await services.call_tool("query_sqlite", {"sql": query, "database": path})
        rows = outcome.data.get("rows", []) if isinstance(outcome.data, dict) else []
        values = [str(row[0]) for row in rows if row and isinstance(row[0], str)]
        if len(rows) <= MOST_VALUES and values and max(map(len, values)) <= LONGEST_VALUE:
            found.append(f"{table}.{column} is one of: {', '.join(map(repr, values))}")
    return found


def head(text: str) -> str:
    """The first lines of a text, with a mark that says how much there is in all."""
    lines = text.splitlines()
    if len(lines) <= 2 * HEAD_LINES and len(text) <= HEAD_CHARACTERS:
        return text.rstrip()
    shown = "\n".join(lines[:HEAD_LINES])[:HEAD_CHARACTERS]
    return f"{shown}\n[... only the beginning of {len(lines)} lines is shown ...]"


def _joined(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_SHOWN])
    left = len(names) - MOST_SHOWN
    return f"{shown}, [... {left} more ...]" if left > 0 else shown
