from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.memory import open_store
from ryzanstein.tools import ToolContext, ToolResult, call_tool

Call = Callable[..., Awaitable[ToolResult]]


async def test_what_was_remembered_is_recalled(call: Call, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'memory.db'}")
    try:
        kept = await call(
            "remember",
            {"text": " The staging server is called heron. ", "tags": ["servers"]},
            store=store,
            agent="APEX",
        )
        assert kept.text == "Remembered: The staging server is called heron." and kept.data["id"]
        await call("remember", "Ann likes green tea.", store=store)
        found = await call("recall", "what is the staging server's name", store=store)
        assert (
            found.untrusted
            and found.text.splitlines()[0] == "- The staging server is called heron."
        )
        assert found.data["hits"][0]["tags"] == ["servers"]
        one = await call("recall", {"query": "tea", "limit": 1}, store=store)
        assert one.text == "- Ann likes green tea."
        with pytest.raises(ToolError, match="only reading"):
            await call("remember", "x y z", store=store, read_only=True)
    finally:
        store.close()


class AsyncStore:
    def __init__(self) -> None:
        self.texts: list[str] = []

    async def remember(self, text: str, **options: Any) -> None:
        self.texts.append(text)

    async def recall(self, query: str, **options: Any) -> list[str]:
        return self.texts


async def test_a_store_may_be_reached_asynchronously(call: Call) -> None:
    store = AsyncStore()
    assert (await call("recall", "x", store=store)).text == "Nothing is remembered about this."
    await call("remember", "fact", store=store)
    assert (await call("recall", "x", store=store)).text == "- fact"


async def test_without_a_store_or_a_text_it_is_said() -> None:
    for name in ("remember", "recall"):
        with pytest.raises(ToolError, match="no memory here"):
            await call_tool(ToolContext(), name, "x")
    with pytest.raises(ToolError, match="nothing to remember"):
        await call_tool(ToolContext(store=AsyncStore()), "remember", "  ")
