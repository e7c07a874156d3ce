from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.errors import (
    ConnectionFailed,
    InvalidRequest,
    ModelNotFound,
    ServerUnavailable,
    ToolNotFound,
)

MODEL = "smollm2-135m"
ASKED = [{"role": "user", "content": "Which is a colour?"}]


async def test_tools_are_listed_and_described_with_the_form_of_each_argument(
    services: Services,
) -> None:
    async with services:
        names = {tool.name for tool in await services.tools()}
        assert {"read_file", "run_python", "query_sqlite", "git_inspect", "remember"} <= names
        spec = await services.describe_tool("run_python")
        assert (spec.forms["code"], spec.language) == ("code", "python")
        assert "\n" not in spec.line


async def test_a_tool_that_refuses_gives_an_outcome_to_read(services: Services) -> None:
    async with services:
        outcome = await services.call_tool("read_file", {"path": "nothing.txt"})
        assert not outcome.ok
        assert "nothing.txt" in outcome.text


async def test_a_tool_does_its_work(services: Services, place: Path) -> None:
    async with services:
        (place / "a.txt").write_text("hello")
        outcome = await services.call_tool("read_file", {"path": "a.txt"})
        assert outcome.ok
        assert "hello" in outcome.text


async def test_errors_of_the_wire_come_back_as_they_were_raised(services: Services) -> None:
    async with services:
        with pytest.raises(ToolNotFound, match="run_pythn"):
            await services.describe_tool("run_pythn")
        with pytest.raises(ModelNotFound):
            await services.chat(ASKED, model="no-such-model")
        with pytest.raises(InvalidRequest):
            await services.chat([], model=MODEL)


async def test_a_constrained_answer_is_one_of_the_choices_and_tokens_are_reported(
    services: Services,
) -> None:
    async with services:
        reports: list[float] = []

        async def progress(progress: float, total: float | None, message: str | None) -> None:
            reports.append(progress)

        found = await services.chat(
            ASKED, model=MODEL, choices=["red", "seven"], max_tokens=8, progress=progress
        )
        assert found.text in {"red", "seven"}
        assert found.tokens >= 1
        assert reports


async def test_what_is_remembered_is_recalled(services: Services) -> None:
    async with services:
        kept = await services.remember("The gate code is 7731.")
        hits = await services.recall("What is the code of the gate?", limit=1)
        assert [hit["id"] for hit in hits] == [kept["id"]]


async def test_a_server_that_was_not_asked_for_is_not_there() -> None:
    async with Services(names=("memory",)) as services:
        with pytest.raises(ServerUnavailable, match="tools"):
            await services.tools()


async def test_a_server_at_a_url_where_nobody_listens() -> None:
    with pytest.raises(ConnectionFailed, match="memory"):
        async with Services(names=("memory",), servers={"memory": "http://127.0.0.1:9/mcp"}):
            pass


async def test_a_server_whose_command_does_not_exist() -> None:
    from mcp import StdioServerParameters

    gone = StdioServerParameters(command="/nonexistent/server")
    with pytest.raises(ConnectionFailed, match="memory"):
        async with Services(names=("memory",), servers={"memory": gone}):
            pass


async def test_a_server_in_a_child_process_is_the_same_to_its_user(
    isolated_home: Path,
) -> None:
    import os

    from mcp import StdioServerParameters

    child = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "ryzanstein.cli", "mcp", "memory"],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    async with Services(names=("memory",), servers={"memory": child}) as services:
        kept = await services.remember("The bicycle is in the cellar.")
        hits = await services.recall("Where is the bicycle?")
        assert [hit["id"] for hit in hits] == [kept["id"]]
