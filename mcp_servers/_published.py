"""Schemas as clients see them: what pydantic generates, without what says nothing to a reader.

A client puts every tool's schema before its model, so that each token here is paid by every
conversation. What is left out changes nothing about what is accepted or answered:

title                        it repeats the name
$ref and $defs               the definition stands where it is used, without its docstring
anyOf X or null              arguments: X, as one leaves an optional argument out
                             answers: X, its type being [..., "null"]
default null, [], {}, ""     an optional argument is empty
minLength 1                  a word that is needed is not empty; it is refused nevertheless
exclusiveMaximum 2**63       no whole number that a client can send is larger
default in an answer         the field is always there
required inside an answer    only the root says what is always there

A field or argument that few ask for is declared as Aside (pydantic's SkipJsonSchema): it is checked
and sent like any other, and only not listed. The server's instructions name such arguments.
"""

from __future__ import annotations

from typing import Any

__all__ = ["published"]

Json = dict[str, Any]
_NULL = {"type": "null"}
_NATURAL = {"minLength": 1, "exclusiveMaximum": 2**63}
_NOTHING: tuple[Any, ...] = ([], {}, "", None)


def published(schema: Json, *, answer: bool) -> Json:
    """Returns the compact form of a schema.

    Args:
        schema: As pydantic generates it, an object at its root.
        answer: It is of what a tool answers, not of its arguments.
    """
    made = _compact(schema, schema.get("$defs", {}), answer)
    if answer:
        made.pop("description", None)
        made.update({key: schema[key] for key in ("required",) if key in schema})
    return made


def _compact(schema: Json, defs: Json, answer: bool) -> Json:
    schema, nullable = _resolved(schema, defs)
    made: Json = {}
    for key, value in schema.items():
        if key == "properties":
            made[key] = {name: _compact(one, defs, answer) for name, one in value.items()}
        elif key == "anyOf":
            made[key] = [_compact(one, defs, answer) for one in value]
        elif key in {"items", "additionalProperties"} and isinstance(value, dict):
            made[key] = _compact(value, defs, answer)
        elif not _says_nothing(key, value, answer):
            made[key] = value
    if nullable and answer and "type" in made:
        made["type"] = [made["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    return made


def _resolved(schema: Json, defs: Json) -> tuple[Json, bool]:
    """A schema without reference and without `or null`; says whether it had the latter."""
    options = [one for one in schema.get("anyOf", ()) if one != _NULL]
    nullable = _NULL in schema.get("anyOf", ())
    if nullable and len(options) == 1:
        schema = {**options[0], **{key: schema[key] for key in schema if key != "anyOf"}}
    if "$ref" in schema:
        meant = defs[schema["$ref"].rpartition("/")[2]]
        own = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**{key: meant[key] for key in meant if key != "description"}, **own}
    return schema, nullable


def _says_nothing(key: str, value: Any, answer: bool) -> bool:
    if key in {"title", "$defs"}:
        return True
    if key == "default":
        return answer or value in _NOTHING
    if key in _NATURAL:
        return bool(value == _NATURAL[key])
    if key == "additionalProperties":
        return value is True
    return answer and key == "required"
