"""The cache server: states and answers that are kept, so that nothing is worked out twice.

states in memory   after the latest prompts of each loaded model; gone when the model is
states on disk     after system prompts, personas above all; they outlive the process
responses          whole answers, which a client looks up before it asks a model
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers._cache_replies import (
    CacheStats,
    Cleared,
    Kept,
    Looked,
    Place,
    StateBrief,
    StatePage,
    StoredResponse,
)
from ryzanstein.mcp_servers._factory import ADDS, CHANGES, DESTROYS, READS, make_server, page
from ryzanstein.mcp_servers._responses import ResponseCache
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import place
from ryzanstein.mcp_servers._work import in_thread

if TYPE_CHECKING:
    from ryzanstein.inference.loaded import LoadedModel
    from ryzanstein.inference.personas import SavedState, StateStore
    from ryzanstein.inference.prefix import CachedState

__all__ = ["mcp"]

_SHOWN = 1000  # of the prompt that an answer was kept for

INSTRUCTIONS = """Two caches on this machine.

States: after the latest prompts of each loaded model the engine keeps its state in memory; a prompt
that continues one of them costs only its new tokens. That works by itself. save_state keeps the
state after a system prompt on disk, where every later conversation that begins so finds it,
restore_state brings one back, list_states shows them.

Answers: lookup_response before a question to any model that may have been asked before,
store_response after it. An answer counts for its model and parameters and goes when its time is
over. cache_stats says how well both work, evict_entries makes room, clear_cache drops the states
in memory."""

mcp = make_server("cache", "Ryzanstein cache", INSTRUCTIONS)

ModelName = Annotated[str | None, Field(max_length=500)]
AnyModel = Annotated[str | None, Field(max_length=500)]
StateName = Annotated[str, Field(min_length=1, max_length=200)]
Label = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(min_length=1, max_length=1_000_000)]
# It is sent twice, as text and as a field, in a message that clients bound at a megabyte.
Answer = Annotated[str, Field(min_length=1, max_length=120_000)]
Asked = Annotated[dict[str, Any], Field(description="Whatever else decides the answer.")]


@mcp.tool(title="Cache statistics", annotations=READS)
def cache_stats() -> CacheStats:
    """Show what both caches hold and how much work they saved."""
    names = ("states", "bytes", "hits", "misses", "prompt_tokens", "cached_tokens")
    loaded = shared().has("engine")
    stats = shared().engine.cache_stats() if loaded else dict.fromkeys(names, 0)
    seen, saved, kept = stats["prompt_tokens"], _store().entries(), _responses().stats()
    return CacheStats(
        **{name: stats[name] for name in names},
        hit_share=round(stats["cached_tokens"] / seen, 4) if seen else 0.0,
        saved_states=len(saved),
        saved_bytes=sum(one.bytes for one in saved),
        responses=kept.responses,
        response_bytes=kept.bytes,
        response_hits=kept.exact + kept.near,
        response_misses=kept.missed,
    )


@mcp.tool(title="Look up a response", annotations=READS)
def lookup_response(
    prompt: Text,
    model: Annotated[str, Field(max_length=500)] = "",
    parameters: Asked = {},  # noqa: B006
    min_similarity: Annotated[
        float, Field(ge=0.5, le=1, description="1: only this very prompt.")
    ] = 0.9,
) -> Looked:
    """Find the kept answer to a prompt, or to one that says the same, before asking a model."""
    found = _responses().lookup(prompt, model or _default(), parameters, min_similarity)
    if found is None:
        return Looked(found=False)
    return Looked(
        found=True,
        id=found.id,
        response=found.response,
        prompt=found.prompt[:_SHOWN],
        similarity=found.similarity,
        age_seconds=round(max(0.0, time.time() - found.created), 1),
    )


@mcp.tool(title="Store a response", annotations=CHANGES)
def store_response(
    prompt: Text,
    response: Answer,
    model: Annotated[str, Field(max_length=500)] = "",
    parameters: Asked = {},  # noqa: B006
    ttl_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 86_400,
) -> StoredResponse:
    """Keep a model's answer for lookup_response. Not for what changes by the minute."""
    kept = _responses().store(prompt, response, model or _default(), parameters, ttl_seconds)
    expires = datetime.fromtimestamp(kept.expires, UTC).isoformat(timespec="seconds")
    return StoredResponse(id=kept.id, expires=expires)


