"""The lines of an export: one JSON object each, readable, without vectors.

    {"type": "ryzanstein-memory", "version": 2}
    {"type": "memory", "id": "mem_…", "text": "…", "tier": "episodic", …, "journal": [{"at": …}]}
    {"type": "link", "from": "mem_…", "to": "mem_…", "kind": "merged_from", "score": 0.93, …}
    {"type": "experience", "id": "exp_…", "task": "…", "lessons": [{"title": …}], …}
    {"type": "calibration", "model_id": "…", "proposes": 0.75, "merges": 0.9, …}
    {"type": "end", "records": 4}

Fields that hold nothing are left out. The last line says how many came before it, so a file that
was cut off is known. Version 1 had neither it nor tiers, marks, links and journals; what it holds
becomes long-term memory, as when a store of that time is migrated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from ryzanstein.memory.checks import (
    checked_draft,
    checked_moment,
    checked_name,
    checked_outcome,
    checked_share,
    checked_text,
    cleaned,
)
from ryzanstein.memory.experience_fields import (
    checked_cost,
    checked_lesson,
    checked_tier,
    known_outcome,
)
from ryzanstein.memory.experience_rows import strategy_key
from ryzanstein.memory.records import Draft, Experience, JournalEntry, Memory

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = [
    "HEADER",
    "CalibrationLine",
    "End",
    "LinkLine",
    "MemoryLine",
    "NewerExport",
    "Record",
    "decoded",
    "encoded",
    "header_of",
]

HEADER = {"type": "ryzanstein-memory", "version": 2}
_Kind = TypeVar("_Kind")
# What may be empty, and is left out then, though it has no default.
_EMPTY: Mapping[type, Mapping[str, Any]] = {
    Memory: {"agent": None, "source": None, "tags": ()},
    Experience: {"strategy": "", "tools": (), "lesson": "", "answer": "", "run_id": None}
    | {"rating": None},
}
_TIMES = ("happened", "valid_from", "valid_until")
_OF_MEMORY = ("created", "updated", "last_used", "archived", *_TIMES)
# Times are looked at apart: those of an old version may end where they began.
_DRAFTED = tuple(one.name for one in fields(Draft) if one.name not in ("importance", *_TIMES))
_TEXTS = ("strategy", "lesson", "answer", "reason")


class NewerExport(ValueError):
    """A newer program wrote the file."""


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """A memory and what happened to it."""

    memory: Memory
    journal: tuple[JournalEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkLine:
    """A link between two memories, by id."""

    from_id: str
    to_id: str
    kind: str
    score: float
    created: datetime


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """Thresholds of consolidation for one embedding model, and how they were measured."""

    model_id: str
    proposes: float
    merges: float
    pairs: int
    detail: dict[str, Any]
    created: datetime


@dataclass(frozen=True, slots=True)
class End:
    """The last line."""

    records: int


Record = MemoryLine | LinkLine | Experience | CalibrationLine | End


def encoded(record: Record) -> str:
    """Returns the line of a record, without its end."""
    match record:
        case MemoryLine(memory, journal):
            line = {"type": "memory", **_filled(memory)}
            if journal:
                line["journal"] = [asdict(entry) for entry in journal]
        case LinkLine(start, end, kind, score, created):
            line = {"type": "link", "from": start, "to": end, "kind": kind}
            line |= {"score": score, "created": created}
        case Experience():
            line = {"type": "experience", **_filled(record)}
        case CalibrationLine():
            line = {"type": "calibration", **_filled(record)}
        case End(records):
            line = {"type": "end", "records": records}
    return json.dumps(line, ensure_ascii=False, default=_plain)


def header_of(line: bytes) -> int:
    """Returns the version that a first line states.

    Raises:
        ValueError: It is no export.
        NewerExport: It is one of a newer version.
    """
    head = _object(line)
    if head.get("type") != HEADER["type"] or not isinstance(head.get("version"), int):
        raise ValueError("not an export of a memory")
    version: int = head["version"]
    if version < 1:
        raise ValueError(f"there is no version {version} of an export")
    if version > 2:
        raise NewerExport(f"an export of version {version}, which a newer program wrote")
    return version


def decoded(line: bytes, version: int) -> Record:
    """Returns the record of a line, checked.

    Raises:
        ValueError, InvalidRequest: It is no JSON, no record, or a field of it is wrong.
    """
    values = _object(line)
    kind = values.pop("type", None)
    if not isinstance(kind, str) or kind not in _READ:
        raise ValueError(f"unknown type {kind!r}")
    return _READ[kind](values, version)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError("not UTF-8 text") from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found


def _filled(record: Memory | Experience | CalibrationLine) -> dict[str, Any]:
    """The fields of a record, without those that may be empty and are."""
    values = ((name, getattr(record, name)) for name in record.__dataclass_fields__)
    return {n: one for n, one in values if one not in (None, (), "") and one is not False}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return asdict(value)  # type: ignore[call-overload]  # lessons are all that is left


def _memory(values: dict[str, Any], version: int) -> MemoryLine:
    entries = values.pop("journal", [])
    if not isinstance(entries, list):
        raise ValueError("the journal is not a list")
    if version == 1:
        values.setdefault("tier", "long_term")
        if values.get("importance", 0.5) != 0.5:
            values.setdefault("mark", values["importance"])
    memory = _made(Memory, values)
    checked_name(memory.id, "id")
    checked_name(memory.superseded_by or "-", "id")
    given = Draft(**{name: getattr(memory, name) for name in _DRAFTED})
    draft = checked_draft(given)
    for share in (memory.importance, memory.novelty, memory.mark or 0.0):
        checked_share(share, "The importance")
    checked_outcome(memory.outcome)
    if memory.reinforced < 0 or memory.uses < 0:
        raise ValueError("reinforced and uses cannot be negative")
    _check_moments(memory, *_OF_MEMORY)
    if draft != given:
        memory = replace(memory, **{name: getattr(draft, name) for name in _DRAFTED})
    return MemoryLine(memory, tuple(map(_entry, entries)))


def _entry(values: object) -> JournalEntry:
    if not isinstance(values, dict):
        raise ValueError("an entry of the journal is not an object")
    entry = _made(JournalEntry, values)
    checked_text(entry.action, "action", 20)
    if entry.detail:
        checked_text(entry.detail, "detail")
    _check_moments(entry, "at")
    return entry


def _link(values: dict[str, Any], version: int) -> LinkLine:
    named = {"from": "from_id", "to": "to_id"}
    link = _made(LinkLine, {named.get(name, name): value for name, value in values.items()})
    for name in (link.from_id, link.to_id):
        checked_name(name, "id")
    checked_text(link.kind, "kind", 20)
    checked_outcome(link.score)
    if link.from_id == link.to_id:
        raise ValueError("a link from a memory to itself")
    _check_moments(link, "created")
    return link


def _experience(values: dict[str, Any], version: int) -> Experience:
    one = _made(Experience, values)
    outcome = known_outcome(one.outcome)
    if version == 1 and outcome == "unknown" and one.rating is not None:
        outcome = "rated"
    for name in (one.id, one.agent, one.run_id or "-", one.trace_id or "-", *one.tools):
        checked_name(name, "name")
    for share in (one.fitness, one.rating or 0.0):
        checked_share(share, "The fitness")
    _check_moments(one, "created")
    checked_tier(one.tier)
    checked_cost(one.tokens)
    checked_cost(one.seconds)
    texts: dict[str, Any] = {name: cleaned(getattr(one, name)) for name in _TEXTS}
    key = strategy_key(one.strategy, one.tools) if version == 1 else one.strategy_key
    return replace(
        one,
        **texts,
        task=checked_text(one.task, "task"),
        outcome=outcome,
        steps=tuple(map(cleaned, one.steps)),
        lessons=tuple(map(checked_lesson, one.lessons)),
        strategy_key=None if key is None else checked_text(key, "strategy's key", 64),
    )


def _calibration(values: dict[str, Any], version: int) -> CalibrationLine:
    found = _made(CalibrationLine, values)
    checked_text(found.model_id, "model", 120)
    if not -1 <= found.proposes <= found.merges <= 1 or found.pairs < 0:
        raise ValueError("thresholds out of order")
    _check_moments(found, "created")
    return found


def _end(values: dict[str, Any], version: int) -> End:
    return _made(End, values)


def _check_moments(record: object, *names: str) -> None:
    for name in names:
        moment = getattr(record, name)
        if moment is not None:
            checked_moment(moment, name)


_READ: Mapping[str, Callable[[dict[str, Any], int], Record]] = {
    "memory": _memory,
    "link": _link,
    "experience": _experience,
    "calibration": _calibration,
    "end": _end,
}


def _made(kind: type[_Kind], values: Mapping[str, Any]) -> _Kind:
    """Returns a record of the given fields, each of the type that it is declared with."""
    from pydantic import ValidationError

    adapter, known = _adapter(kind)  # type: ignore[arg-type]  # every type can be hashed
    for name in values:
        if name not in known:
            raise ValueError(f"unknown field {name!r}")
    try:
        made: _Kind = adapter.validate_python({**_EMPTY.get(kind, {}), **values})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] in ("missing", "missing_argument"):
            raise ValueError(f"{where} is missing") from error
        raise ValueError(f"{where}: {first['msg']}") from error
    return made


@cache
def _adapter(kind: Any) -> tuple[TypeAdapter[Any], frozenset[str]]:
    from pydantic import TypeAdapter  # takes a tenth of a second, which exports do not need

    return TypeAdapter(kind), frozenset(one.name for one in fields(kind))
