"""The OpenAI-compatible endpoint over a real socket, on the real SmolLM2-135M."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from ryzanstein.mcp_servers._shared import shared

QUESTION = {"role": "user", "content": "Say hello in one short sentence."}


@pytest.fixture(autouse=True)
def small_default(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    monkeypatch.setenv("RYZANSTEIN_CONTEXT_TOKENS", "2048")


async def post(url: str, body: dict[str, Any]) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(url, json=body)


async def events(url: str, body: dict[str, Any]) -> list[str]:
    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", url, json=body) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line async for line in answer.aiter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line.removeprefix("data: ") for line in lines]


async def test_models_that_are_here_are_listed(base_url: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = (await client.get(f"{base_url}/v1/models")).json()
    assert "smollm2-135m" in [model["id"] for model in answer["data"]]


async def test_a_streamed_answer_is_the_whole_one_in_pieces(base_url: str) -> None:
    url = f"{base_url}/v1/chat/completions"
    body = {"model": "smollm2-135m", "messages": [QUESTION], "max_tokens": 16}
    whole = (await post(url, body)).json()
    shared().engine.clear_cache()  # a cached prompt is computed in other chunks and may round apart
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, end = await events(url, {**body, **options})
    parsed = [json.loads(chunk) for chunk in chunks]
    text = "".join(
        choice["delta"].get("content", "") for chunk in parsed for choice in chunk["choices"]
    )
    assert end == "[DONE]"
    assert text == whole["choices"][0]["message"]["content"] != ""
    assert parsed[0]["choices"][0]["delta"]["role"] == "assistant"
    assert parsed[-2]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert parsed[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


async def test_a_plain_completion_continues_the_prompt(base_url: str) -> None:
    body = {"prompt": "The capital of France is", "max_tokens": 4}
    answer = (await post(f"{base_url}/v1/completions", body)).json()
    assert "Paris" in answer["choices"][0]["text"]
    assert answer["usage"]["completion_tokens"] == 4


async def test_an_answer_fits_the_schema_that_was_asked_for(base_url: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = {"messages": [QUESTION], "response_format": form, "max_tokens": 40}
    answer = (await post(f"{base_url}/v1/chat/completions", body)).json()
    assert isinstance(json.loads(answer["choices"][0]["message"]["content"])["n"], int)


@pytest.mark.parametrize("given", [[1], 5, {"schema": [1]}])
async def test_a_schema_that_is_none_is_refused(base_url: str, given: Any) -> None:
    wanted = {"type": "json_schema", "json_schema": given}
    body = {"messages": [QUESTION], "max_tokens": 1, "response_format": wanted}
    answer = await post(f"{base_url}/v1/chat/completions", body)
    assert answer.status_code == 400
    assert "json_schema" in answer.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_model_is_not_found(base_url: str, stream: bool) -> None:
    body = {"model": "gpt-5", "messages": [QUESTION], "stream": stream}
    answer = await post(f"{base_url}/v1/chat/completions", body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "MODEL_NOT_FOUND"


async def test_a_client_that_goes_away_stops_its_generation(base_url: str) -> None:
    body = {"messages": [QUESTION], "max_tokens": 1500, "stream": True, "temperature": 2.0}
    async with httpx2.AsyncClient(timeout=60) as client:
        url = f"{base_url}/v1/chat/completions"
        async with client.stream("POST", url, json=body) as answer:
            async for _ in answer.aiter_lines():
                break
    lock = shared().engine.get("smollm2-135m").lock
    with anyio.fail_after(5):
        await anyio.to_thread.run_sync(lock.acquire)
    lock.release()
