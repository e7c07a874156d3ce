"""What a server says its tools are: cleaned for use, and pinned by fingerprint.

The first definitions of a server are taken as they come, since the user named the server. After
that, a definition that is new or has changed waits until it is approved.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ryzanstein.durable import replacing
from ryzanstein.errors import StorageError

__all__ = ["Definition", "Pins", "clean", "own_name"]

_MOST_NAME = 64
_MOST_SCHEMA = 20_000
_MOST_DESCRIPTION = 600
_MOST_ARGUMENT = 200
# Patterns could be made to take for ever, and references to fetch something.
_DROPPED = {"pattern", "patternProperties", "$schema", "$id", "title", "format", "examples"}


@dataclass(frozen=True, slots=True)
class Definition:
    """A tool as its server describes it, uncleaned."""

    name: str
    description: str
    schema: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all of it."""
        whole = [self.name, self.description, self.schema]
        text = json.dumps(whole, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def text(self, most: int = _MOST_DESCRIPTION) -> str:
        """The description, cleaned and cut."""
        return clean(self.description, most)

    def usable_schema(self) -> dict[str, Any] | None:
        """The schema of the arguments without what could do harm; None where none is left."""
        import jsonschema

        if len(json.dumps(self.schema)) > _MOST_SCHEMA or self.schema.get("type") != "object":
            return None
        cleaned = _cleaned(self.schema)
        try:
            jsonschema.Draft202012Validator.check_schema(cleaned)
        except jsonschema.SchemaError:
            return None
        if any(not str(target).startswith("#") for target in _references(cleaned)):
            return None
        return {"properties": {}, **cleaned}


def _cleaned(schema: Any, names: bool = False) -> Any:
    """Copies a schema; `names` says that the keys are those of arguments, which all stay."""
    if isinstance(schema, list):
        return [_cleaned(part) for part in schema]
    if not isinstance(schema, dict):
        return clean(schema, _MOST_ARGUMENT) if isinstance(schema, str) else schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if names:
            kept[key] = _cleaned(value)
        elif key in {"properties", "$defs"}:
            kept[key] = _cleaned(value, names=True)
        elif key not in _DROPPED:
            kept[key] = _cleaned(value)
    return kept


def _references(schema: Any) -> Iterable[Any]:
    if isinstance(schema, list):
        for part in schema:
            yield from _references(part)
    elif isinstance(schema, dict):
        yield from (schema[key] for key in ("$ref", "$dynamicRef") if key in schema)
        for part in schema.values():
            yield from _references(part)


def clean(text: str, most: int) -> str:
    """Takes out what a reader cannot see, joins lines, and cuts."""
    seen = "".join(
        letter if letter.isprintable() and unicodedata.category(letter) != "Cf" else " "
        for letter in text[: 20 * most]
    )
    line = re.sub(r"\s+", " ", seen).strip()
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def own_name(server: str, tool: str, taken: Iterable[str] = ()) -> str:
    """Returns the name a tool of a server gets here: `SERVER.tool`, unique, at most 64 long."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", tool).strip("_") or "tool"
    name = f"{server}.{plain}"
    if len(name) > _MOST_NAME or name in set(taken):
        mark = hashlib.sha256(tool.encode("utf-8", "replace")).hexdigest()[:8]
        name = f"{name[: _MOST_NAME - 9]}_{mark}"
    return name


@dataclass
class Pins:
    """What was approved of one server, and what waits for approval.

    Attributes:
        approved: By the server's own names.
        waiting: New or changed, by name.
    """

    approved: dict[str, Definition] = field(default_factory=dict)
    waiting: dict[str, Definition] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Pins | None:
        """Reads the pins of a server; None where it was never met.

        Raises:
            StorageError: The file is damaged: taking what comes would approve of anything.
        """
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            parts = [{one["name"]: Definition(**one) for one in kept[key]} for key in cls._parts()]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StorageError(
                f"{path} cannot be read: {error}.",
                hint="Delete it to take the server's tools as they are now.",
            ) from error
        return cls(*parts)

    @staticmethod
    def _parts() -> tuple[str, str]:
        return ("approved", "waiting")

    def save(self, path: Path) -> None:
        """Writes the pins.

        Raises:
            StorageError: They cannot be written.
        """
        kept = {key: [asdict(one) for one in getattr(self, key).values()] for key in self._parts()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(json.dumps(kept, indent=1).encode("utf-8"))
        except OSError as error:
            raise StorageError(f"{path} cannot be written: {error}.") from error

    def compare(self, found: Iterable[Definition]) -> None:
        """Notes what a server says now: what is not as it was approved waits."""
        self.waiting = {
            one.name: one
            for one in found
            if one.name not in self.approved
            or self.approved[one.name].fingerprint != one.fingerprint
        }

    def approve(self, names: Iterable[str]) -> list[str]:
        """Approves of what waits; returns the names."""
        taken = [name for name in names if name in self.waiting]
        for name in taken:
            self.approved[name] = self.waiting.pop(name)
        return taken
