"""Remembering and recalling on the store of the context, and what the memory server offers."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, Store, ToolContext
from ryzanstein.tools.other_servers import ask
from ryzanstein.tools.toolbox import tool

_SOURCE = "tool"
_LEARNT = ("strategy", "lesson", "reason")
_Id = Annotated[
    str,
    Field(
        min_length=1, max_length=64, description="of the memory, as recall with ids=true gives it"
    ),
]
# Of what is kept after text from outside was read, unless it is in the user's own words.
_OUTSIDE = "outside"


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
    source = _OUTSIDE if ctx.tainted and not ctx.own_words else _SOURCE
    kept = await _call(
        store.remember, text.strip(), agent=ctx.agent, tags=tuple(tags), source=source
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
    ids: Annotated[
        bool, Field(description="show each id, as correct_memory and forget_memory want it")
    ] = False,
) -> Output:
    """Find facts that were remembered earlier.

    Use when the user asks for something told before.

    Raises:
        ToolError: There is no memory here.
    """
    found = list(await _call(_store(ctx).recall, query, limit=limit))
    rows = [_row(hit) for hit in found[:limit]]
    shown = (f"- {row['id']}: {row['text']}" if ids else f"- {row['text']}" for row in rows)
    text = "\n".join(shown) or "Nothing is remembered about this."
    return Output(text, {"hits": rows})


@tool(
    title="Correct a memory",
    example={"id": "mem_0123456789abcdef", "text": "The staging server is called crane."},
    main=("text", "json"),
    forms={"id": "line", "text": "line"},
)
async def correct_memory(
    ctx: ToolContext,
    id: _Id,
    text: Annotated[str, Field(min_length=1, max_length=5000, description="what holds instead")],
) -> Output:
    """Replace a remembered fact by what holds now; the old version stays readable.

    Use when something that recall found has changed.

    Raises:
        ToolError: There is no memory here.
        InvalidRequest: There is no such memory, or it was replaced already.
    """
    found = await ask(ctx, "memory", "remember", {"text": text.strip(), "corrects": id.strip()})
    return Output(f"Corrected: {found['text']}", {"id": found["id"], "text": found["text"]})


@tool(
    title="Forget a memory",
    destructive=True,
    idempotent=True,
    example={"id": "mem_0123456789abcdef"},
    main=("id", "line"),
)
async def forget_memory(ctx: ToolContext, id: _Id) -> Output:
    """Delete one remembered fact for good.

    Use only when the user asks to forget it; correct_memory is for what has changed.

    Raises:
        ToolError: There is no memory here, or none of that id.
    """
    found = await ask(ctx, "memory", "forget", {"id": id.strip()})
    if not found["forgotten"]:
        raise ToolError(
            f"There is no memory {id.strip()}.", hint="recall with ids=true gives the ids."
        )
    return Output(f"Forgotten: {id.strip()}", {"id": id.strip()})


@tool(
    title="Find an experience",
    read_only=True,
    untrusted=True,
    example={"task": "count the rows of a CSV file by region"},
    main=("task", "line"),
)
async def find_experience(
    ctx: ToolContext,
    task: Annotated[
        str, Field(min_length=1, max_length=5000, description="the task, in your own words")
    ],
    limit: Annotated[int, Field(ge=1, le=20, description="how many at most")] = 3,
) -> Output:
    """Find how similar tasks went before: what worked, what failed, what was learnt.

    Use before a task that may have been done before.

    Raises:
        ToolError: There is no memory here.
    """
    arguments = {"task": task, "limit": limit, "agent": ctx.agent}
    found = await ask(ctx, "memory", "find_experiences", arguments)
    rows = [
        {key: one.get(key) for key in ("id", "task", "agent", "outcome", *_LEARNT, "score")}
        for one in found["experiences"]
    ]
    text = "\n".join(_experience(row) for row in rows) or "No such task is known."
    return Output(text, {"experiences": rows})


@tool(
    title="Count memories",
    read_only=True,
    example={},
    main=("by", "line"),
)
async def count_memories(
    ctx: ToolContext,
    by: Annotated[
        Literal["tier", "kind", "agent", "outcome"], Field(description="how to count them")
    ] = "tier",
) -> Output:
    """Count what is remembered: facts, experiences and runs.

    Use to see how much memory there is.

    Raises:
        ToolError: There is no memory here.
    """
    found = await ask(ctx, "memory", "memory_stats", {})
    lines = [f"{name}: {found[name]:,}" for name in ("memories", "experiences", "runs", "archived")]
    lines += [f"{by} {name}: {count:,}" for name, count in sorted(found[f"by_{by}"].items())]
    return Output("\n".join(lines), found)


def _experience(row: dict[str, Any]) -> str:
    said = [f"{name}: {row[name]}" for name in _LEARNT if row[name]]
    return "; ".join([f"- {row['outcome']} ({row['agent']}): {row['task']}", *said])


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
