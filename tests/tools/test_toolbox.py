from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import anyio
import jsonschema
import pytest
from pydantic import Field

from ryzanstein.errors import ToolError, ToolNotFound
from ryzanstein.tools import (
    CallRecord,
    Output,
    Tool,
    ToolContext,
    ToolTimeout,
    all_tools,
    call_tool,
    family_names,
    get_tool,
    permitted,
    tool,
    toolbox,
)
from ryzanstein.tools.schema import validated_json

TOOLS = all_tools()
FIRST = {
    "read_file",
    "write_file",
    "list_files",
    "search_files",
    "run_python",
    "run_tests",
    "evaluate_expression",
    "query_sqlite",
    "git_inspect",
    "fetch_url",
    "remember",
    "recall",
}
each_tool = pytest.mark.parametrize("item", TOOLS, ids=lambda item: item.name)


def test_the_first_twelve_are_there_in_a_stable_order() -> None:
    names = [item.name for item in TOOLS]
    assert set(names) >= FIRST
    assert list(family_names()) == sorted(family_names())
    assert names == [item.name for item in all_tools()]


@each_tool
def test_a_tool_says_what_it_is_for(item: Tool) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", item.name) and len(item.name) <= 64
    assert item.title and item.summary.endswith(".") and len(item.summary) < 80
    assert "Use " in item.description and "Raises:" not in item.description
    assert len(item.description) < 600
    assert set(item.annotations) == {"read_only", "destructive", "idempotent", "open_world"}
    assert not (item.read_only and item.annotations["destructive"])


@each_tool
def test_an_example_fits_its_schema(item: Tool) -> None:
    jsonschema.Draft202012Validator.check_schema(item.input_schema)
    jsonschema.validate(item.example, item.input_schema)
    assert item.model.model_validate(item.example)
    assert item.input_schema["additionalProperties"] is False


@each_tool
def test_every_argument_is_described_and_bounded(item: Tool) -> None:
    for name, about in item.input_schema["properties"].items():
        assert about.get("description"), f"{item.name}.{name}"
        for kind in about.get("anyOf", [about]):
            bounds = {"string": "maxLength", "integer": "maximum", "array": "maxItems"}
            bound = bounds.get(kind.get("type"))
            # A choice is bounded by itself, and what is written by the length of any argument.
            free = "enum" in kind or (item.name == "write_file" and name == "content")
            assert bound is None or bound in kind or free, f"{item.name}.{name}"


@each_tool
def test_only_the_main_argument_has_to_be_asked_for(item: Tool) -> None:
    required = set(item.input_schema.get("required", []))
    assert item.main_argument in item.input_schema["properties"]
    assert set(item.argument_forms) == required | (
        {item.main_argument} if item.main_form != "json" else set()
    )
    assert required <= {item.main_argument} or item.main_form == "json"


def test_the_menu_costs_few_tokens() -> None:
    menu = "\n".join(f"{item.name}: {item.summary}" for item in TOOLS)
    # Four characters a token is what English text comes to with the models' tokenizers.
    assert len(menu) / 4 < 25 * len(TOOLS)
    schemas = json.dumps([item.input_schema for item in TOOLS])
    assert len(schemas) / 4 < 250 * len(TOOLS)


def test_an_unknown_tool_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(ToolNotFound, match=r"Did you mean .*read_file"):
        get_tool("reed_file")
    with pytest.raises(ToolNotFound, match=r"Tools: .*write_file"):
        get_tool("zzzzzzzz")


@tool(
    title="Wait",
    example={"seconds": 1},
    main=("seconds", "json"),
    read_only=True,
)
async def wait_here(
    ctx: ToolContext,
    seconds: Annotated[float, Field(ge=0, le=100, description="how long")],
    mode: Annotated[str | None, Field(description="how")] = None,
    words: Annotated[tuple[str, ...], Field(max_length=2, description="what")] = (),
) -> Output:
    """Wait a while.

    Use never.
    """
    await anyio.sleep(seconds)
    return Output("w" * 10_000, {"seconds": seconds, "mode": mode, "words": words})


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Tool:
    monkeypatch.setattr(toolbox, "all_tools", lambda: (*TOOLS, wait_here))
    return wait_here


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({}, "seconds is missing: how long."),
        ({"seconds": "soon"}, 'seconds must be a number from 0 to 100, not "soon".'),
        ({"seconds": 1000}, "seconds must be a number from 0 to 100, not 1000."),
        ({"second": 1, "seconds": 0}, "There is no argument 'second'. Did you mean seconds?"),
        ({"seconds": 0, "words": "no"}, "words must be a list of at most 2, each text"),
        ({"seconds": 0, "mode": ["x" * 100]}, "mode must be text"),
    ],
)
async def test_a_wrong_argument_is_explained(
    ctx: ToolContext, waiting: Tool, args: dict[str, Any], said: str
) -> None:
    with pytest.raises(ToolError) as caught:
        await call_tool(ctx, "wait_here", args)
    assert said in str(caught.value)
    assert 'Example: {"seconds": 1}' in caught.value.hint


