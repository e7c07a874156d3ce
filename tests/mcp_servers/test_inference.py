"""The inference and cache servers with the real SmolLM2-135M."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from ryzanstein.mcp_servers._shared import shared

Answer = Callable[..., Awaitable[dict[str, Any]]]
Fault = Callable[..., Awaitable[dict[str, str]]]
HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(autouse=True)
def small_default(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    monkeypatch.setenv("RYZANSTEIN_CONTEXT_TOKENS", "2048")


async def test_text_is_generated_and_counted(answer: Answer) -> None:
    found = await answer(
        "inference", "generate_text", prompt="The capital of France is", max_tokens=4
    )
    assert "Paris" in found["text"]
    assert (found["tokens"], found["finish_reason"]) == (4, "length")
    counted = await answer("inference", "count_tokens", text="The capital of France is")
    assert found["prompt_tokens"] == counted["tokens"]


async def test_an_answer_can_be_held_to_choices_and_to_a_schema(answer: Answer) -> None:
    choice = await answer("inference", "chat", messages=HELLO, choices=["heron", "stork"])
    assert choice["text"] in {"heron", "stork"}
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shaped = await answer("inference", "chat", messages=HELLO, json_schema=schema, max_tokens=40)
    assert isinstance(json.loads(shaped["text"])["n"], int)


async def test_progress_counts_tokens_and_grows(server: Callable[[str], Any]) -> None:
    seen: list[float] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        seen.append(done)

    async with Client(server("inference")) as client:
        arguments = {"prompt": "Once upon a time", "max_tokens": 48}
        await client.call_tool("generate_text", arguments, progress_callback=note)
    assert len(seen) >= 2
    assert seen == sorted(set(seen))


async def test_a_cancelled_call_stops_the_engine(server: Callable[[str], Any]) -> None:
    async with Client(server("inference")) as client:
        await client.call_tool("count_tokens", {"text": "load"})
        started = anyio.Event()

        async def note(done: float, total: float | None, message: str | None) -> None:
            started.set()

        async with anyio.create_task_group() as group:

            async def generate() -> None:
                arguments = {"prompt": "Once upon a time", "max_tokens": 2000}
                await client.call_tool("generate_text", arguments, progress_callback=note)

            group.start_soon(generate)
            await started.wait()
            group.cancel_scope.cancel()
        loaded = shared().engine.get("smollm2-135m")
        with anyio.fail_after(5):
            await anyio.to_thread.run_sync(loaded.lock.acquire)
        loaded.lock.release()


async def test_the_prefix_cache_is_seen_and_cleared(answer: Answer) -> None:
    prompt = "A heron stands in the shallow water and waits for a fish. " * 4
    await answer("inference", "generate_text", prompt=prompt, max_tokens=2)
    again = await answer("inference", "generate_text", prompt=prompt + "Then", max_tokens=2)
    assert again["cached_tokens"] > 20
    stats = await answer("cache", "cache_stats")
    assert stats["hits"] >= 1 and stats["cached_tokens"] >= again["cached_tokens"]
    states = await answer("cache", "list_states", model="smollm2-135m")
    cleared = await answer("cache", "clear_cache")
    assert cleared["states"] == len(states["states"]) >= 1
    assert (await answer("cache", "list_states"))["states"] == []


async def test_a_likely_text_has_the_lower_perplexity(answer: Answer) -> None:
    likely = await answer("inference", "score_text", text="The cat sat on the mat.")
    odd = await answer("inference", "score_text", text="Mat the on sat cat the.")
    assert likely["perplexity"] < odd["perplexity"]


async def test_texts_are_embedded_as_the_memory_does(answer: Answer) -> None:
    found = await answer("inference", "embed_text", texts=["a cat", "a kitten", "tax law"])
    first, second, third = found["vectors"]
    assert len(first) == found["dimension"]

    def near(one: list[float], two: list[float]) -> float:
        return sum(a * b for a, b in zip(one, two, strict=True))

    assert near(first, second) > near(first, third)


async def test_loading_and_unloading_are_seen(answer: Answer) -> None:
    loaded = await answer("model", "load_model", name="smollm2-135m")
    assert loaded["bytes"] > 50_000_000
    listed = await answer("model", "list_models")
    assert [one["name"] for one in listed["models"] if one["loaded"]] == ["smollm2-135m"]
    assert (await answer("model", "unload_model", name="smollm2-135m"))["unloaded"] is True


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [
        ("chat", {"messages": HELLO, "choices": ["a"], "regex": "b"}, "INVALID_REQUEST"),
        ("chat", {"messages": HELLO, "model": "smolm2-135m"}, "MODEL_NOT_FOUND"),
        ("chat", {"messages": HELLO, "model": "/nowhere/x.gguf"}, "MODEL_NOT_FOUND"),
        ("chat", {"messages": HELLO, "regex": "("}, "INVALID_REQUEST"),
        ("generate_text", {"prompt": "x " * 5000}, "INVALID_REQUEST"),
        ("complete_code", {"before": "def f(", "after": "pass"}, "INVALID_REQUEST"),
        ("count_tokens", {}, "INVALID_REQUEST"),
        ("score_text", {"text": "x"}, "INVALID_REQUEST"),
    ],
)
async def test_what_cannot_be_done_is_refused(
    fault: Fault, tool: str, arguments: dict[str, Any], code: str
) -> None:
    assert (await fault("inference", tool, **arguments))["code"] == code
