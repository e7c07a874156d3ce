"""The models of this machine: which there are, what they are, and what they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from ryzanstein.machine import available_memory
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.other_servers import ask
from ryzanstein.tools.toolbox import tool

_MIB = 1 << 20
_HALF = 2  # bytes of a cached value
# What the process, the tokenizer and the working arrays take besides.
_BESIDES = 200 * _MIB
_Name = Annotated[
    str, Field(min_length=1, max_length=500, description="as list_local_models names it, or a file")
]


@tool(
    title="List local models",
    read_only=True,
    example={"present": True},
    main=("present", "json"),
)
async def list_local_models(
    ctx: ToolContext,
    present: Annotated[bool, Field(description="only those that are on this machine")] = False,
) -> Output:
    """List the language models that are known here, with size, and which is loaded.

    Use to choose a model.

    Raises:
        ToolError: There is no model server here.
        RyzansteinError: What the model server says.
    """
    found = await ask(ctx, "model", "list_models", {"limit": 100})
    models = [one for one in found["models"] if one["present"] or not present]
    lines = [_line(one) for one in models]
    return Output("\n".join(lines) or "There is no model here.", {"models": models})


@tool(
    title="Describe a local model",
    read_only=True,
    example={"name": "qwen2.5-coder-0.5b"},
    main=("name", "line"),
)
async def describe_local_model(ctx: ToolContext, name: _Name) -> Output:
    """Show a model's family, size, window, licence, place and shape.

    Use to see what a model is before using it.

    Raises:
        ToolError: There is no model server here.
        ModelNotFound: There is no such model.
    """
    found = await ask(ctx, "model", "describe_model", {"name": name.strip()})
    keys = ("family", "parameters", "licence", "context", "path", "sha256")
    lines = [_line(found), *(f"{key}: {found[key]}" for key in keys if found.get(key))]
    lines += [f"{key}: {value}" for key, value in sorted(found.get("config", {}).items())]
    return Output("\n".join(lines), found)


@tool(
    title="Estimate a model's memory",
    read_only=True,
    example={"name": "qwen2.5-coder-0.5b", "context": 4096},
    main=("name", "line"),
)
async def model_memory_needs(
    ctx: ToolContext,
    name: _Name,
    context: Annotated[
        int, Field(ge=1, le=1_000_000, description="tokens of the window that are used")
    ] = 4096,
) -> Output:
    """Estimate the memory that a model and its window take, and whether it fits.

    Use before a model is loaded on a small machine.

    Raises:
        ToolError: There is no model server here.
        ModelNotFound: There is no such model.
    """
    found = await ask(ctx, "model", "describe_model", {"name": name.strip()})
    weights = int(found.get("packed_bytes") or found["bytes"])
    cache = cache_bytes(found.get("config", {})) * context
    total = weights + cache + _BESIDES
    free = available_memory()
    fits = total <= free or bool(found.get("loaded"))
    lines = [
        f"weights: {weights / _MIB:,.0f} MiB",
        f"cache of {context:,} tokens: {cache / _MIB:,.0f} MiB",
        f"in all about {total / _MIB:,.0f} MiB; free now: {free / _MIB:,.0f} MiB",
        "It fits." if fits else "It does not fit: choose a smaller model or window.",
    ]
    if not found["present"]:
        lines.append("[it is not on this machine yet, so the cache is not known]")
    data = {"weights": weights, "cache": cache, "total": total, "available": free, "fits": fits}
    return Output("\n".join(lines), {"name": name, "context": context, **data})


def cache_bytes(config: Mapping[str, Any]) -> int:
    """Returns the bytes that one token's keys and values take; 0 for recurrent models."""
    heads = config.get("num_attention_heads")
    if not heads or not config.get("num_hidden_layers"):
        return 0
    width = config.get("head_dim") or int(config.get("hidden_size", 0)) // int(heads)
    shared = int(config.get("num_key_value_heads") or heads)
    return 2 * int(config["num_hidden_layers"]) * shared * int(width) * _HALF


def _line(one: Mapping[str, Any]) -> str:
    marks = [word for word in ("default", "loaded") if one.get(word)]
    marks.insert(0, "here" if one["present"] else "not here")
    return f"{one['name']}: {one['family']}, {one['bytes'] / 1e6:,.0f} MB, {', '.join(marks)}"
