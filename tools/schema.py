"""A tool's arguments: schema from a typed signature, and errors that a small model can act on."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_type_hints

import pydantic

from ryzanstein.errors import ToolError
from ryzanstein.nearest import nearest

__all__ = ["arguments_model", "json_schema", "validated", "validated_json"]

_MOST_JSON = 200_000


def arguments_model(function: Callable[..., Awaitable[Any]]) -> type[pydantic.BaseModel]:
    """Returns a model of the function's parameters after the first, which is the context.

    Raises:
        TypeError: A parameter without a type, or of a kind that has no name.
    """
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.name not in hints or parameter.kind in {
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        }:
            raise TypeError(f"{function.__name__}: {parameter} needs a name and a type")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = pydantic.ConfigDict(extra="forbid", str_max_length=200_000)
    return pydantic.create_model(function.__name__, __config__=config, **fields)


def json_schema(model: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Returns the JSON schema of the arguments, without the titles that only cost tokens."""
    schema = _without_titles(model.model_json_schema())
    schema.setdefault("properties", {})
    return schema


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in schema.items() if key != "title"}
    if "properties" in result:
        result["properties"] = {
            name: _without_titles(part) for name, part in result["properties"].items()
        }
    return result


def validated(
    name: str,
    model: type[pydantic.BaseModel],
    schema: Mapping[str, Any],
    arguments: Mapping[str, Any],
    example: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the arguments in their types.

    A null for an argument that has a default means the default: small models write it so.

    Raises:
        ToolError: Names every argument that is wrong and says what it should be.
    """
    required = schema.get("required", [])
    given = {key: value for key, value in arguments.items() if value is not None or key in required}
    try:
        parsed = model.model_validate(given)
    except pydantic.ValidationError as error:
        faults = [_fault(fault, schema) for fault in error.errors(include_url=False)]
        raise ToolError(
            f"{name}: {' '.join(dict.fromkeys(faults))}",
            hint=f"Example: {json.dumps(dict(example), ensure_ascii=False)}",
        ) from error
    return {field: getattr(parsed, field) for field in type(parsed).model_fields}


def validated_json(
    name: str,
    schema: Mapping[str, Any],
    arguments: Mapping[str, Any],
    example: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns arguments that fit a JSON schema, for a tool that is known by its schema alone.

    Raises:
        ToolError: Names the arguments that are wrong and says why.
    """
    import jsonschema
    from referencing.exceptions import Unresolvable

    required = schema.get("required", [])
    given = {key: value for key, value in arguments.items() if value is not None or key in required}
    hint = f"Example: {json.dumps(dict(example), ensure_ascii=False)}"
    if len(json.dumps(given, default=str)) > _MOST_JSON:
        raise ToolError(f"{name}: the arguments are too long.", hint="Send less.")
    unknown = [key for key in given if key not in schema["properties"]]
    if unknown and schema.get("additionalProperties") is not True:
        fault = _fault({"type": "extra_forbidden", "loc": unknown}, schema)
        raise ToolError(f"{name}: {fault}", hint=hint)
    found = jsonschema.Draft202012Validator(dict(schema)).iter_errors(given)
    try:
        faults = [f"{'.'.join(map(str, one.path)) or name}: {one.message[:200]}." for one in found]
    except (RecursionError, Unresolvable) as error:
        raise ToolError(
            f"{name}: its schema has references that lead nowhere, so it cannot be called.",
            hint="Use another tool, and tell whoever runs its server.",
        ) from error
    if faults:
        raise ToolError(f"{name}: {' '.join(faults[:5])}", hint=hint)
    return given


def _fault(fault: Any, schema: Mapping[str, Any]) -> str:
    properties: Mapping[str, Any] = schema["properties"]
    name = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "extra_forbidden":
        meant = nearest(name, properties, 1)
        guess = f" Did you mean {meant[0]}?" if meant else ""
        return f"There is no argument {name!r}.{guess} The arguments are {', '.join(properties)}."
    about = properties.get(name, {})
    if fault["type"] == "missing":
        return f"{name} is missing: {about.get('description') or _kind(about)}."
    shown = json.dumps(fault["input"], ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    if fault["type"] == "string_unicode":
        return f"{name} has a damaged character."
    if fault["type"] == "value_error":
        return f"{name}: {fault['ctx']['error']}, not {shown}."
    return f"{name} must be {_kind(about)}, not {shown}."


def _kind(about: Mapping[str, Any]) -> str:
    """Says in words what a JSON schema allows."""
    if "enum" in about:
        return f"one of {', '.join(map(str, about['enum']))}"
    if "anyOf" in about:
        return " or ".join(_kind(part) for part in about["anyOf"] if part.get("type") != "null")
    low, high = about.get("minimum"), about.get("maximum")
    between = f" from {low} to {high}" if low is not None and high is not None else ""
    match about.get("type"):
        case "integer":
            return f"a whole number{between}"
        case "number":
            return f"a number{between}"
        case "boolean":
            return "true or false"
        case "array":
            most = f" of at most {about['maxItems']}" if "maxItems" in about else ""
            return f"a list{most}, each {_kind(about.get('items', {}))}"
        case "string":
            longest = about.get("maxLength")
            return (
                f"text of {about.get('minLength', 0)} to {longest} characters"
                if longest
                else "text"
            )
        case _:
            return "JSON"
