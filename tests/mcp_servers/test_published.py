"""The compact schemas accept and promise what the generated ones do."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from ryzanstein.mcp_servers._published import published


class Part(BaseModel):
    """A docstring for programmers."""

    title: str
    note: str | None = None


class Whole(BaseModel):
    """Another one."""

    parts: list[Part]
    best: Part | None = Field(None, description="None without parts.")
    kind: Literal["a", "b"] | None = None
    counts: dict[str, int] = Field(default_factory=dict)
    tags: Annotated[list[str], Field(max_length=3)] = []
    limit: Annotated[int, Field(ge=1, le=9)] = 5
    free: dict[str, Any] = {}
    either: int | str = 0


def test_arguments_lose_what_says_nothing() -> None:
    made = published(Whole.model_json_schema(), answer=False)["properties"]
    part = {
        "properties": {"title": {"type": "string"}, "note": {"type": "string"}},
        "required": ["title"],
        "type": "object",
    }
    assert made == {
        "parts": {"items": part, "type": "array"},
        "best": {**part, "description": "None without parts."},
        "kind": {"enum": ["a", "b"], "type": "string"},
        "counts": {"additionalProperties": {"type": "integer"}, "type": "object"},
        "tags": {"items": {"type": "string"}, "maxItems": 3, "type": "array"},
        "limit": {"default": 5, "minimum": 1, "maximum": 9, "type": "integer"},
        "free": {"type": "object"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": 0},
    }


def test_an_answer_may_be_null_where_it_was_and_says_what_is_always_there() -> None:
    made = published(Whole.model_json_schema(), answer=True)
    assert set(made) == {"properties", "required", "type"}
    assert made["properties"]["best"]["type"] == ["object", "null"]
    assert made["properties"]["kind"] == {"enum": ["a", "b", None], "type": ["string", "null"]}
    assert "default" not in made["properties"]["limit"]
    assert "required" not in made["properties"]["parts"]["items"]


@pytest.mark.parametrize(
    "value",
    [
        Whole(parts=[]),
        Whole(parts=[Part(title="one"), Part(title="two", note="x")], best=Part(title="one")),
        Whole(parts=[], kind="a", counts={"x": 1}, tags=["t"], free={"y": None}, either="z"),
    ],
)
def test_whatever_is_answered_fits_what_is_published(value: Whole) -> None:
    schema = published(Whole.model_json_schema(), answer=True)
    jsonschema.validate(json.loads(value.model_dump_json()), schema)
