from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import ResourceTemplateReference

from ryzanstein.mcp_servers._shared import shared
from ryzanstein.registry import load_registry

Answer = Callable[..., Awaitable[dict[str, Any]]]
Fault = Callable[..., Awaitable[dict[str, str]]]


async def test_agents_are_listed_page_by_page_in_the_order_of_their_ids(answer: Answer) -> None:
    first = await answer("orchestrator", "search_agents", limit=30)
    second = await answer("orchestrator", "search_agents", limit=30, cursor=first["next_cursor"])
    ids = [agent["id"] for agent in first["agents"] + second["agents"]]
    assert ids == [f"{number:02}" for number in range(1, 41)]
    assert second["next_cursor"] is None


async def test_agents_are_found_by_what_they_are_for(answer: Answer) -> None:
    found = await answer("orchestrator", "search_agents", query="threat model of an API", limit=3)
    assert {agent["codename"] for agent in found["agents"]} & {"CIPHER", "FORTRESS"}


@pytest.mark.parametrize("name", ["APEX", "apex", "@Apex", "01"])
async def test_an_agent_is_described_by_any_of_its_names(answer: Answer, name: str) -> None:
    found = await answer("orchestrator", "describe_agent", codename=name)
    assert found["codename"] == "APEX"
    assert len(found["examples"]) >= 6 and found["prompt_text"]


async def test_an_unknown_agent_gets_the_nearest_names(fault: Fault) -> None:
    error = await fault("orchestrator", "describe_agent", codename="CYPHER")
    assert error["code"] == "AGENT_NOT_FOUND"
    assert "CIPHER" in error["hint"]


async def test_a_task_is_routed_with_reasons(answer: Answer) -> None:
    found = await answer("orchestrator", "route_task", task="Prove that sqrt(2) is irrational")
    assert "AXIOM" in [agent["codename"] for agent in found["agents"][:2]]
    assert all(agent["reasons"] for agent in found["agents"])
    assert found["agents"] == sorted(found["agents"], key=lambda agent: -agent["score"])


async def test_routing_learns_from_experiences(answer: Answer) -> None:
    task = "Rename the quarterly photos by date"
    before = await answer("orchestrator", "route_task", task=task, top_k=40)
    for number in range(20):
        await answer(
            "memory",
            "record_experience",
            task=f"Rename the quarterly photos of {2015 + number} by date",
            agent="LEDGER",
            outcome="success",
            fitness=1.0,
        )
    after = await answer("orchestrator", "route_task", task=task, top_k=40)
    places = [
        [agent["codename"] for agent in one["agents"]].index("LEDGER") for one in (before, after)
    ]
    assert places[1] < places[0]
    # From twenty on, single tasks teach more than their sum tells.
    assert any("regression" in reason for reason in after["agents"][0]["reasons"])


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("route_task", {"task": ""}),
        ("route_task", {"task": "   "}),
        ("route_task", {"task": "x" * 200_000}),
        ("run_task", {"task": "  \n"}),
        ("run_task", {"task": "x" * 200_000}),
        ("get_run", {"run_id": "run-0"}),
        ("cancel_run", {"run_id": "run-0"}),
        ("rate_run", {"run_id": "run-0", "rating": 1}),
        ("rate_run", {"run_id": "run-0", "rating": 2}),
    ],
)
async def test_bad_input_is_refused_in_one_line(
    fault: Fault, tool: str, arguments: dict[str, Any]
) -> None:
    error = await fault("orchestrator", tool, **arguments)
    assert error["code"] == "INVALID_REQUEST"
    assert "\n" not in error["message"]


async def test_every_agent_and_every_command_is_a_prompt_that_needs_no_argument(
    server: Callable[[str], Any],
) -> None:
    registry = load_registry(user=False)
    async with Client(server("orchestrator")) as client:
        listed = (await client.list_prompts()).prompts
        texts = [
            (await client.get_prompt(prompt.name, {})).messages[0].content.text  # type: ignore[union-attr]
            for prompt in listed
        ]
        filled = await client.get_prompt("review", {"task": "def f(): pass"})
    names = [prompt.name for prompt in listed]
    assert names[:40] == [agent.codename for agent in registry.agents]
    assert names[40:] == sorted(registry.routing.commands) and len(names) == 80
    assert all("this conversation" in text or "can be done here" in text for text in texts)
    assert len(set(texts)) == 80
    assert filled.messages[0].content.text.endswith("Task: def f(): pass")  # type: ignore[union-attr]


