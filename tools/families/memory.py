"""Remembering and recalling, on the store of the context."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, Store, ToolContext
from ryzanstein.tools.toolbox import tool

_SOURCE = "tool"


@tool(
    title="Remember",
    example={"text": "The staging server is called heron."},
    main=("text", "line"),
)
async def remember(
    ctx: ToolContext,
    text: Annotated[
        str, Field(min_length=1, max_length=5000, description="the fact, as a whole sentence")
    ],
    tags: Annotated[
        tuple[Annotated[str, Field(max_length=50)], ...],
        Field(max_length=10, description="words to find it by"),
    ] = (),
) -> Output:
    """Keep a fact for later.

    Use when the user tells something that should still be known another day.

    Raises:
        ToolError: There is no memory here.
    """
    if not text.strip():
        raise ToolError("There is nothing to remember.", hint="Give the fact as a sentence.")
    store = _store(ctx)
    kept = await _call(
        store.remember, text.strip(), agent=ctx.agent, tags=tuple(tags), source=_SOURCE
    )
    identity = getattr(kept, "id", None)
    return Output(f"Remembered: {text.strip()}", {"id": identity, "text": text.strip()})


@tool(
    title="Recall",
    read_only=True,
    untrusted=True,
    example={"query": "name of the staging server"},
    main=("query", "line"),
)
async def recall(
    ctx: ToolContext,
    query: Annotated[
        str, Field(min_length=1, max_length=2000, description="what you want to know")
    ],
    limit: Annotated[int, Field(ge=1, le=50, description="how many facts at most")] = 5,
) -> Output:
    """Find facts that were remembered earlier.

    Use when the user asks for something told before.

    Raises:
        ToolError: There is no memory here.
    """
    found = list(await _call(_store(ctx).recall, query, limit=limit))
    rows = [_row(hit) for hit in found[:limit]]
    text = "\n".join(f"- {row['text']}" for row in rows) or "Nothing is remembered about this."
    return Output(text, {"hits": rows})


def _store(ctx: ToolContext) -> Store:
    if ctx.store is None:
        raise ToolError("There is no memory here.", hint="Go on without it.")
    return ctx.store


async def _call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Calls a method of the store; a plain one may wait for a disk, so it gets a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **options)
    return await anyio.to_thread.run_sync(lambda: function(*args, **options))


def _row(hit: Any) -> dict[str, Any]:
    memory = getattr(hit, "memory", hit)
    tags = getattr(memory, "tags", ())
    score = getattr(hit, "score", None)
    return {
        "id": getattr(memory, "id", None),
        "text": str(getattr(memory, "text", memory)),
        "tags": [str(tag) for tag in tags],
        "score": None if score is None else float(score),
    }
