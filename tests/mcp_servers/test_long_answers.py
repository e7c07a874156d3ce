"""Answers stay below what HTTP clients take in one message: a megabyte in the official SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import Client
from mcp_types import CallToolResult

from ryzanstein.mcp_servers._memory_replies import Stored, among_others

WIDE = "\N{GRINNING FACE}"  # four bytes, the most that a character takes


@pytest.fixture(params=["legacy", "auto"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def _called(client: Client, tool: str, **arguments: Any) -> CallToolResult:
    async def hear(*_: Any) -> None:
        """Whoever listens for progress gets the answer as a message of a stream."""

    found = await client.call_tool(tool, arguments, progress_callback=hear)
    assert not found.is_error, found.content
    return found


async def test_long_memories_are_recalled_in_part_and_linked_to(base_url: str, mode: str) -> None:
    long = [f"Tale {number} of the sea. {WIDE * 199_000}" for number in range(3)]
    async with Client(f"{base_url}/mcp/memory", mode=mode) as client:
        for text in long:
            await _called(client, "remember", text=text, tags=["sea"])
        found = await _called(client, "recall", query="tales of the sea", limit=3)
        memories = (found.structured_content or {})["memories"]
        assert len(memories) == 3
        assert all(one["text"].endswith(f"(all of it: memory://{one['id']})") for one in memories)
        assert len(found.content[0].text) < 5000  # type: ignore[union-attr]
        links = [str(one.uri) for one in found.content[1:]]  # type: ignore[union-attr]
        assert links == [f"memory://{one['id']}" for one in memories]
        whole = await client.read_resource(links[0])
        assert WIDE * 199_000 in whole.contents[0].text  # type: ignore[union-attr]
        tagged = await client.read_resource("memory://tag/sea")
        assert "all of it: memory://" in tagged.contents[0].text  # type: ignore[union-attr]


async def test_the_longest_answer_that_is_kept_is_found(base_url: str, mode: str) -> None:
    async with Client(f"{base_url}/mcp/cache", mode=mode) as client:
        await _called(client, "store_response", prompt="long", response=WIDE * 120_000)
        found = await _called(client, "lookup_response", prompt="long")
    assert (found.structured_content or {})["response"] == WIDE * 120_000


async def test_as_many_texts_as_are_allowed_are_embedded(base_url: str, mode: str) -> None:
    texts = [f"text number {number}" for number in range(256)]
    async with Client(f"{base_url}/mcp/inference", mode=mode) as client:
        found = await _called(client, "embed_text", texts=texts)
    assert len((found.structured_content or {})["vectors"]) == 256


async def test_more_numbers_than_an_answer_holds_are_refused(
    fault: Callable[..., Awaitable[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.mcp_servers._inference._NUMBERS", 512)
    error = await fault("inference", "embed_text", texts=["a", "b", "c"])
    assert (error["code"], error["hint"]) == ("INVALID_REQUEST", "Send at most 2 texts at once.")


def test_a_text_that_fits_is_left_as_it_is() -> None:
    kept = Stored(
        id="m", text="short", tier="semantic", kind="fact", importance=0.5, created="", updated=""
    )
    assert among_others(kept, 50) == kept
