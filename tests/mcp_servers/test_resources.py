"""Resources that depend on data, completion, and prompts: what is offered beside tools."""

from __future__ import annotations

import importlib
import json
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from ryzanstein.mcp_servers._completions import matching
from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.mcp_servers._shared import shared

SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


def client(name: str, **options: Any) -> Client:
    return Client(importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp, **options)


async def completed(of: Client, uri: str, argument: str, typed: str, **others: str) -> list[str]:
    reference = ResourceTemplateReference(uri=uri)
    done = await of.complete(reference, {"name": argument, "value": typed}, others or None)
    return done.completion.values


async def listed(of: Client) -> dict[str, str]:
    return {str(one.uri): one.name for one in (await of.list_resources()).resources}


async def read(of: Client, uri: str) -> Any:
    return json.loads(str(getattr((await of.read_resource(uri)).contents[0], "text", "")))


async def test_what_is_kept_is_listed_read_and_completed() -> None:
    store = shared().store
    fact = store.remember("The boiler\n is in the cellar.", tags=("house", "Heating"))
    old = store.remember("The key is under the mat.", tags=("house",))
    new = store.correct(old.id, "The key is in the shed.")
    went = store.record_experience(task="find the key", agent="APEX", outcome="verified")
    async with client("memory") as memory:
        found = await listed(memory)
        assert found[f"memory://{fact.id}"] == "The boiler is in the cellar."
        assert found[f"experience://{went.id}"] == "find the key"
        assert f"memory://{old.id}" not in found
        tagged = await read(memory, "memory://tag/house")
        assert [one["id"] for one in tagged["memories"]] == [new.id, fact.id]
        assert (await read(memory, "memory://tag/none"))["memories"] == []
        assert (await read(memory, f"experience://{went.id}"))["task"] == "find the key"
        assert await completed(memory, "memory://tag/{tag}", "tag", "h") == ["house", "Heating"]
        assert await completed(memory, "memory://{id}", "id", "MEM_") == [new.id, fact.id]
        assert await completed(memory, "memory://{id}", "id", fact.id[:-1]) == [fact.id]
        assert await completed(memory, "experience://{id}", "id", "") == [went.id]
        assert await completed(memory, "memory://next/{tier}", "tier", "sem") == ["semantic"]


async def test_runs_are_listed_newest_first_read_and_completed() -> None:
    for number in range(25):
        shared().runs.save(f"task {number}", id=f"run-{number:02}", status="done", agent="APEX")
    async with client("orchestrator") as orchestrator:
        runs = [uri for uri in await listed(orchestrator) if uri.startswith("run://")]
        assert runs == [f"run://run-{number:02}" for number in range(24, 4, -1)]
        state = await read(orchestrator, "run://run-07")
        assert (state["status"], state["task"]) == ("done", "task 7")
        assert await completed(orchestrator, "run://{id}", "id", "run-1") == [
            f"run-{number}" for number in range(19, 9, -1)
        ]
        with pytest.raises(MCPError, match="There is no run run-99") as caught:
            await orchestrator.read_resource("run://run-99")
    assert caught.value.code == -32602


async def test_models_are_listed_and_completed() -> None:
    names = [entry.name for entry in shared().registry.models]
    async with client("model") as model:
        assert list((await listed(model)).values()) == names
        assert (await read(model, f"model://{names[0]}"))["name"] == names[0]
        assert set(await completed(model, "model://{name}", "name", "TINY")) == {
            name for name in names if "tiny" in name
        }


async def test_tasks_of_a_prompt_are_completed_with_its_agents_examples() -> None:
    agent = shared().registry.agent("APEX")
    async with client("orchestrator") as orchestrator:
        for name in ("APEX", "debug"):
            done = await orchestrator.complete(
                PromptReference(name=name), {"name": "task", "value": "implement"}
            )
            assert done.completion.values == matching("implement", agent.examples)
            assert done.completion.values
        unknown = await orchestrator.complete(
            PromptReference(name="none"), {"name": "task", "value": ""}
        )
        skills = await completed(
            orchestrator, "skill://{skill}/{+path}", "path", "team", skill="apex"
        )
    assert unknown.completion.values == []
    assert skills == ["references/team.md"]


