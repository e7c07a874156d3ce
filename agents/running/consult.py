"""Whom to give a task to where several agents are about equally near: what past runs say decides.

Agents within a tenth of the best score are close. Where runs of at least two of them on tasks like
this one are known, one is drawn from what is known of each (Thompson sampling, memory server);
else the best stays. An agent that the user named or commanded is not argued with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ryzanstein.errors import RyzansteinError

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.agents.routing.route import Ranked

__all__ = ["consulted"]

CLOSE = 0.9
# Runs just like this one that must be known of an agent for its draw to say anything.
LEAST_WEIGHT = 1.0
_NAMED = frozenset({"mention", "command"})


async def consulted(
    task: str, ranked: Sequence[Ranked], services: Services
) -> tuple[Ranked, list[str]]:
    """The agent to take and why it was taken, beside its own reasons.

    Args:
        task: What is asked.
        ranked: Agents, best first.
        services: Reaches the memory server.
    """
    best = ranked[0]
    close = [one for one in ranked if one.score >= CLOSE * best.score]
    if len(close) < 2 or any(reason.kind in _NAMED for reason in best.reasons):
        return best, []
    asked = {"task": task[:20_000], "limit": 1, "candidates": [one.codename for one in close]}
    try:
        found = await services.call("memory", "find_experiences", asked)
    except RyzansteinError:
        return best, []
    known = [draw for draw in found.get("draws", ()) if draw["weight"] >= LEAST_WEIGHT]
    if len(known) < 2:
        return best, []
    first = max(known, key=lambda draw: float(draw["value"]))
    chosen = next(one for one in close if one.codename == first["agent"])
    return chosen, [f"drawn from {len(known)} agents that are close, by their past runs"]
