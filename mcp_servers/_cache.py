"""The cache server: the states that the engine keeps, so that a known prompt is not read again."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from ryzanstein.mcp_servers._factory import DESTROYS, READS, Reply, make_server, page
from ryzanstein.mcp_servers._shared import shared

__all__ = ["mcp"]

INSTRUCTIONS = """The engine keeps the model's state after the latest prompts of each loaded
model; a prompt that continues one of them costs only its new tokens.

cache_stats says how well that works, list_states what is kept, clear_cache gives the memory back
(answers stay the same, the next one is slower)."""

mcp = make_server("cache", "Ryzanstein cache", INSTRUCTIONS)


class CacheStats(Reply):
    """How well the prefix cache works."""

    states: int
    bytes: int
    hits: int
    misses: int
    prompt_tokens: int
    cached_tokens: int
    hit_share: float

    def brief(self) -> str:
        """Returns the main numbers in a sentence."""
        return (
            f"{self.states} states, {self.bytes / 1e6:.1f} MB; "
            f"{self.hits} hits, {self.misses} misses; "
            f"{100 * self.hit_share:.0f} % of the prompt tokens came from the cache."
        )


class StateBrief(Reply):
    """One state that is kept."""

    model: str
    tokens: int
    bytes: int


class StatePage(Reply):
    """States, by model, the latest used first."""

    states: list[StateBrief]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line a state."""
        lines = [f"{s.model}: {s.tokens} tokens, {s.bytes / 1e6:.1f} MB" for s in self.states]
        return "\n".join(lines) or "No states are kept."


class Cleared(Reply):
    """What was given back."""

    states: int
    bytes: int

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.states} states are dropped, {self.bytes / 1e6:.1f} MB are free."


@mcp.tool(title="Cache statistics", annotations=READS)
def cache_stats() -> CacheStats:
    """Show how much the prefix cache holds and how much reading it saved."""
    stats = _stats()
    seen = stats["prompt_tokens"]
    return CacheStats(**stats, hit_share=round(stats["cached_tokens"] / seen, 4) if seen else 0.0)


@mcp.tool(title="List states", annotations=READS)
def list_states(
    model: Annotated[str | None, Field(max_length=500)] = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Annotated[str, Field(max_length=20)] = "",
) -> StatePage:
    """List the states that are kept: how many tokens each holds and what it takes."""
    found = [one for one in _states() if model is None or one["model"] == model]
    states, following = page(found, limit, cursor)
    return StatePage(states=[StateBrief(**one) for one in states], next_cursor=following)


@mcp.tool(title="Clear the cache", annotations=DESTROYS)
def clear_cache(
    model: Annotated[str | None, Field(max_length=500, description="None: of every model.")] = None,
) -> Cleared:
    """Drop the kept states. Answers stay the same; the next one is slower."""
    if not shared().has("engine"):
        return Cleared(states=0, bytes=0)
    held = sum(one["bytes"] for one in _states() if model in (None, one["model"]))
    return Cleared(states=shared().engine.clear_cache(model), bytes=held)


@mcp.resource("cache://policy", mime_type="application/json", title="Cache policy")
def policy() -> str:
    """What is kept, and what goes first."""
    return json.dumps(
        {
            "kind": "prefix",
            "keeps": "the state after the latest prompts of each loaded model",
            "evicts": "the state that was used the longest ago",
            "context_tokens": shared().settings.context_tokens,
        }
    )


def _stats() -> dict[str, Any]:
    names = ("states", "bytes", "hits", "misses", "prompt_tokens", "cached_tokens")
    if not shared().has("engine"):
        return dict.fromkeys(names, 0)
    stats = shared().engine.cache_stats()
    return {name: stats[name] for name in names}


def _states() -> list[dict[str, Any]]:
    return list(shared().engine.cache_states()) if shared().has("engine") else []