def test_what_begins_so_comes_before_what_has_it_inside() -> None:
    assert matching("AP", ["SYNAPSE", "apex", "APEX", "apex", "CORE"]) == [
        "apex",
        "APEX",
        "SYNAPSE",
    ]


async def test_a_hundred_values_are_shown_and_all_are_counted() -> None:
    for number in range(120):
        shared().runs.save("x", id=f"run-{number:03}", status="done")
    async with client("orchestrator") as orchestrator:
        done = await orchestrator.complete(
            ResourceTemplateReference(uri="run://{id}"), {"name": "id", "value": "run-"}
        )
    found = done.completion
    assert (len(found.values), found.total, found.has_more) == (100, 120, True)


UNKNOWN = [
    ("run://{id}", "id", "100%_\\'\"; drop table runs"),
    ("run://{id}", "id", "\0"),
    ("run://{id}", "id", "r" * 100_000),
    ("run://{id}", "name", "r"),
    ("run://else/{id}", "id", "r"),
    ("zzz://{x}", "x", "y"),
]


async def test_nothing_completes_what_is_unknown() -> None:
    shared().runs.save("x", id="run-1", status="done")
    async with client("orchestrator") as orchestrator:
        for uri, argument, typed in UNKNOWN:
            assert await completed(orchestrator, uri, argument, typed) == []


def test_no_server_imports_a_heavy_library_before_it_is_asked_for_something() -> None:
    heavy = {"hnswlib", "numpy", "sqlalchemy", "tokenizers", "yaml"}
    imports = "; ".join(f"import ryzanstein.mcp_servers.{name}" for name in SERVERS)
    code = f"import sys; {imports}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_every_server_answers_every_list_and_completion(mode: Any) -> None:
    for name in SERVERS:
        async with client(name, mode=mode) as one:
            assert one.server_capabilities.completions is not None
            assert await completed(one, "none://{x}", "x", "") == []
            resources = (await one.list_resources()).resources
            templates = (await one.list_resource_templates()).resource_templates
            await one.list_prompts()
        for resource in [*resources, *templates]:
            assert resource.name and resource.mime_type, resource
            assert resource.description, resource


async def test_a_database_that_cannot_be_read_costs_no_client_its_connection() -> None:
    path = shared().settings.data_dir / "ryzanstein.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"this is no database" * 100)
    async with client("orchestrator") as orchestrator:
        found = await listed(orchestrator)
    assert "skill://apex/SKILL.md" in found
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("select 1 from runs")


REFUSED: list[tuple[str, dict[str, str], str]] = [
    ("revie", {}, "Did you mean review"),
    ("", {}, "No prompt is called ''"),
    ("x" * 10_000, {}, "No prompt is called"),
    ("review", {"code": "x"}, "it takes task"),
    ("review", {"task": "x" * 100_001}, "more than 100000 characters"),
]


async def test_a_prompt_that_is_none_is_refused() -> None:
    async with client("orchestrator") as orchestrator:
        for name, arguments, said in REFUSED:
            with pytest.raises(MCPError) as caught:
                await orchestrator.get_prompt(name, arguments)
            assert caught.value.code == -32602
            assert said in str(caught.value) and len(str(caught.value)) < 500


async def test_a_prompt_that_fails_says_no_word_of_how(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server("failing", "Failing", "A server of a test.")

    def broken(what: str) -> str:
        raise KeyError("/home/somebody/secret")

    server.prompt(description="It fails.")(broken)
    async with Client(server) as one:
        with pytest.raises(MCPError) as caught:
            await one.get_prompt("broken", {"what": "x"})
        with pytest.raises(MCPError) as missing:
            await one.get_prompt("broken")
    assert caught.value.code == -32603 and "secret" not in str(caught.value)
    assert missing.value.code == -32602 and "what is required" in str(missing.value)
    assert "secret" in caplog.text


async def test_the_help_command_lists_every_command() -> None:
    async with client("orchestrator") as orchestrator:
        given = await orchestrator.get_prompt("help")
        task = await orchestrator.get_prompt("help", {"task": "Which one for tests?"})
    said = str(getattr(given.messages[0].content, "text", ""))
    for name, owner in shared().registry.routing.commands.items():
        assert f"/{name} ({owner}): " in said
    assert str(getattr(task.messages[0].content, "text", "")).endswith("Which one for tests?")
