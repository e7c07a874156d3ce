"""The inference server: text from the engine of this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp.server.mcpserver import Context
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.errors import InvalidRequest
from ryzanstein.mcp_servers._factory import READS, Reply, make_server
from ryzanstein.mcp_servers._metrics import counting
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import place
from ryzanstein.mcp_servers._work import Ticker, in_thread

if TYPE_CHECKING:
    from ryzanstein.inference.requests import GenerateResult

__all__ = ["generated", "mcp"]

INSTRUCTIONS = """Text from a language model on this machine's CPU; nothing leaves it and a call
costs only time.

chat for conversations, generate_text for raw continuation, complete_code to fill a gap in a file,
score_text for likelihoods, embed_text for vectors, count_tokens before a long prompt. `model` is
a name of list_models or a file; without it the default is used, and the first call loads it
(seconds). choices, regex, json_schema and grammar constrain the answer so that it always parses;
give at most one. Greedy (temperature 0) unless asked otherwise. Both also take top_k, min_p,
repetition_penalty, frequency_penalty and presence_penalty, and chat an answer_prefix that the
answer begins with and keep_system, which keeps the state after the system message on disk.
Progress counts tokens; a cancelled call stops at once."""

# A call that is cancelled ends after so many more.
_EMBEDDED_AT_ONCE = 16
_DECIMALS = 6  # of a unit vector's numbers: a dot product is off by less than 1e-5
# An answer of so many stays below the megabyte at which the official SDK's HTTP client ends.
_NUMBERS = 98_304

mcp = make_server("inference", "Ryzanstein inference", INSTRUCTIONS)

MAX_CHARACTERS = 1_000_000
ModelName = Annotated[str | None, Field(max_length=500)]
MaxTokens = Annotated[int, Field(ge=1, le=32_768)]
Temperature = Annotated[float, Field(ge=0, le=5)]
TopK = Annotated[int, Field(ge=0, le=1000)]
TopP = Annotated[float, Field(gt=0, le=1)]
MinP = Annotated[float, Field(ge=0, le=1)]
Repetition = Annotated[float, Field(ge=0.1, le=10)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=16)]
Seed = Annotated[int | None, Field(ge=0, lt=2**63)]
Choices = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=2000)]] | None,
    Field(max_length=1000, description="Answer exactly one of these."),
]
Pattern = Annotated[str | None, Field(max_length=10_000, description="Answer matches this.")]
Schema = Annotated[
    dict[str, Any] | None, Field(description="Answer is JSON that fits this schema.")
]
Grammar = Annotated[str | None, Field(max_length=100_000, description="Lark grammar.")]
Prompt = Annotated[str, Field(max_length=MAX_CHARACTERS)]


class Message(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=MAX_CHARACTERS)]


class Generated(Reply):
    """Text and what it took."""

    text: str
    model: str
    prompt_tokens: Aside[int]
    cached_tokens: Aside[int]
    tokens: int
    finish_reason: str
    seconds: Aside[float]
    prefill_seconds: Aside[float] = 0.0

    def brief(self) -> str:
        """Returns the text alone."""
        return self.text


class Scored(Reply):
    """How likely a model finds a text."""

    model: Aside[str]
    tokens: int
    logprob: Aside[float]
    perplexity: float

    def brief(self) -> str:
        """Returns the perplexity in a sentence."""
        return f"Perplexity {self.perplexity:.3f} over {self.tokens} tokens ({self.model})."


class Embedded(Reply):
    """One unit vector a text."""

    model: Aside[str]
    dimension: int
    vectors: list[list[float]]

    def brief(self) -> str:
        """Returns the shape; the vectors are in the structured content."""
        return f"{len(self.vectors)} vectors of {self.dimension} ({self.model})."


class Counted(Reply):
    """Tokens of a text or conversation."""

    model: Aside[str]
    tokens: int

    def brief(self) -> str:
        """Returns the number in a sentence."""
        return f"{self.tokens} tokens ({self.model})."


@mcp.tool(title="Chat", annotations=READS)
async def chat(
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)],
    context: Context[Any, Any],
    model: Aside[ModelName] = None,
    max_tokens: MaxTokens = 512,
    temperature: Temperature = 0.0,
    top_k: Aside[TopK] = 0,
    top_p: TopP = 1.0,
    min_p: Aside[MinP] = 0.0,
    repetition_penalty: Aside[Repetition] = 1.0,
    frequency_penalty: Aside[Penalty] = 0.0,
    presence_penalty: Aside[Penalty] = 0.0,
    stop: Stop = [],  # noqa: B006
    seed: Seed = None,
    choices: Choices = None,
    regex: Pattern = None,
    json_schema: Schema = None,
    grammar: Grammar = None,
    answer_prefix: Aside[Annotated[str, Field(max_length=20_000)]] = "",
    keep_system: Aside[bool] = False,
) -> Generated:
    """Continue a conversation on the local model, in its own chat template."""
    request = {
        "messages": [message.model_dump() for message in messages],
        "answer_prefix": answer_prefix,
        "keep_system": keep_system,
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "stop": stop,
        "seed": seed,
        "constraint": constraint(choices, regex, json_schema, grammar),
    }
    return await generated(request, context)


@mcp.tool(title="Generate text", annotations=READS)
async def generate_text(
    prompt: Prompt,
    context: Context[Any, Any],
    model: Aside[ModelName] = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
    top_k: Aside[TopK] = 0,
    top_p: TopP = 1.0,
    min_p: Aside[MinP] = 0.0,
    repetition_penalty: Aside[Repetition] = 1.0,
    frequency_penalty: Aside[Penalty] = 0.0,
    presence_penalty: Aside[Penalty] = 0.0,
    stop: Stop = [],  # noqa: B006
    seed: Seed = None,
    choices: Choices = None,
    regex: Pattern = None,
    json_schema: Schema = None,
    grammar: Grammar = None,
) -> Generated:
    """Continue a raw prompt without a chat template. For questions use chat."""
    request = {
        "prompt": prompt,
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "stop": stop,
        "seed": seed,
        "constraint": constraint(choices, regex, json_schema, grammar),
    }
    return await generated(request, context)


@mcp.tool(title="Complete code", annotations=READS)
async def complete_code(
    before: Annotated[Prompt, Field(description="The file up to the gap.")],
    context: Context[Any, Any],
    after: Annotated[Prompt, Field(description="The file after the gap.")] = "",
    model: Aside[ModelName] = None,
    max_tokens: MaxTokens = 128,
    temperature: Aside[Temperature] = 0.0,
    stop: Stop = [],  # noqa: B006
) -> Generated:
    """Fill the gap in a source file. Needs a model trained for it, such as qwen2.5-coder."""
    request = {
        "prompt": before,
        "suffix": after,
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "stop": stop,
    }
    return await generated(request, context)


@mcp.tool(title="Embed texts", annotations=READS)
async def embed_text(
    texts: Annotated[
        list[Annotated[str, Field(max_length=20_000)]], Field(min_length=1, max_length=256)
    ],
) -> Embedded:
    """Turn texts into unit vectors whose dot product is their similarity."""
    import numpy as np

    from ryzanstein.memory.embed import get_embedder

    embedder = get_embedder()
    most = _NUMBERS // embedder.dimension
    if len(texts) > most:
        raise InvalidRequest(
            f"{len(texts)} vectors of {embedder.dimension} are more than one answer holds.",
            hint=f"Send at most {most} texts at once.",
        )

    def work(stop: threading.Event) -> list[list[float]]:
        made: list[list[float]] = []
        for first in range(0, len(texts), _EMBEDDED_AT_ONCE):
            if not stop.is_set():
                vectors = embedder.embed(texts[first : first + _EMBEDDED_AT_ONCE])
                made += vectors.astype(np.float64).round(_DECIMALS).tolist()
        return made

    vectors = await in_thread(work)
    return Embedded(model=embedder.model_id, dimension=embedder.dimension, vectors=vectors)


@mcp.tool(title="Score a text", annotations=READS)
async def score_text(text: Prompt, model: ModelName = None) -> Scored:
    """Say how likely the model finds a text: lower perplexity means less surprise."""
    result = await in_thread(lambda stop: shared().engine.score(model, text, cancel=stop))
    return Scored(**{name: getattr(result, name) for name in Scored.model_fields})


@mcp.tool(title="Count tokens", annotations=READS)
async def count_tokens(
    text: Prompt | None = None,
    messages: Annotated[list[Message] | None, Field(max_length=1000)] = None,
    model: Aside[ModelName] = None,
) -> Counted:
    """Count the tokens of a text, or of messages in the model's chat template."""
    if (text is None) == (messages is None):
        raise InvalidRequest("Give either text or messages.")
    what = text if text is not None else [one.model_dump() for one in messages or []]
    engine = shared().engine
    tokens = await in_thread(lambda stop: engine.count_tokens(model, what))
    return Counted(model=place(model or shared().catalogue.default()), tokens=tokens)