async def test_an_agent_is_a_resource_with_completion(server: Callable[[str], Any]) -> None:
    async with Client(server("orchestrator")) as client:
        read = await client.read_resource("agent://CIPHER")
        reference = ResourceTemplateReference(uri="agent://{codename}")
        done = await client.complete(reference, {"name": "codename", "value": "ar"})
        with pytest.raises(MCPError, match="No agent is called 'NOBODY'"):
            await client.read_resource("agent://NOBODY")
    assert json.loads(read.contents[0].text)["codename"] == "CIPHER"  # type: ignore[union-attr]
    assert done.completion.values == ["ARCHITECT", "ARBITER", "VANGUARD"]


async def test_a_run_whose_process_is_gone_is_interrupted_and_can_be_gone_on_with(
    answer: Answer,
) -> None:
    shared().runs.save("say hello", id="run-lost", result={"process": 2**22 + 1})
    found = await answer("orchestrator", "get_run", run_id="run-lost")
    assert found["status"] == "interrupted"
    assert found["result"]["error"]["code"] == "AGENT_INVOCATION_FAILED"
    assert "ryzanstein runs resume run-lost" in found["hint"]


async def test_a_run_whose_experience_a_later_run_renewed_is_still_rated(
    answer: Answer, fault: Fault
) -> None:
    task = "Sort the list of berries"
    runs = shared().runs
    for run_id, status in (("run-1", "done"), ("run-2", "done"), ("run-3", "cancelled")):
        runs.save(task, id=run_id, agent="APEX")
        runs.update(run_id, status=status)
    for run_id in ("run-1", "run-2"):
        fields = {"task": task, "agent": "APEX", "outcome": "unknown", "run_id": run_id}
        kept = await answer("memory", "record_experience", **fields)
    assert kept["run_id"] == "run-2"
    for run_id, rating in (("run-2", 0.5), ("run-1", 0.75)):
        rated = await answer("orchestrator", "rate_run", run_id=run_id, rating=rating)
        assert rated["experience_id"] == kept["id"]
    again = await answer("memory", "find_experiences", task=task)
    assert [one["rating"] for one in again["experiences"]] == [0.75]
    error = await fault("orchestrator", "rate_run", run_id="run-3", rating=1)
    assert "left no experience" in error["message"]


async def test_a_breakthrough_reaches_every_agent_of_the_tier_over_the_wire(answer: Answer) -> None:
    way = {"agent": "APEX", "outcome": "failed", "reason": "prices are texts"}
    for shop in range(9):
        task = f"Sort the list of berries by price, shop {shop}"
        await answer("memory", "record_experience", task=task, fitness=0.1, **way)
    task = "Sort the list of berries by price, for the market"
    won = {"agent": "APEX", "outcome": "verified", "strategy": "sorted() with a key"}
    kept = await answer("memory", "record_experience", task=task, fitness=1.0, **won)
    assert kept["breakthrough"] >= 3.5
    task = "Sort a list of berries by price"
    found = await answer("memory", "find_experiences", task=task, tier=kept["tier"])
    told = next(one for one in found["experiences"] if one["id"] == kept["id"])
    assert any(f"every agent of tier {kept['tier']}" in reason for reason in told["reasons"])


async def test_a_fault_of_ours_ends_a_run_as_failed_and_not_as_cancelled(
    answer: Answer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ExceptionGroup("tasks", [KeyError("a bug")])

    monkeypatch.setattr("ryzanstein.agents.running.loop.run_task", broken)
    monkeypatch.setattr("ryzanstein.mcp_servers._running._bring_model", broken)
    error = await fault("orchestrator", "run_agent", codename="APEX", task="Say hello")
    assert error["code"] == "INTERNAL_ERROR"
    (run,) = shared().runs.list()
    assert run.status == "failed"
    assert "unexpectedly" in run.result["error"]["message"]