@mcp.tool(title="List states", annotations=READS)
def list_states(
    model: AnyModel = None,
    place: Place | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Annotated[str, Field(max_length=20)] = "",
) -> StatePage:
    """List the states that are kept: what each begins with, and its size."""
    found = [_in_memory(*one) for one in _cached(model)] if place != "disk" else []
    found += [_on_disk(one) for one in _saved(model)] if place != "memory" else []
    states, following = page(found, limit, cursor)
    return StatePage(states=states, next_cursor=following)


@mcp.tool(title="Save a state", annotations=ADDS)
async def save_state(
    system: Annotated[
        str | None,
        Field(max_length=1_000_000, description="System prompt."),
    ] = None,
    state: Annotated[StateName | None, Field(description="Id of a state in memory.")] = None,
    label: Label = "",
    model: ModelName = None,
) -> Kept:
    """Keep a state on disk, for conversations that begin so. Give either system or state."""
    if (system is None) == (state is None):
        raise InvalidRequest("Give either system or state.", hint="list_states shows states.")
    engine, started = shared().engine, time.perf_counter()
    if system is not None:
        text = system
        saved = await in_thread(lambda stop: engine.warm(model, text, label, stop))
    else:
        loaded, entry = _chosen_in_memory(str(state), model)
        saved = await in_thread(lambda stop: loaded.save(entry, label))
    return _kept(_on_disk(saved), started)


@mcp.tool(title="Restore a state", annotations=CHANGES)
async def restore_state(
    state: Annotated[StateName, Field(description="Id or label of a state on disk.")],
    model: ModelName = None,
) -> Kept:
    """Bring a state from disk into memory, loading its model if need be."""
    started = time.perf_counter()
    saved = _chosen_on_disk(state, model)

    def work(_: object) -> StateBrief:
        loaded = shared().engine.get(model)
        return _in_memory(loaded, loaded.restore(saved))

    return _kept(await in_thread(work), started)


@mcp.tool(title="Evict entries", annotations=DESTROYS)
def evict_entries(
    states: Annotated[
        list[StateName], Field(max_length=1000, description="Ids, or labels of states.")
    ] = [],  # noqa: B006
    keep_bytes: Annotated[
        int | None, Field(ge=0, description="Instead: keep the latest used, at most so much.")
    ] = None,
    model: AnyModel = None,
    place: Literal["memory", "disk", "responses"] = "memory",
) -> Cleared:
    """Drop chosen states or kept responses, or those used the longest ago."""
    if bool(states) == (keep_bytes is not None):
        raise InvalidRequest("Give either states or keep_bytes.")
    if place == "responses":
        sizes = _responses().evict(states, keep_bytes, model)
        return Cleared(states=len(sizes), bytes=sum(sizes))
    if place == "memory":
        held = [(_in_memory(loaded, one), (loaded, one)) for loaded, one in _cached(model)]
        cached = _evicted(held, states, keep_bytes)
        dropped = [brief for brief, (loaded, one) in cached if _drop(loaded, one)]
    else:
        store = _store()
        kept = _evicted([(_on_disk(one), one) for one in _saved(model)], states, keep_bytes)
        dropped = [brief for brief, one in kept if store.remove(one)]
    return Cleared(states=len(dropped), bytes=sum(brief.bytes for brief in dropped))


@mcp.tool(title="Clear the cache", annotations=DESTROYS)
def clear_cache(
    model: AnyModel = None,
) -> Cleared:
    """Drop the states in memory; those on disk stay. Answers stay the same."""
    if not shared().has("engine"):
        return Cleared(states=0, bytes=0)
    held = sum(one.state.nbytes for _, one in _cached(model))
    return Cleared(states=shared().engine.clear_cache(model), bytes=held)


