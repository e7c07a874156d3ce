from __future__ import annotations

import pytest
from mcp import Client
from mcp.server.mcpserver.exceptions import ToolError

from ryzanstein.errors import ERROR_META, InvalidRequest, ModelNotFound
from ryzanstein.mcp_servers._factory import READS, Reply, Server, make_server, page


class Sum(Reply):
    total: int

    def brief(self) -> str:
        return f"It is {self.total}."


def made() -> Server:
    server = make_server("test", "Test", "For tests.")

    @server.tool(annotations=READS)
    def add(one: int, two: int) -> Sum:
        """Add two numbers.

        Both may be negative.

        Raises:
            ModelNotFound: They are equal.
        """
        if one == two:
            raise ModelNotFound("They are equal.", hint="Take others.")
        return Sum(total=one + two)

    @server.tool(annotations=READS)
    async def crash() -> Sum:
        """Fail in a way nobody foresaw."""
        raise KeyError("a secret")

    @server.tool(annotations=READS)
    def refuse() -> Sum:
        """Refuse with the SDK's own error."""
        raise ToolError("Not today.")

    return server


async def test_a_reply_becomes_short_text_and_structured_content() -> None:
    async with Client(made()) as client:
        result = await client.call_tool("add", {"one": 2, "two": 3})
    assert result.content[0].text == "It is 5."  # type: ignore[union-attr]
    assert result.structured_content == {"total": 5}


async def test_the_description_leaves_out_what_only_programmers_need() -> None:
    async with Client(made()) as client:
        tools = (await client.list_tools()).tools
    assert tools[0].description == "Add two numbers. Both may be negative."
    assert "title" not in tools[0].input_schema
    assert tools[0].output_schema is not None and tools[0].output_schema["required"] == ["total"]


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "message"),
    [
        ("add", {"one": 1, "two": 1}, "MODEL_NOT_FOUND", "They are equal."),
        ("add", {"one": "x", "two": 1}, "INVALID_REQUEST", "add: one: Input should be a valid"),
        ("add", {"one": 1}, "INVALID_REQUEST", "add: two: Field required"),
        ("ad", {}, "TOOL_NOT_FOUND", "No tool is called 'ad'."),
        ("crash", {}, "INTERNAL_ERROR", "crash failed unexpectedly (KeyError)."),
        ("refuse", {}, "INVALID_REQUEST", "Not today."),
    ],
)
async def test_every_failure_is_a_result_with_its_code(
    tool: str, arguments: dict[str, object], code: str, message: str
) -> None:
    async with Client(made()) as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert result.structured_content is None
    error = (result.meta or {})[ERROR_META]
    assert error["code"] == code
    assert error["message"].startswith(message)
    assert "secret" not in str(result)
    text = result.content[0].text  # type: ignore[union-attr]
    assert text.startswith(f"{code}: {error['message']}") and text.endswith(error["hint"])


def test_pages_follow_one_another_to_the_end() -> None:
    first, cursor = page(range(5), 2)
    second, following = page(range(5), 2, cursor or "")
    last, end = page(range(5), 2, following or "")
    assert [first, second, last, end] == [[0, 1], [2, 3], [4], None]


def test_a_foreign_cursor_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Unknown cursor"):
        page(range(5), 2, "-1; drop")


def test_instructions_have_a_limit() -> None:
    with pytest.raises(ValueError, match="2000 characters"):
        make_server("long", "Long", "x" * 2000)
