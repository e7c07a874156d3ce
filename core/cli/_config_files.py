"""Merges entries into clients' configuration files, and takes them out again.

    read -> what it will be -> text, in which all else stays as it was written -> backup -> replace

JSON is edited as text, YAML by a round trip that keeps comments. A file that cannot be read as
what it should be, or whose entries of our names are somebody else's, is left alone.
"""

from __future__ import annotations

import copy
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ryzanstein.cli import _jsonc
from ryzanstein.durable import replacing
from ryzanstein.errors import ConfigError, ConfigSaveError

__all__ = [
    "Change",
    "Kind",
    "Plan",
    "Section",
    "entries_of",
    "planned",
    "read",
    "read_text",
    "written",
]

Kind = Literal["json", "jsonc", "yaml"]
Entries = Mapping[str, Mapping[str, Any]]
# What an entry says of how to reach a server: the way of before goes with what belongs to it.
_WAY = ("type", "command", "args", "url", "headers", "requestOptions")
# What stands behind the name of a variable, and lines that go on with the value of one above.
_SECRETS = re.compile(r"(?m)^(\s*(?:export\s+)?[A-Za-z_]\w*\s*=(?=.*[^=\s])|)(?!\s*(?:#|$)).*$")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a file that holds named entries.

    Attributes:
        key: Where in the file it is.
        ours: Tells our entries from those of others.
        by: The key that names an entry of a list; None for a mapping by name.
        entries: What is to be there.
        gone: Names of what is not, where it is ours; None means all that is ours.
        needed: An entry of somebody else under one of our names is a fault; else it stays.
    """

    key: str
    ours: Callable[[Mapping[str, Any]], bool]
    by: str | None = None
    entries: Entries = field(default_factory=dict)
    gone: Sequence[str] | None = ()
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file is to hold.

    Attributes:
        path: The file.
        kind: json, jsonc (comments and trailing commas are allowed), or yaml.
        sections: Its parts that concern us.
        header: What a new YAML file begins with; a file with nothing else is removed.
    """

    path: Path
    kind: Kind
    sections: Sequence[Section]
    header: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """What a file becomes.

    Attributes:
        path: The file.
        text: All of it; "" where there is none.
        before: What it was read as; None where there was none.
        secret: Only its user may read it, and values in it are not shown.
        kept: Names of entries that stay as they are since they are somebody else's.
        backup: Where the old one is kept, once the new one is written.
    """

    path: Path
    text: str
    before: str | None
    secret: bool = False
    kept: tuple[str, ...] = ()
    backup: Path | None = None

    @property
    def differs(self) -> bool:
        """Whether it is not so yet."""
        return self.text != (self.before or "")

    @property
    def shown(self) -> str:
        """The text as it may be printed."""
        return _SECRETS.sub(r"\1…", self.text) if self.secret else self.text


def planned(plan: Plan) -> Change:
    """Merges entries into a file and takes others out; everything else stays. Writes nothing.

    Raises:
        ConfigError: The file is not what it should be.
    """
    before = read_text(plan.path)
    text, kept = _merged(plan, before or "")
    if before is None and not _wanted(plan):
        text = ""
    return Change(plan.path, text, before, kept=kept)


def written(change: Change) -> Change:
    """Writes a file whole or not at all, or removes it, and keeps the old one beside it.

    A link stays one; what it leads to is written.

    Raises:
        ConfigSaveError: It cannot be written, or was changed meanwhile.
    """
    if not change.differs:
        return change
    path, target = change.path, change.path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if read_text(path) != change.before:
            raise ConfigSaveError(
                f"{path} was changed while it was read.", hint="Close the client and try again."
            )
        backup = None if change.before is None else _kept(target)
        if change.text:
            _replace(target, change.text, None if change.secret else backup)
        else:
            target.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigSaveError(
            f"{path} cannot be written: {error.strerror}.", hint="Check the rights of its folder."
        ) from error
    return replace(change, backup=backup)


