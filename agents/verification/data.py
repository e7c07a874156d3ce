"""Checks of data in an answer, where a task asks for JSON or CSV: that it reads, and its shape."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from typing import Any

from ryzanstein.agents.verification.checks import Check
from ryzanstein.tools.fences import blocks

__all__ = ["check_data"]

MOST_FAULTS = 3
_ASKS = (
    r"\b(?:as|in|return|give|output|produce|write|make|create|generate|print|format(?:ted)?|"
    r"convert|answer with|reply with|only)\b[^.?!\n]*\b{kind}\b(?!\s+(?:files?\b|parser|library))"
)
_JSON = re.compile(_ASKS.format(kind="JSON"), re.I)
_CSV = re.compile(_ASKS.format(kind="CSV"), re.I)
_NAME = r"[`'\"]?[A-Za-z_]\w*[`'\"]?"
_TYPE = (
    r"(?:string|text|integer|int|whole number|number|float|decimal|boolean|bool|list|array|object)"
)
_BESIDE = rf"(?:\s*\([^()]{{1,40}}\)|\s*:\s*(?:an?\s+)?{_TYPE}\b)?"
_NAMED = re.compile(
    r"\b(?:keys|fields|columns|properties|attributes)\b\s*(?:named|called|are|:|of)?\s*"
    rf"({_NAME}{_BESIDE}(?:\s*(?:,\s*and\b|,|\band\b)\s*{_NAME}{_BESIDE})*)",
    re.I,
)
# "age (integer)", "age: a number", "age is a whole number"
_TYPED = re.compile(
    rf"({_NAME})\s*(?:\(|:|\b(?:is|as|being|must be|should be)\b)\s*(?:an?\s+)?"
    rf"({_TYPE})\b",
    re.I,
)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("string", "text"), (str,)),
    **dict.fromkeys(("integer", "int", "whole number"), (int,)),
    **dict.fromkeys(("number", "float", "decimal"), (int, float)),
    **dict.fromkeys(("boolean", "bool"), (bool,)),
    **dict.fromkeys(("list", "array"), (list,)),
    "object": (dict,),
}
# Words that begin what is said of columns, not the name of one.
_NO_NAMES = frozenset(
    "all and as at by each for from if in is must of on or per should so sorted that the to "
    "separated when where which with".split()
)
_COUNT = re.compile(
    r"\b(?:exactly\s+)?(\d{1,4}|two|three|four|five|six|seven|eight|nine|ten)\s+"
    r"(?:rows?|records?|objects?|entries|items|elements|lines?)\b",
    re.I,
)
_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def check_data(task: str, answer: str) -> list[Check]:
    """Reads the data of an answer and compares its shape with what the task says."""
    if _JSON.search(task):
        return _json(task, answer)
    return _csv(task, answer) if _CSV.search(task) else []


def _json(task: str, answer: str) -> list[Check]:
    try:
        value = json.loads(_block(answer, "json"))
    except (ValueError, RecursionError) as error:
        return [Check("the answer is JSON", False, str(error)[:200])]
    checks = [Check("the answer is JSON", True)]
    schema = _schema(task)
    if schema is not None:
        return [*checks, _fits(value, schema)]
    rows = value if isinstance(value, list) else [value]
    if names := _names(task):
        missing = sorted({name for row in rows for name in _missing(row, names)})
        checks.append(Check(f"it has {', '.join(names)}", not missing, _lacks(missing)))
        checks += _typed(task, names, rows)
    return [*checks, *_counted(task, rows)] if isinstance(value, list) else checks


def _csv(task: str, answer: str) -> list[Check]:
    text = _block(answer, "csv").strip()
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as error:
        return [Check("the answer is CSV", False, str(error))]
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        said = f"its rows have {', '.join(map(str, sorted(widths)))} columns" if rows else "empty"
        return [Check("the answer is CSV", False, said)]
    checks = [Check("the answer is CSV", True)]
    if names := _names(task):
        header = [cell.strip() for cell in rows[0]]
        missing = [name for name in names if name not in header]
        checks.append(Check(f"it has {', '.join(names)}", not missing, _lacks(missing)))
    return [*checks, *_counted(task, rows[1:])]


def _block(answer: str, kind: str) -> str:
    """The fenced block of a kind, the only block, or the text itself from its first bracket on."""
    found = blocks(answer)
    of_kind = [block for block in found if block.language == kind]
    if of_kind or len(found) == 1:
        return (of_kind or found)[0].text
    if kind != "json":
        return answer
    start = min((answer.find(char) for char in "{[" if char in answer), default=-1)
    if start < 0:
        return answer
    try:
        _, end = json.JSONDecoder().raw_decode(answer, start)
    except (ValueError, RecursionError):
        return answer[start:]
    return answer[start:end]


def _schema(task: str) -> dict[str, Any] | None:
    """A JSON schema that the task gives, if it does."""
    for place in (found.start() for found in re.finditer(r"\{", task)):
        try:
            value, _ = json.JSONDecoder().raw_decode(task, place)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and ("properties" in value or "items" in value):
            return value
        if isinstance(value, dict):
            return None
    return None


def _fits(value: Any, schema: dict[str, Any]) -> Check:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    name = "it fits the schema"
    try:
        Draft202012Validator.check_schema(schema)
        faults = [
            f"{fault.json_path}: {fault.message[:100]}"
            for fault in Draft202012Validator(schema).iter_errors(value)
        ]
    except (SchemaError, Unresolvable, RecursionError) as error:
        return Check(name, None, f"The schema cannot be used: {str(error).splitlines()[0][:200]}")
    return Check(name, not faults, "; ".join(faults[:MOST_FAULTS]))


def _names(task: str) -> list[str]:
    found = _NAMED.search(task)
    if found is None:
        return []
    parts = re.split(r"\s*(?:,\s*and\b|,|\band\b)\s*", found.group(1))
    names = [re.split(r"[(:]", part)[0].strip().strip("`'\"") for part in parts]
    return list(itertools.takewhile(lambda name: name.lower() not in _NO_NAMES, names))


def _typed(task: str, names: list[str], rows: list[Any]) -> list[Check]:
    """Compares the types of values with those that the task says of their names."""
    said = {name.strip("`'\""): kind.lower() for name, kind in _TYPED.findall(task)}
    wanted = {name: kind for name, kind in said.items() if name in names}
    if not wanted:
        return []
    wrong = [
        f"{name} is {json.dumps(row[name])[:40]}"
        for row in rows
        for name, kind in wanted.items()
        if isinstance(row, dict) and name in row and not _is(row[name], kind)
    ]
    told = ", ".join(f"{name} {kind}" for name, kind in wanted.items())
    return [Check(f"its values have the types asked for: {told}", not wrong, "; ".join(wrong[:3]))]


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return bool in _KINDS[kind]
    return isinstance(value, _KINDS[kind])


def _missing(row: Any, names: list[str]) -> list[str]:
    return [name for name in names if not isinstance(row, dict) or name not in row]


def _lacks(missing: list[str]) -> str:
    return f"it lacks {', '.join(missing)}" if missing else ""


def _counted(task: str, rows: list[Any]) -> list[Check]:
    found = _COUNT.search(task)
    if found is None:
        return []
    word = found.group(1).lower()
    wanted = int(word) if word.isdigit() else _WORDS.index(word) + 2
    return [Check(f"it has {wanted} entries", len(rows) == wanted, f"there are {len(rows)}")]
