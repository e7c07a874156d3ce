"""Checks data against a JSON schema; runs in the worker process.

References lead nowhere but into the schema itself and to the published metaschemas: nothing is
fetched and no file is opened.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
from jsonschema_specifications import REGISTRY
from referencing.exceptions import Unresolvable

from ryzanstein.errors import ToolError

__all__ = ["validate_data"]

_MOST_FAULTS = 20
_SHOWN = 200
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})(\.\d+)?([eE][+-]?\d{1,2})?")


def validate_data(text: str, kind: str, schema: str) -> dict[str, Any]:
    """Checks a document, or each line of JSON Lines, or each row of CSV.

    Returns:
        checked: How many documents there were.
        faults: where, what; the first ones.
        complete: Whether these are all faults.

    Raises:
        ToolError: The schema or the data cannot be read.
    """
    wanted = _document(schema, "The schema")
    kinds = jsonschema.validators.validator_for(
        wanted if isinstance(wanted, dict) else {}, default=jsonschema.Draft202012Validator
    )
    try:
        kinds.check_schema(wanted)
    except jsonschema.SchemaError as error:
        raise ToolError(
            f"The schema is none: {error.message[:_SHOWN]} (at {error.json_path}).",
            hint="Correct the schema.",
        ) from None
    validator = kinds(wanted, registry=REGISTRY)
    checked, faults = 0, []
    try:
        for where, document in _documents(text, kind):
            checked += 1
            for fault in validator.iter_errors(document):
                at = fault.json_path.removeprefix("$").lstrip(".")
                place = " ".join(part for part in (where, at) if part) or "the document"
                faults.append({"where": place, "what": fault.message[:_SHOWN]})
                if len(faults) > _MOST_FAULTS:
                    return {"checked": checked, "faults": faults[:-1], "complete": False}
    except Unresolvable as error:
        raise ToolError(
            f"The schema refers to {str(error.ref)[:_SHOWN]!r}, which is not in it.",
            hint="Put the definition under $defs and refer to #/$defs/NAME.",
        ) from None
    return {"checked": checked, "faults": faults, "complete": True}


def _documents(text: str, kind: str) -> Iterator[tuple[str, Any]]:
    if kind == "jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield f"line {number}", _document(line, f"Line {number}")
    elif kind in {"csv", "tsv"}:
        rows = csv.DictReader(io.StringIO(text), delimiter="\t" if kind == "tsv" else ",")
        try:
            for number, row in enumerate(rows, 2):
                yield f"line {number}", {str(key): _value(cell) for key, cell in row.items()}
        except csv.Error as error:
            raise ToolError(f"This is no CSV: {error}.", hint="Correct the file.") from None
    else:
        yield "", _document(text, "The data")


def _document(text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError as error:
        raise ToolError(f"{what} is no JSON: {error}.", hint="Correct it.") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _value(cell: Any) -> Any:
    """Reads a cell as the number or truth value that it looks like."""
    if not isinstance(cell, str):
        return cell
    if cell == "":
        return None
    plain = cell.strip()
    if plain.lower() in {"true", "false"} or _NUMBER.fullmatch(plain):
        return json.loads(plain.lower())
    return cell
