from __future__ import annotations

import httpx2
import pytest
from mcp import Client

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


async def get(url: str, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.get(url, headers=headers)


async def post(url: str, body: object, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.post(url, json=body, headers=headers)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_server_answers_under_its_own_path(base_url: str, mode: str) -> None:
    for name in SERVERS:
        async with Client(f"{base_url}/mcp/{name}", mode=mode) as client:
            assert client.server_info is not None
            assert client.server_info.name == f"ryzanstein-{name}"
            assert (await client.list_tools()).tools


async def test_health_and_metrics(base_url: str) -> None:
    async with Client(f"{base_url}/mcp/memory") as client:
        await client.call_tool("memory_stats", {})
    health = await get(f"{base_url}/health")
    assert health.json()["status"] == "ok"
    metrics = await get(f"{base_url}/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    labels = 'server="ryzanstein-memory",tool="memory_stats",outcome="ok"'
    assert f"ryzanstein_tool_calls_total{{{labels}}}" in metrics.text


@pytest.mark.parametrize("path", ["/health", "/metrics", "/v1/models", "/mcp/memory"])
async def test_another_host_name_is_refused(base_url: str, path: str) -> None:
    assert (await get(base_url + path, host="evil.example")).status_code == 421


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/mcp/memory"])
async def test_a_page_of_another_origin_is_refused(base_url: str, path: str) -> None:
    for origin in ("https://evil.example", "null", "http://[bad"):
        assert (await get(base_url + path, origin=origin)).status_code == 403
    assert (await get(f"{base_url}/health", origin="http://localhost:5173")).status_code == 200


async def test_an_oversized_body_is_refused(base_url: str) -> None:
    body = {"input": "x" * (9 << 20)}
    assert (await post(f"{base_url}/v1/embeddings", body)).status_code == 413


async def test_embeddings_are_unit_vectors_in_order(base_url: str) -> None:
    answer = (await post(f"{base_url}/v1/embeddings", {"input": ["a cat", "a dog"]})).json()
    assert [one["index"] for one in answer["data"]] == [0, 1]
    for one in answer["data"]:
        assert sum(value * value for value in one["embedding"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("chat/completions", {"messages": []}, 400, "messages"),
        ("chat/completions", [], 400, "no JSON object"),
        ("chat/completions", {"messages": [{"role": "king", "content": "x"}]}, 400, "role"),
        ("chat/completions", {"tools": [{}], "messages": []}, 400, "tools is not supported"),
        ("completions", {"prompt": "x", "n": 2}, 400, "n: Input should be 1"),
        ("embeddings", {"input": []}, 400, "input"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    base_url: str, path: str, body: object, status: int, message: str
) -> None:
    answer = await post(f"{base_url}/v1/{path}", body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


async def test_a_body_that_is_no_json_is_refused(base_url: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"{base_url}/v1/completions", content=b"\xff{")
    assert answer.status_code == 400
