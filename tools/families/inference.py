"""The local model as a tool, and comparing texts by meaning."""

from __future__ import annotations

from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import given_text
from ryzanstein.tools.other_servers import ask
from ryzanstein.tools.toolbox import tool

_MOST_TOKENS = 2048
_ModelName = Annotated[
    str, Field(max_length=500, description="name of a model; left out: the default")
]
_Label = Annotated[str, Field(min_length=1, max_length=500)]


@tool(
    title="Ask a model",
    read_only=True,
    untrusted=True,
    example={"question": "Summarise in one sentence: The meeting was moved to Friday."},
    main=("question", "code"),
    time_limit=300.0,
)
async def ask_model(
    ctx: ToolContext,
    question: Annotated[
        str, Field(min_length=1, max_length=50_000, description="question and all it needs")
    ],
    choices: Annotated[
        tuple[_Label, ...], Field(max_length=50, description="answer exactly one of these")
    ] = (),
    model: _ModelName = "",
    max_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS, description="longest answer")] = 512,
) -> Output:
    """Ask the local language model a question by itself.

    Use to summarise, rephrase, translate or judge a text that you give it. It sees nothing but the
    question, and it can be wrong.

    Raises:
        ToolError: There is no model here.
        RyzansteinError: What the inference server says.
    """
    arguments: dict[str, Any] = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "choices": list(choices) or None,
        "model": model or None,
    }
    found = await ask(ctx, "inference", "chat", arguments)
    text = str(found["text"]).strip()
    cut = "\n[it was cut at max_tokens]" if found["finish_reason"] == "length" else ""
    keys = ("text", "model", "prompt_tokens", "tokens", "finish_reason", "seconds")
    return Output((text or "(nothing)") + cut, {key: found[key] for key in keys})


@tool(
    title="Count tokens of a text",
    read_only=True,
    example={"text": "How many tokens is this?"},
    main=("text", "code"),
    time_limit=120.0,
)
async def count_tokens_of(
    ctx: ToolContext,
    text: Annotated[
        str, Field(max_length=200_000, description="the text itself, where there is no file")
    ] = "",
    path: Annotated[str, Field(max_length=4096, description="a text file")] = "",
    model: _ModelName = "",
) -> Output:
    """Count the tokens that a text or a file takes in a model's window.

    Use before a long text is given to a model.

    Raises:
        ToolError: No such file, or there is no model here.
        RyzansteinError: What the inference server says.
    """
    whole = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    found = await ask(ctx, "inference", "count_tokens", {"text": whole, "model": model or None})
    data = {"tokens": found["tokens"], "model": found["model"], "characters": len(whole)}
    return Output(f"{found['tokens']} tokens ({found['model']})", data)


@tool(
    title="Classify a text",
    read_only=True,
    example={
        "text": "My card was charged twice.",
        "labels": ["billing: cards and payments", "delivery: parcels", "login: passwords"],
    },
    main=("text", "json"),
)
async def classify_text(
    ctx: ToolContext,
    text: Annotated[str, Field(min_length=1, max_length=20_000, description="the text")],
    labels: Annotated[
        tuple[_Label, ...],
        Field(min_length=2, max_length=100, description="the classes, in words that say what fits"),
    ],
) -> Output:
    """Find which of some labels fits a text best, by meaning and in milliseconds.

    Use to sort texts. It compares vectors and asks no model; ask_model with choices reads closer.

    Raises:
        ToolError: There is nothing to compare with.
    """
    first, *others = await _vectors(ctx, [text, *labels])
    scores = [_dot(first, other) for other in others]
    order = sorted(range(len(labels)), key=lambda index: -scores[index])
    ranked = [{"label": labels[index], "score": round(scores[index], 4)} for index in order]
    lines = [f"{one['score']:.3f} {one['label']}" for one in ranked[:10]]
    return Output("\n".join(lines), {"label": ranked[0]["label"], "ranked": ranked})


@tool(
    title="Compare meaning",
    read_only=True,
    example={"query": "reset my password", "texts": ["I cannot log in", "Where is my parcel?"]},
    main=("query", "json"),
)
async def compare_meaning(
    ctx: ToolContext,
    query: Annotated[str, Field(min_length=1, max_length=20_000, description="a text")],
    texts: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=20_000)], ...],
        Field(min_length=1, max_length=200, description="texts to compare it with"),
    ],
) -> Output:
    """Rank texts by how near their meaning is to another text.

    Use to find the passage or question that says the same in other words.

    Raises:
        ToolError: There is nothing to compare with.
    """
    first, *others = await _vectors(ctx, [query, *texts])
    scores = [_dot(first, other) for other in others]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])
    ranked = [
        {"index": index, "score": round(scores[index], 4), "text": texts[index]} for index in order
    ]
    lines = [f"{one['score']:.3f} {str(one['text'])[:200]}" for one in ranked[:20]]
    return Output("\n".join(lines), {"ranked": ranked})


async def _vectors(ctx: ToolContext, texts: list[str]) -> list[list[float]]:
    found = await ask(ctx, "inference", "embed_text", {"texts": texts})
    vectors: list[list[float]] = found["vectors"]
    if len(vectors) != len(texts):
        raise ToolError("The texts could not be compared.", hint="Try with fewer texts.")
    return vectors


def _dot(left: list[float], right: list[float]) -> float:
    """Of unit vectors: the cosine of their angle."""
    return sum(a * b for a, b in zip(left, right, strict=True))
