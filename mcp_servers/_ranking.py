"""Which agents fit a task, with what past runs taught the router."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from ryzanstein.mcp_servers._shared import shared

if TYPE_CHECKING:
    from ryzanstein.agents.route import Router
    from ryzanstein.agents.services import Services
    from ryzanstein.memory.records import AgentPrototypes

__all__ = ["current_router", "ranked"]


async def ranked(task: str, top_k: int) -> dict[str, Any]:
    """Ranks the agents for a task, with what past runs taught."""
    from ryzanstein.agents.services import Services

    async with Services(shared().registry, names=("memory",)) as services:
        router = await current_router(services)
    found = await anyio.to_thread.run_sync(lambda: router.route(task, top_k=top_k))
    agents = [
        {"codename": one.codename, "score": one.score, "reasons": [str(r) for r in one.reasons]}
        for one in found.agents
    ]
    return {
        "agents": agents,
        "ms": round(found.ms, 3),
        "complexity": found.complexity.level,
        "fits": found.fits,
        "scope": round(found.scope, 4),
        "notes": list(found.notes),
    }


async def current_router(services: Services) -> Router:
    prototypes = _prototypes(await services.read_json("memory", "memory://prototypes"))

    def current() -> Router:
        router = shared().router
        router.use(prototypes)
        return router

    return await anyio.to_thread.run_sync(current)


def _prototypes(wire: Mapping[str, Any]) -> AgentPrototypes:
    import numpy as np

    from ryzanstein.memory.records import AgentPrototype, AgentPrototypes

    def vector(text: str) -> Any:
        return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)

    agents = {
        name: AgentPrototype(one["count"], one["weight"], vector(one["total"]))
        for name, one in wire["agents"].items()
    }
    return AgentPrototypes(
        wire["model_id"], wire["dimension"], agents, vector(wire["mean"]), wire["count"]
    )