@mcp.resource("cache://policy", mime_type="application/json", title="Cache policy")
def policy() -> str:
    """What is kept, and what goes first."""
    settings = shared().settings
    return json.dumps(
        {
            "kind": "prefix",
            "keeps": "the state after the latest prompts of each loaded model, and after system "
            "prompts on disk",
            "evicts": "the state that was used the longest ago",
            "context_tokens": settings.context_tokens,
            "disk_folder": place(settings.states_path),
            "disk_megabytes": settings.states_mb,
            "responses": {
                "finds": "the same prompt, model and parameters, or a prompt that says the same",
                "evicts": "what is out of date, then the answer that was used the longest ago",
                "megabytes": settings.responses_mb,
            },
        }
    )


def _responses() -> ResponseCache:
    def make() -> ResponseCache:
        from ryzanstein.memory.embed import get_embedder

        settings = shared().settings
        file, most = settings.own_dir / "responses.db", settings.responses_mb << 20
        return ResponseCache(file, most, lambda: get_embedder(settings.embedding))

    return shared().own("responses", make)


def _default() -> str:
    return shared().catalogue.default()


def _store() -> StateStore:
    from ryzanstein.inference.personas import StateStore

    if shared().has("engine"):
        return shared().engine.store
    settings = shared().settings  # no engine is made only to look at files
    return StateStore(settings.states_path, settings.states_mb << 20)


def _cached(model: str | None) -> list[tuple[LoadedModel, CachedState]]:
    """The states in memory of one model or of all, the latest used first."""
    if not shared().has("engine"):
        return []
    found = shared().engine.cached()
    return [one for one in reversed(found) if model in (None, one[0].name)]


def _saved(model: str | None) -> list[SavedState]:
    """The states on disk of one model or of all, the latest used first."""
    found = reversed(_store().entries())
    if model is None:
        return list(found)
    path = shared().catalogue.resolve(model)
    names = {path.name, *(file.name for file in path.glob("*.gguf"))}
    return [one for one in found if one.model in names]


def _in_memory(loaded: LoadedModel, entry: CachedState) -> StateBrief:
    from ryzanstein.inference.personas import state_id

    ids = entry.ids.tolist()
    return StateBrief(
        id=state_id(ids),
        label=" ".join(loaded.text(ids).split())[:80],
        model=place(loaded.name),
        place="memory",
        tokens=len(ids),
        bytes=entry.state.nbytes,
    )


def _on_disk(saved: SavedState) -> StateBrief:
    return StateBrief(
        id=saved.id,
        label=saved.label,
        model=saved.model,
        place="disk",
        tokens=saved.tokens,
        bytes=saved.bytes,
        idle_seconds=round(max(0.0, time.time() - saved.used), 1),
    )


def _kept(brief: StateBrief, started: float) -> Kept:
    return Kept(**brief.model_dump(), seconds=round(time.perf_counter() - started, 4))


def _chosen_in_memory(state: str, model: str | None) -> tuple[LoadedModel, CachedState]:
    for loaded, entry in _cached(model):
        if _in_memory(loaded, entry).id == state:
            return loaded, entry
    raise InvalidRequest(
        f"No state {state!r} is in memory.", hint="list_states with place memory shows the ids."
    )


def _chosen_on_disk(state: str, model: str | None) -> SavedState:
    """The latest used one of the model with this id or label, or of another for the error."""
    for found in (_saved(model or _default()), _saved(None)):
        for one in found:
            if state in (one.id, one.label):
                return one
    raise InvalidRequest(
        f"No state {state!r} is on disk.", hint="list_states with place disk shows them."
    )


def _evicted(
    held: list[tuple[StateBrief, Any]], states: list[str], keep_bytes: int | None
) -> list[tuple[StateBrief, Any]]:
    """Those that are to go, of `held`, which has the latest used first."""
    if keep_bytes is None:
        return [one for one in held if {one[0].id, one[0].label} & set(states)]
    kept, gone = 0, []
    for one in held:
        kept += one[0].bytes
        if kept > keep_bytes:
            gone.append(one)
    return gone


def _drop(loaded: LoadedModel, entry: CachedState) -> bool:
    with loaded.lock:
        return loaded.cache.drop(entry)
