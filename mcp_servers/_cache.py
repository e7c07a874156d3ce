"""The cache server: the states that the engine keeps, so that a known prompt is not read again.

memory   after the latest prompts of each loaded model; gone when the model is
disk     after system prompts, personas above all; they outlive the process
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers._factory import ADDS, CHANGES, DESTROYS, READS, Reply, make_server, page
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._work import in_thread

if TYPE_CHECKING:
    from ryzanstein.inference.loaded import LoadedModel
    from ryzanstein.inference.personas import SavedState, StateStore
    from ryzanstein.inference.prefix import CachedState

__all__ = ["mcp"]

INSTRUCTIONS = """The engine keeps the model's state after the latest prompts of each loaded
model in memory; a prompt that continues one of them costs only its new tokens. States after system
prompts, an agent's persona for instance, are also kept on disk and found there by every later
conversation that begins so.

cache_stats says how well that works, list_states what is kept and where. save_state runs a system
prompt and keeps the state after it, or writes one from memory to disk; restore_state brings one
back. evict_entries drops chosen ones or the least recently used, clear_cache everything in memory
(answers stay the same, the next one is slower)."""

mcp = make_server("cache", "Ryzanstein cache", INSTRUCTIONS)

ModelName = Annotated[
    str | None, Field(max_length=500, description="Name or path; none: the default.")
]
StateName = Annotated[str, Field(min_length=1, max_length=200)]
Label = Annotated[
    str, Field(max_length=200, description="What to call it; none: how its text begins.")
]
Place = Literal["memory", "disk"]


class CacheStats(Reply):
    """How well the prefix cache works."""

    states: int
    bytes: int
    hits: int
    misses: int
    prompt_tokens: int
    cached_tokens: int
    hit_share: float
    saved_states: int = 0
    saved_bytes: int = 0

    def brief(self) -> str:
        """Returns the main numbers in a sentence."""
        return (
            f"{self.states} states, {self.bytes / 1e6:.1f} MB; "
            f"{self.hits} hits, {self.misses} misses; "
            f"{100 * self.hit_share:.0f} % of the prompt tokens came from the cache; "
            f"{self.saved_states} states on disk, {self.saved_bytes / 1e6:.1f} MB."
        )


class StateBrief(Reply):
    """One state that is kept."""

    id: str
    label: str
    model: str
    place: Place
    tokens: int
    bytes: int
    idle_seconds: float | None = None

    def brief(self) -> str:
        """Returns one line."""
        return (
            f"{self.id} ({self.place}) {self.model}: {self.tokens} tokens, "
            f"{self.bytes / 1e6:.1f} MB, {self.label}"
        )


class StatePage(Reply):
    """States in memory, then on disk, the latest used first."""

    states: list[StateBrief]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line a state."""
        return "\n".join(state.brief() for state in self.states) or "No states are kept."


class Kept(StateBrief):
    """A state that was saved or restored."""

    seconds: float

    def brief(self) -> str:
        """Returns one line."""
        return f"{super().brief()} ({self.seconds:.3f} s)"


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
    names = ("states", "bytes", "hits", "misses", "prompt_tokens", "cached_tokens")
    loaded = shared().has("engine")
    stats = shared().engine.cache_stats() if loaded else dict.fromkeys(names, 0)
    seen, saved = stats["prompt_tokens"], _store().entries()
    return CacheStats(
        **{name: stats[name] for name in names},
        hit_share=round(stats["cached_tokens"] / seen, 4) if seen else 0.0,
        saved_states=len(saved),
        saved_bytes=sum(one.bytes for one in saved),
    )


@mcp.tool(title="List states", annotations=READS)
def list_states(
    model: Annotated[str | None, Field(max_length=500)] = None,
    place: Annotated[Place | None, Field(description="None: both.")] = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    cursor: Annotated[str, Field(max_length=20)] = "",
) -> StatePage:
    """List the states that are kept: what each begins with, its tokens, and what it takes."""
    found = [_in_memory(*one) for one in _cached(model)] if place != "disk" else []
    found += [_on_disk(one) for one in _saved(model)] if place != "memory" else []
    states, following = page(found, limit, cursor)
    return StatePage(states=states, next_cursor=following)


@mcp.tool(title="Save a state", annotations=ADDS)
async def save_state(
    system: Annotated[
        str | None,
        Field(max_length=1_000_000, description="System prompt to run, unless it is kept already."),
    ] = None,
    state: Annotated[
        StateName | None, Field(description="Id of a state in memory, from list_states.")
    ] = None,
    label: Label = "",
    model: ModelName = None,
) -> Kept:
    """Keep a state on disk, so that conversations that begin so start at once from now on.

    Give either a system prompt or a state.
    """
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
    """Bring a state from disk into memory, loading its model if need be.

    It is refused where it is damaged, or of another model or weight form.
    """
    started = time.perf_counter()
    saved = _chosen_on_disk(state, model)

    def work(_: object) -> StateBrief:
        loaded = shared().engine.get(model)
        return _in_memory(loaded, loaded.restore(saved))

    return _kept(await in_thread(work), started)


@mcp.tool(title="Evict states", annotations=DESTROYS)
def evict_entries(
    states: Annotated[
        list[StateName], Field(max_length=1000, description="Ids or labels; none: the oldest.")
    ] = [],  # noqa: B006
    keep_bytes: Annotated[
        int | None,
        Field(ge=0, description="Drop the least recently used until at most so many are left."),
    ] = None,
    model: Annotated[str | None, Field(max_length=500, description="None: of every model.")] = None,
    place: Place = "memory",
) -> Cleared:
    """Drop chosen states, or the least recently used ones beyond keep_bytes.

    Answers stay the same; the next one that needed them is slower.
    """
    if bool(states) == (keep_bytes is not None):
        raise InvalidRequest("Give either states or keep_bytes.")
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
    model: Annotated[str | None, Field(max_length=500, description="None: of every model.")] = None,
) -> Cleared:
    """Drop the states in memory; those on disk stay. Answers stay the same; the next is slower."""
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
            "disk_folder": str(settings.states_path),
            "disk_megabytes": settings.states_mb,
        }
    )


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
        model=loaded.name,
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
    for found in (_saved(model or shared().catalogue.default()), _saved(None)):
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
