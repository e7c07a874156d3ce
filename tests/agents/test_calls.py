"""Calls that fit their tools' schemas whatever the model is, and schemas whoever wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ryzanstein.agents.calls.decode import Decoded, Way, decode_calls, system_text
from ryzanstein.agents.calls.schema import decodable, fitted, outline
from ryzanstein.agents.calls.stated import stated
from ryzanstein.agents.clients.services import Completion
from ryzanstein.config import Settings
from ryzanstein.errors import AgentInvocationError, InvalidRequest
from ryzanstein.inference import Engine
from tests.inference import tiny, tiny_bitnet


@dataclass(frozen=True)
class Tool:
    """A tool as its server describes it."""

    name: str
    schema: Mapping[str, Any]
    description: str = "Does something."


BOOK = Tool(
    "hotel.book",
    {
        "type": "dict",
        "properties": {
            "city": {"type": "string", "description": 'With quotes "" and\na line break.'},
            "nights": {"type": "integer"},
            "price": {"type": "float", "description": "At most."},
            "beds": {"type": "tuple", "items": {"type": "float"}},
            "view": {"type": "string", "enum": ["Süden", 'the "sea"', "日本"]},
            "extras": {"type": "array", "items": {"type": "string"}, "enum": ["towel", "cot"]},
            "guest": {
                "type": "dict",
                "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                "required": ["name"],
            },
            "notes": {"type": "any"},
            "more": {"type": "dict"},
        },
        "required": ["city", "nights", "beds", "guest"],
    },
    "Books a hotel.",
)
LINKED = Tool(
    "größe",
    {
        "$defs": {"unit": {"enum": ["cm", "m"]}},
        "type": "object",
        "properties": {"unit": {"$ref": "#/$defs/unit"}, "value": {"type": ["number", "null"]}},
        "required": ["unit"],
    },
)
BARE = Tool("ping", {"type": "object", "properties": {}})
TOOLS = (BOOK, LINKED, BARE)


class Local:
    """The engine, asked as the inference server is."""

    def __init__(self, engine: Engine, model: str) -> None:
        self.engine, self.model = engine, model

    async def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Completion:
        kinds = ("choices", "json_schema", "regex")
        constraint = {kind: options.pop(kind) for kind in kinds if kind in options}
        found = self.engine.chat(
            {
                "model": self.model,
                "messages": [dict(one) for one in messages],
                "constraint": constraint or None,
                **options,
            }
        )
        return Completion(**{name: getattr(found, name) for name in Completion.__slots__})


@dataclass
class Scripted:
    """A model without grammars that says what it was told to."""

    answers: list[str]
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Completion:
        self.asked.append({"messages": messages, **options})
        return Completion(self.answers.pop(0), "scripted", 10, 0, 5, "stop", 0.1)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    home = tmp_path_factory.mktemp("home")
    made = Engine(Settings(home, home, home, threads=1))
    yield made
    made.close()


def check(found: Decoded, tools: Sequence[Tool], most: int) -> None:
    schemas = {tool.name: decodable(tool.schema) for tool in tools}
    assert 1 <= len(found.calls) <= most
    for call in found.calls:
        jsonschema.validate(dict(call.arguments), schemas[call.tool])
        json.dumps(call.arguments)


# every family


def written(family: str, path: Path) -> Path:
    """A checkpoint of random weights with room for the tools."""
    if family == "bitnet":
        return tiny_bitnet.write_hub(
            path, tiny.Shape("bitnet", context=4096, inner=96, tied=True), "packed"
        )
    return tiny.write_safetensors(path, tiny.Shape(model_type=family, context=4096, seed=3))


@pytest.mark.parametrize("way", ["joint", "stepwise"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "bitnet"])
async def test_models_of_random_weights_call_well(
    family: str, way: Way, engine: Engine, tmp_path: Path
) -> None:
    backend = Local(engine, str(written(family, tmp_path / family)))
    for heat, most in ((0.0, 1), (1.5, 3)):
        found = await decode_calls(
            backend, "Zürich, 3 nights", TOOLS, most=most, way=way, tokens=200, temperature=heat
        )
        check(found, TOOLS, most)
        assert found.tokens > 0


@pytest.mark.parametrize("model", ["tiny-mamba", "tiny-rwkv7"])
async def test_models_that_know_no_json_call_well(model: str, engine: Engine) -> None:
    tools = (LINKED, BARE)
    for way in ("joint", "stepwise"):
        found = await decode_calls(Local(engine, model), "Go", tools, way=way, tokens=120)
        check(found, tools, 1)


async def test_a_small_real_model_reads_what_the_task_says(engine: Engine, smollm2: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "nights": {"type": "integer"}},
        "required": ["city", "nights"],
    }
    tools = [Tool("book_hotel", schema, "Books a hotel in a city.")]
    task = 'Book a hotel in "Århus" for 3 nights.'
    found = await decode_calls(Local(engine, str(smollm2)), task, tools)
    check(found, tools, 1)
    assert found.calls[0].arguments["nights"] == 3
    assert "rhus" in found.calls[0].arguments["city"]


# backends without grammars


async def test_texts_come_through_as_they_were_written() -> None:
    text = 'a "b"\n\tc\\ 日本 \u2028 é'
    call = {"name": "hotel.book", "arguments": {"city": text, "price": 3, "beds": [1, 2.5]}}
    backend = Scripted([json.dumps([call, {"name": "ping", "arguments": {}}])])
    found = await decode_calls(backend, "Book it for at most 3", TOOLS, most=4)
    assert [one.tool for one in found.calls] == ["hotel.book", "ping"]
    arguments = found.calls[0].arguments
    assert arguments["city"] == text
    assert [type(one) for one in (arguments["price"], *arguments["beds"])] == [float] * 3
    assert (found.tokens, found.prompt_tokens) == (5, 10)


async def test_a_model_that_goes_in_circles_is_cut_short() -> None:
    calls = [{"name": "größe", "arguments": {"unit": unit}} for unit in ("cm", "m", "cm", "m")]
    found = await decode_calls(Scripted([json.dumps(calls)]), "Both", TOOLS, most=4)
    assert [one.arguments["unit"] for one in found.calls] == ["cm", "m"]


async def test_tools_stand_before_the_task_so_that_they_stay_cached() -> None:
    first, second = Scripted(['{"name": "ping", "arguments": {}}']), Scripted([])
    second.answers.append('{"name": "ping", "arguments": {}}')
    await decode_calls(first, "one", TOOLS)
    await decode_calls(second, "two", TOOLS)
    assert first.asked[0]["messages"][0] == second.asked[0]["messages"][0]
    assert "one" not in first.asked[0]["messages"][0]["content"].splitlines()


@pytest.mark.parametrize(
    "said",
    [
        "",
        "I would call ping.",
        "[]x",
        '{"name": "pong", "arguments": {}}',
        '{"name": "ping", "arguments": []}',
        "3",
    ],
)
async def test_what_is_no_call_is_an_error(said: str) -> None:
    with pytest.raises(AgentInvocationError, match="no call"):
        await decode_calls(Scripted([said]), "Go", TOOLS)


# bad input


@pytest.mark.parametrize(
    ("task", "tools", "most", "said"),
    [
        (" ", TOOLS, 1, "task is empty"),
        ("Go", (), 1, "no tools"),
        ("Go", (BARE, BARE), 1, "Two tools are called 'ping'"),
        ("Go", (BARE,), 0, "most is 0"),
        ("Go", (Tool("x", {"patternProperties": {"a": {}}}),), 1, "patternProperties"),
        ("Go", (Tool("x", {"properties": {"a": 3}}),), 1, "where a schema was expected"),
    ],
)
async def test_bad_requests_say_what_is_wrong(
    task: str, tools: Sequence[Tool], most: int, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await decode_calls(Scripted([]), task, tools, most=most)


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(60):
        schema = {"type": "array", "items": schema}
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        decodable(schema)


# schemas


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"type": "float"}, {"type": "number"}),
        ({"type": "String"}, {"type": "string"}),
        ({"type": "integer", "enum": ["1", "2", "1"]}, {"enum": [1, 2]}),
        ({"type": "string", "format": "colour"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "integer", "minimum": 5, "maximum": 1}, {"type": "integer"}),
        ({"type": "integer", "exclusiveMinimum": True}, {"type": "integer"}),
        ({"oneOf": [{"type": "bool"}]}, {"anyOf": [{"type": "boolean"}]}),
        ({"const": 3, "type": "string"}, {"const": 3}),
        (
            {"type": "array", "items": {"type": "string"}, "enum": ["a"], "uniqueItems": True},
            {"type": "array", "items": {"enum": ["a"]}},
        ),
        (
            {"properties": {"a": {"type": "int"}}, "required": ["a", "b"]},
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        ),
    ],
)
def test_schemas_of_many_makers_mean_the_same(given: dict[str, Any], meant: Any) -> None:
    assert decodable(given) == meant


def test_whole_numbers_become_fractions_only_where_the_schema_says_float() -> None:
    schema = {"properties": {"a": {"type": "float"}, "b": {"type": "number"}, "c": {}}}
    found = fitted({"a": 1, "b": 1, "c": True}, schema)
    assert [type(value) for value in found.values()] == [float, int, bool]


def test_a_number_without_end_stays_whole() -> None:
    endless = 10**400
    assert fitted({"a": endless}, {"properties": {"a": {"type": "float"}}}) == {"a": endless}


@pytest.mark.parametrize(
    ("task", "value", "kept"),
    [
        ("Find a rock concert", "Rock", True),
        ("Compound it annually", "Annual", True),
        ("Add 15 and 20", 15, True),
        ("Add 15 and 20", 10**400, False),
        ("Stats of LeBron James", "Boston Celtics", False),
        ("Who won the last match?", "2023", False),
        ("A room for three nights", 3, True),
        ("It costs $1,200.50 a month", 1200.5, True),
        ("at an interest of 5%", 0.05, True),
        ("A room, please", 3, False),
        ("Sell it, down by 7", -7, True),
        ("I want breakfast", True, True),
        ("I want a bed", True, False),
        ("with towels and a cot", ["pool", "cot"], True),
        ("with towels", [], False),
        ("for Anna", {"name": "Anna", "age": 3}, True),
        ("for Anna", None, False),
    ],
)
def test_only_optional_arguments_that_the_task_states_are_given(
    task: str, value: Any, kept: bool
) -> None:
    schema = {"properties": {"city": {}, "include_breakfast": {}}, "required": ["city"]}
    given = {"city": "Paris", "include_breakfast": value}
    assert stated(task, given, schema) == (given if kept else {"city": "Paris"})


def test_an_outline_names_every_argument_once_with_its_type() -> None:
    text = outline(BOOK.schema)
    assert "    city (string): With quotes" in text
    assert "    price (float, optional): At most." in text
    assert '    view (one of "Süden", "the \\"sea\\"", "日本", optional)' in text
    assert "        age (integer, optional)" in text
    assert 'unit (one of "cm", "m")' in outline(LINKED.schema)
    assert system_text(TOOLS, several=False).count("hotel.book") == 1


def test_an_outline_of_definitions_that_hold_themselves_has_an_end() -> None:
    value = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/value"}}]}
    one = {"properties": {"v": {"$ref": "#/$defs/value"}}, "$defs": {"value": value}}
    assert outline(one).startswith("    v (string or array of string or array of ")
    every = {f"p{at}": {"$ref": "#/$defs/node"} for at in range(100)}
    node = {"type": "object", "properties": every}
    lines = outline({**node, "$defs": {"node": node}}).splitlines()
    assert len(lines) == 301
    assert "not shown" in lines[-1]
