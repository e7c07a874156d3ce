"""YAML read into values that remember their file and line, so that any later fault can name them.

PyYAML's safe loader composes the text to nodes (the C one where the library has it), and the nodes
become `Located` values. Nothing but plain YAML types is ever constructed. Duplicate keys, which
YAML forbids and PyYAML lets pass, are faults here, since the later one would silently win.

    text --compose--> nodes --_convert--> Located(value, place)
                                            value: a scalar | list[Located] | dict[str, Located]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Fault", "Located", "Place", "read_located"]

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES = 4 << 20
_MAX_NODES = 50_000  # aliases can unfold a small text into billions of values
_MAX_DEPTH = 32
_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a file: what it is and what to do, at a line (from 1)."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Place:
    """A line (from 1) of a file."""

    file: Path
    line: int

    def fault(self, message: str) -> Fault:
        """The fault `message` at this place."""
        return Fault(self.file, self.line, message)


@dataclass(frozen=True)
class Located:
    """A YAML value with its place; of a mapping's entry the place is that of its key."""

    value: Any
    place: Place

    def plain(self) -> Any:
        """The value without places: scalars, lists and dicts."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        return self.value

    def find(self, steps: Iterable[str | int]) -> Place:
        """The place that `steps` (keys and indices) leads to, as far as it can be followed."""
        here = self
        for step in steps:
            if isinstance(here.value, dict) and step in here.value:
                here = here.value[step]
            elif isinstance(here.value, list) and isinstance(step, int) and step < len(here.value):
                here = here.value[step]
        return here.place


def read_located(path: Path, faults: list[Fault]) -> Located | None:
    """Reads a YAML file; None, with the reason added to `faults`, where it cannot be used.

    Duplicate keys and keys that are no text are added to `faults` too, and the rest is returned.
    """
    text = _read_text(path, faults)
    if text is None:
        return None
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 1
        faults.append(Fault(path, line, f"not valid YAML: {what}; correct the syntax here"))
        return None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        faults.append(Fault(path, line, f"not valid YAML: {error.reason}; remove the character"))
        return None
    except RecursionError:
        faults.append(
            Fault(path, 1, "nested too deeply; a registry needs no more than a few levels")
        )
        return None
    if node is None:
        return Located({}, Place(path, 1))
    return _Converter(path, faults).convert(node, 0)


def _read_text(path: Path, faults: list[Fault]) -> str | None:
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        faults.append(Fault(path, 1, f"cannot be read ({reason}); check the path and its rights"))
        return None
    if len(raw) > _MAX_BYTES:
        faults.append(Fault(path, 1, f"larger than {_MAX_BYTES >> 20} MiB; this is no registry"))
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        faults.append(Fault(path, line, "not valid UTF-8; save the file in that encoding"))
        return None


class _Converter:
    """Turns composed nodes into `Located` values, within bounds on their number and depth."""

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        self._path = path
        self._faults = faults
        self._nodes = 0
        self._full = False
        self._scalars = yaml.SafeLoader("")

    def convert(self, node: yaml.Node, depth: int, place: Place | None = None) -> Located:
        place = place or self._place(node)
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            self._refuse(place)
            return Located(None, place)
        if isinstance(node, yaml.MappingNode):
            return Located(self._mapping(node, depth), place)
        if isinstance(node, yaml.SequenceNode):
            items = [] if self._full else [self.convert(item, depth + 1) for item in node.value]
            return Located(items, place)
        return Located(self._scalar(node, place), place)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Located]:
        inherited: dict[str, Located] = {}
        own: dict[str, Located] = {}
        for key_node, value_node in node.value:
            if self._full:
                break
            place = self._place(key_node)
            if key_node.tag == _MERGE:
                inherited = {**inherited, **self._merged(value_node, depth, place)}
                continue
            key = key_node.value
            if not isinstance(key, str):
                self._faults.append(place.fault("a key must be plain text; write it as a word"))
            elif key in own:
                line = own[key].place.line
                self._faults.append(
                    place.fault(f"key '{key}' is given twice, first in line {line}; keep one")
                )
            else:
                own[key] = self.convert(value_node, depth + 1, place)
        return {**inherited, **own}

    def _merged(self, node: yaml.Node, depth: int, place: Place) -> dict[str, Located]:
        """The entries that `<<: *name` or `<<: [*one, *two]` brings in; the first named wins."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Located] = {}
        for part in reversed(parts):
            if isinstance(part, yaml.MappingNode):
                merged.update(self.convert(part, depth + 1).value or {})
            else:
                self._faults.append(
                    place.fault("'<<' needs a mapping; point it at an anchored one")
                )
        return merged

    def _scalar(self, node: yaml.Node, place: Place) -> Any:
        try:
            return self._scalars.construct_object(node)
        except (yaml.constructor.ConstructorError, ValueError):
            self._faults.append(
                place.fault(f"'{node.value}' is no plain {node.tag.rpartition(':')[2]}; quote it")
            )
            return None

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._path, node.start_mark.line + 1)

    def _refuse(self, place: Place) -> None:
        if not self._full:
            self._full = True
            self._faults.append(
                place.fault("unfolds to too many or too deeply nested values; use fewer aliases")
            )