def read(path: Path, kind: Kind) -> dict[str, Any]:
    """Reads a configuration; a file that is missing or empty is an empty one.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    return _parse(path, kind, read_text(path) or "")


def entries_of(document: Mapping[str, Any], section: Section, path: Path) -> dict[str, Any]:
    """Returns the entries of a section by name.

    Raises:
        ConfigError: It is none.
    """
    found = document.get(section.key)
    if found is None:
        return {}
    if section.by is None and isinstance(found, dict):
        return dict(found)
    if section.by is not None and isinstance(found, list):
        named = [one for one in found if isinstance(one, dict)]
        if len(named) == len(found):  # some name a block of somebody else's in place of one here
            return {_name(one, section): one for one in named if section.by in one}
    raise ConfigError(f"{path}: {section.key} is not as expected.", hint="It was not touched.")


def _merged(plan: Plan, before: str) -> tuple[str, tuple[str, ...]]:
    unix = before.replace("\r\n", "\n")
    document = _parse(plan.path, plan.kind, unix)
    wanted = copy.deepcopy(document)
    if plan.kind == "yaml" and _wanted(plan):
        for key, value in plan.header.items():
            wanted.setdefault(key, value)
    kept = [name for one in plan.sections for name in _merge(wanted, one, plan.path)]
    text = (_yaml_text if plan.kind == "yaml" else _json_text)(plan, unix, document, wanted)
    return (text.replace("\n", "\r\n") if "\r\n" in before else text), tuple(kept)


def _wanted(plan: Plan) -> bool:
    return any(section.entries for section in plan.sections)


def _merge(document: dict[str, Any], section: Section, path: Path) -> list[str]:
    """Changes a section; returns the names of entries that are somebody else's.

    Raises:
        ConfigError: An entry that must be ours is not.
    """
    found = entries_of(document, section, path)
    others = [name for name, entry in found.items() if not _is_ours(section, entry)]
    taken = [name for name in section.entries if name in others]
    if taken and section.needed:
        hint = "Rename or remove it there, then try again."
        raise ConfigError(f"{path}: {taken[0]!r} starts something else.", hint=hint)
    gone = list(found) if section.gone is None else section.gone
    staying = {*others, *section.entries}
    removed = [name for name in gone if name in found and name not in staying]
    for name in removed:
        del found[name]
    put = {
        name: _updated(found.get(name), entry)
        for name, entry in section.entries.items()
        if name not in taken
    }
    if section.by is not None:
        _fill(document, section, put, removed)
    elif put or removed:
        document[section.key] = {**found, **put}
    return taken


def _is_ours(section: Section, entry: Any) -> bool:
    return isinstance(entry, dict) and section.ours(entry)


def _updated(old: Any, new: Mapping[str, Any]) -> dict[str, Any]:
    """What the user added to an entry stays, also to its environment."""
    if not isinstance(old, dict):
        return dict(new)
    merged = copy.deepcopy(old)
    for key in _WAY:
        if key not in new:
            merged.pop(key, None)
    for key, value in new.items():
        known = merged.get(key)
        merged[key] = {**known, **value} if key == "env" and isinstance(known, dict) else value
    return merged


def _fill(document: dict[str, Any], section: Section, put: Entries, removed: Sequence[str]) -> None:
    """Puts entries into a list, in the places that they have, and takes others out."""
    items = document.get(section.key) or []
    for at in reversed(range(len(items))):
        name = _name(items[at], section)
        if name in removed:
            del items[at]
        elif name in put and items[at] != put[name]:
            items[at] = put[name]
    present = {_name(one, section) for one in items}
    items.extend({section.by: name, **one} for name, one in put.items() if name not in present)
    if items:
        document[section.key] = items
    elif removed:
        del document[section.key]


def _name(item: Mapping[str, Any], section: Section) -> str:
    """What an entry of a list is called; a file may hold anything for a name."""
    return str(item.get(str(section.by), ""))


def _json_text(plan: Plan, text: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    if new == old:
        return text
    text = text if text.strip() else "{}\n"
    for section in plan.sections:
        key = section.key
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if after is None:
            text = _jsonc.take_out(text, [], key)
            continue
        if not isinstance(before, dict):
            text = _jsonc.put(text, [], key, after)
            continue
        for name in before.keys() - after.keys():
            text = _jsonc.take_out(text, [key], name)
        for name in [name for name in after if before.get(name) != after[name]]:
            text = _jsonc.put(text, [key], name, after[name])
    return text


def _yaml_text(plan: Plan, text: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    if new == old:
        return text
    left = [key for key, value in new.items() if value and key not in plan.header]
    if not left and not _wanted(plan):
        return ""
    out = io.StringIO()
    _yaml().dump(new, out)
    return out.getvalue()


def _parse(path: Path, kind: Kind, text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        document = _parser(kind)(text)
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        hint = "Correct it, or take comments out." if kind == "json" else "Correct it."
        raise ConfigError(
            f"{path} cannot be understood: {why}", hint=f"{hint} It was not touched."
        ) from error
    if document is None and kind == "yaml":
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping.", hint="It was not touched.")
    return document


def _parser(kind: Kind) -> Callable[[str], Any]:
    if kind == "yaml":
        return _parse_yaml
    return _jsonc.parse if kind == "jsonc" else json.loads


def _parse_yaml(text: str) -> Any:
    from ruamel.yaml.error import YAMLError

    try:
        return _yaml().load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from error


def _yaml() -> Any:
    """YAML 1.2, as clients in JavaScript read it, with comments kept."""
    from ruamel.yaml import YAML

    found = YAML()
    found.preserve_quotes = True
    found.width = 100
    found.indent(mapping=2, sequence=4, offset=2)
    return found


def read_text(path: Path) -> str | None:
    """Returns what a file holds, None where there is none.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", hint="It was not touched."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}", hint="It was not touched.") from error


def _kept(path: Path) -> Path:
    """Copies a file beside itself, for its user only until it has the rights of the original."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}"
    backup = path.with_name(f"{path.name}.{stamp}.bak")
    count = 1
    while backup.exists():
        count += 1
        backup = path.with_name(f"{path.name}.{stamp}-{count}.bak")
    with open(os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(path.read_bytes())
    shutil.copymode(path, backup)
    return backup


def _replace(path: Path, text: str, like: Path | None) -> None:
    with replacing(path) as file:
        file.write(text.encode("utf-8"))
        if like is not None:
            shutil.copymode(like, file.name)
