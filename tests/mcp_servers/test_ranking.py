"""The router of the orchestrator, where the memory fails it."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from ryzanstein.errors import ServerUnavailable
from ryzanstein.mcp_servers._ranking import current_router
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.memory.embed import get_embedder


class _Memory:
    """Memory that knows how often agents ran, and loses its examples."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.asked: list[str] = []

    async def read_json(self, server: str, uri: str) -> dict[str, Any]:
        self.asked.append(uri)
        if uri == "memory://examples":
            raise ServerUnavailable("It is gone.")
        embedder = get_embedder(shared().settings.embedding)
        total = base64.b64encode(np.ones(embedder.dimension, "<f4").tobytes()).decode()
        agents = {"APEX": {"count": 20, "weight": 20.0, "total": total}}
        known = {"model_id": embedder.model_id, "dimension": embedder.dimension}
        return {**known, "agents": agents, "mean": total, "count": 20}

    async def failed(self, reason: str) -> None:
        self.failures.append(reason)


async def test_without_examples_tasks_are_routed_and_they_are_asked_for_again() -> None:
    shared().reset(keep=("engine",))
    memory: Any = _Memory()
    for _ in range(2):
        router = await current_router(memory)
    assert router.route("Write a function that sorts words", top_k=1).agents
    assert memory.failures == ["Routed without examples of past runs: It is gone."] * 2
    assert memory.asked.count("memory://examples") == 2
    shared().reset(keep=("engine",))