def constraint(
    choices: list[str] | None,
    regex: str | None,
    json_schema: dict[str, Any] | None,
    grammar: str | None,
) -> dict[str, Any] | None:
    """Returns the one constraint that was given, None without any.

    Raises:
        InvalidRequest: More than one was given.
    """
    named = {"choices": choices, "regex": regex, "json_schema": json_schema, "grammar": grammar}
    given = {name: value for name, value in named.items() if value is not None}
    if len(given) > 1:
        raise InvalidRequest(
            f"{' and '.join(given)} were given together.", hint="Give at most one constraint."
        )
    return given or None


async def generated(
    request: Mapping[str, Any],
    context: Context[Any, Any] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Generated:
    """Runs a request in a thread, reports every token as progress, and counts it.

    Args:
        request: Fields of a ChatRequest where it has messages, else of a GenerateRequest.
        context: Of the call that progress is reported to.
        on_text: Also given every piece of text, in the worker thread.
    """
    engine = shared().engine
    tick = Ticker(context)
    count = 0

    def on_token(piece: str) -> None:
        nonlocal count
        count += 1
        tick(count, request["max_tokens"], f"{count} tokens")
        if on_text is not None:
            on_text(piece)

    def work(stop: threading.Event) -> GenerateResult:
        run = engine.chat if "messages" in request else engine.generate
        return run(request, on_token=on_token, cancel=stop)

    result = await in_thread(work, tick.beat)
    for one in counting():
        one.tokens(result.model, result.prompt_tokens - result.cached_tokens, result.tokens)
    fields = {name: getattr(result, name) for name in Generated.model_fields}
    return Generated(**{**fields, "model": place(result.model)})


@mcp.resource("inference://status", mime_type="application/json", title="Engine status")
def status() -> str:
    """Which models are loaded and what they take."""
    from ryzanstein.machine import available_cpus, available_memory, cpu_name

    loaded = shared().engine.loaded() if shared().has("engine") else []
    return json.dumps(
        {
            "loaded": [place(name) for name in loaded],
            "default_model": place(shared().catalogue.default()),
            "threads": shared().settings.threads or available_cpus(),
            "cpu": cpu_name(),
            "available_memory": available_memory(),
        },
        default=str,
    )
