from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._tools import make

Answer = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "notes.txt").write_text("The code word is heron.\n", encoding="utf-8")
    monkeypatch.setenv("RYZANSTEIN_ROOTS", str(folder))
    return folder


async def test_a_tool_is_found_described_and_called(answer: Answer) -> None:
    found = await answer("tools", "search_tools", query="read what a text file says", limit=5)
    assert "read_file" in [tool["name"] for tool in found["tools"]]
    described = await answer("tools", "describe_tool", name="read_file")
    assert described["input_schema"]["properties"][described["main_argument"]]
    outcome = await answer("tools", "call_tool", name="read_file", arguments={"path": "notes.txt"})
    assert "heron" in outcome["text"] and outcome["ok"] is True


async def test_an_empty_query_lists_every_tool_page_by_page(answer: Answer) -> None:
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        found = await answer("tools", "search_tools", limit=40, cursor=cursor)
        names += [tool["name"] for tool in found["tools"]]
        cursor = found["next_cursor"]
    first = await answer("tools", "search_tools", limit=5)
    second = await answer("tools", "search_tools", limit=50, cursor=first["next_cursor"])
    assert [tool["name"] for tool in first["tools"] + second["tools"]] == names[:55]
    assert len(names) >= 12


async def test_files_outside_the_roots_are_refused(
    fault: Callable[..., Awaitable[dict[str, str]]],
) -> None:
    error = await fault("tools", "call_tool", name="read_file", arguments={"path": "/etc/passwd"})
    assert error["code"] == "INVALID_REQUEST"


async def test_an_unknown_tool_gets_the_nearest_names(
    fault: Callable[..., Awaitable[dict[str, str]]],
) -> None:
    error = await fault("tools", "call_tool", name="read_fil", arguments={})
    assert error["code"] == "TOOL_NOT_FOUND"
    assert "read_file" in error["hint"]


async def test_a_call_of_no_tool_is_kept_like_any_other(
    fault: Callable[..., Awaitable[dict[str, str]]],
) -> None:
    await fault("tools", "call_tool", name="delete_all", arguments={"path": "x" * 500})
    (kept,) = shared().audit.read()
    assert (kept["tool"], kept["ok"], kept["code"]) == ("delete_all", False, "TOOL_NOT_FOUND")
    assert len(kept["arguments"]["path"]) < 300


async def test_where_only_reading_is_allowed_only_what_reads_is_shown(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_READ_ONLY", "true")
    shared().reset()
    found = await answer("tools", "search_tools", query="write a file", limit=50)
    names = {tool["name"] for tool in found["tools"]}
    assert "write_file" not in names and {"read_file", "query_sqlite"} <= names
    async with Client(make(("files",))) as client:
        direct = {tool.name for tool in (await client.list_tools()).tools}
    assert "read_file" in direct and "write_file" not in direct


async def test_a_toolset_is_shown_directly_beside_the_three() -> None:
    async with Client(make(("files",))) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("read_file", {"path": "notes.txt"})
        wrong = await client.call_tool("read_file", {"path": "missing.txt"})
    assert names[:3] == ["search_tools", "describe_tool", "call_tool"]
    assert "read_file" in names and "run_python" not in names
    assert "heron" in result.content[0].text  # type: ignore[union-attr]
    assert wrong.is_error


def test_an_unknown_toolset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match=r"There are: .*files"):
        make(("filez",))