async def test_a_null_means_the_default_and_numbers_may_come_as_text(
    ctx: ToolContext, waiting: Tool
) -> None:
    result = await call_tool(ctx, "wait_here", {"seconds": "0", "mode": None, "words": ["a"]})
    assert result.data == {"seconds": 0.0, "mode": None, "words": ("a",)}


async def test_a_long_text_loses_its_middle_and_says_so(ctx: ToolContext, waiting: Tool) -> None:
    result = await call_tool(ctx, "wait_here", {"seconds": 0})
    assert result.left_out == 2000
    assert "[... 2,000 characters left out; ask for a smaller part ...]" in result.text
    assert len(result.text) < 8100


async def test_a_call_ends_at_its_time_limit(root: Path, waiting: Tool) -> None:
    ctx = ToolContext(roots=(root,), time_limit=0.05)
    with pytest.raises(ToolTimeout, match=r"longer than 0\.05 s") as caught:
        await call_tool(ctx, "wait_here", {"seconds": 50})
    assert caught.value.code == "TIMEOUT"


async def test_read_only_wins_over_everything(root: Path) -> None:
    ctx = ToolContext(roots=(root,), read_only=True, allowed=["write_file", "files", "memory"])
    with pytest.raises(ToolError, match=r"only reading is allowed.*Allowed: .*read_file"):
        await call_tool(ctx, "write_file", {"path": "a", "content": "x"})
    with pytest.raises(ToolError, match=r"Allowed: (\w+, ){11}\w+ and \d+ more") as caught:
        await call_tool(ToolContext(roots=(root,), read_only=True), "write_file", {"path": "a"})
    assert "read_file" in str(caught.value) and len(str(caught.value)) < 400
    assert not list(root.iterdir())
    assert {item.name for item in permitted(ctx)} == {
        item.name for item in TOOLS if item.read_only and item.family in {"files", "memory"}
    }


async def test_only_allowed_tools_may_be_called(root: Path) -> None:
    ctx = ToolContext(roots=(root,), allowed=["git"])
    with pytest.raises(ToolError, match=r"not among the tools allowed here.*git_inspect"):
        await call_tool(ctx, "read_file", "x")


async def test_every_call_leaves_a_record(root: Path, waiting: Tool) -> None:
    records: list[CallRecord] = []

    async def keep(record: CallRecord) -> None:
        records.append(record)

    ctx = ToolContext(roots=(root,), agent="APEX", run_id="run-1", on_call=keep)
    await call_tool(ctx, "write_file", {"path": "a", "content": "x" * 1000})
    with pytest.raises(ToolError):
        await call_tool(ctx, "read_file", "missing.txt")
    with anyio.move_on_after(0.02):
        await call_tool(ctx, "wait_here", {"seconds": 50})
    written, missing, cancelled = records
    assert written.ok and written.changes and written.agent == "APEX" and written.run_id == "run-1"
    assert written.arguments["content"].endswith("... (1000 characters)")
    assert not missing.ok and not missing.changes and missing.code == "INVALID_REQUEST"
    assert "missing.txt does not exist" in missing.message
    assert not cancelled.ok and cancelled.message == "cancelled"


def test_a_declaration_that_does_not_hold_together_is_refused() -> None:
    def declare(function: Any, main: str = "a") -> None:
        tool(title="T", example={}, main=(main, "line"))(function)

    async def untyped(ctx, a) -> Output:  # type: ignore[no-untyped-def]
        """Do it."""
        return Output("")

    async def undocumented(ctx: ToolContext, a: str) -> Output:
        return Output("")

    async def fine(ctx: ToolContext, a: str) -> Output:
        """Do it."""
        return Output("")

    async def wordy(ctx: ToolContext, a: str) -> Output:
        return Output("")

    wordy.__doc__ = "Do " + "it " * 40
    for function in (untyped, undocumented, wordy):
        with pytest.raises(TypeError):
            declare(function)
    with pytest.raises(TypeError, match="no argument b"):
        declare(fine, "b")


def test_importing_the_package_is_light() -> None:
    code = (
        "import ryzanstein, time; t = time.process_time(); import ryzanstein.tools; "
        "print(time.process_time() - t); import sys; "
        "print([m for m in ('sympy', 'httpx2', 'pydantic', 'sqlalchemy') if m in sys.modules])"
    )
    seconds, heavy = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert float(seconds) < 0.1
    assert heavy == "[]"


def test_finding_the_tools_imports_no_heavy_library() -> None:
    code = (
        "import sys; from ryzanstein.tools import all_tools; all_tools(); "
        "print([m for m in ('sympy', 'httpx2', 'numpy', 'resiliparse', 'regex', 'mcp') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("reference", ["#", "#/$defs/itself", "#/$defs/nowhere"])
def test_a_schema_whose_references_lead_nowhere_is_an_error_with_advice(reference: str) -> None:
    loop = {"itself": {"$ref": "#/$defs/itself"}}
    schema = {"type": "object", "properties": {"x": {}}, "$defs": loop, "$ref": reference}
    with pytest.raises(ToolError, match="lead nowhere") as raised:
        validated_json("a.b", schema, {"x": 1}, {})
    assert raised.value.hint
