"""What a subject may touch: files of its own, and nothing that concerns everybody."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError
from mcp_types import CallToolResult, ListRootsResult, ResourceTemplateReference, Root

from ryzanstein.mcp_servers import _subject
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import subject_of
from ryzanstein.subject import OWNER, acting
from tests.inference.tiny import Shape, write_gguf
from tests.mcp_servers.people import People, token

SECRET = "Ada's safe opens with the number 5318."
SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")

# Files and tools.


async def test_tools_touch_the_files_of_whoever_calls_them(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owners.txt").write_text("the owner's", encoding="utf-8")
    write = {"path": "note.txt", "content": SECRET}
    await people.answer("ada", "tools", "call_tool", name="write_file", arguments=write)
    folder = shared().settings.data_dir / "subjects" / people.subject("ada").key
    assert (folder / "files" / "note.txt").read_text(encoding="utf-8") == SECRET
    assert folder.stat().st_mode & 0o777 == 0o700
    assert json.loads((folder / "subject.json").read_text(encoding="utf-8")) == {"name": "ada"}

    async def read(name: str, path: str) -> CallToolResult:
        arguments = {"path": path}
        return await people.call(name, "tools", "call_tool", name="read_file", arguments=arguments)

    assert SECRET in str((await read("ada", "note.txt")).content)
    for path in (
        "note.txt",
        str(folder / "files" / "note.txt"),
        f"../../{people.subject('ada').key}/files/note.txt",
        str(folder / "ryzanstein.db"),
        "owners.txt",
        str(tmp_path / "owners.txt"),
        "/etc/passwd",
    ):
        for name in ("bob", "eve"):
            refused = await read(name, path)
            assert refused.is_error
            assert SECRET not in str(refused.content)
    assert "the owner's" in str((await read("", "owners.txt")).content)


async def test_by_its_roots_nobody_finds_out_which_folders_there_are(
    people: People, tmp_path: Path
) -> None:
    own = shared().settings.data_dir / "subjects" / people.subject("ada").key / "files"

    async def seen(*folders: Path) -> str:
        async def roots(_: Any) -> ListRootsResult:
            return ListRootsResult(roots=[Root(uri=one.as_uri()) for one in folders])  # type: ignore[arg-type]

        options: dict[str, Any] = {"mode": "legacy", "list_roots_callback": roots}
        async with people.client("ada", "tools", **options) as client:
            found = await client.call_tool("call_tool", {"name": "list_files", "arguments": {}})
        return str(found.content)

    await seen()  # makes her folder
    (own / "part").mkdir()
    (own / "part" / "note.txt").touch()
    everything = await seen()
    assert "note.txt" in everything and "part" in everything
    for folder in (tmp_path, tmp_path / "nowhere", own / ".." / ".."):
        assert await seen(folder) == everything
    assert await seen(own / "part") != everything


async def test_the_memory_tools_of_the_tools_server_keep_to_the_caller(people: People) -> None:
    arguments = {"text": SECRET}
    await people.answer("ada", "tools", "call_tool", name="remember", arguments=arguments)
    assert (await people.answer("ada", "memory", "memory_stats"))["memories"] == 1
    for name in ("", "bob"):
        assert (await people.answer(name, "memory", "memory_stats"))["memories"] == 0


async def test_the_record_of_tool_calls_names_whose_they_were(people: People) -> None:
    for name in ("", "ada"):
        given = {"name": "evaluate_expression", "arguments": {"expression": "6*7"}}
        await people.answer(name, "tools", "call_tool", **given)
    ada, owner = shared().audit.read(limit=2)
    assert ada["subject_name"] == "ada"
    assert ada["subject"] == people.subject("ada").key
    assert "subject" not in owner


async def test_what_else_runs_on_the_machine_is_shown_to_whoever_runs_the_server(
    people: People,
) -> None:
    for tool in ("list_processes", "environment_facts"):
        given = {"name": tool, "arguments": {}}
        assert "not among the tools" in await people.fault("ada", "tools", "call_tool", **given)
        await people.answer("eve", "tools", "call_tool", **given)


# What concerns everybody.

OWN_TOOLS = {
    "orchestrator": "search_agents describe_agent route_task run_agent run_task get_run cancel_run"
    " rate_run",
    "inference": "generate_text chat complete_code embed_text score_text count_tokens",
    "memory": "remember recall forget record_experience find_experiences rate_experience"
    " consolidate_memory memory_stats",
    "model": "list_models describe_model",
    "cache": "cache_stats lookup_response store_response list_states save_state restore_state"
    " evict_entries clear_cache",
    "analytics": "query_metrics list_runs describe_run summarize_usage compare_models"
    " suggest_optimizations export_traces show_dashboard",
    "tools": "search_tools describe_tool call_tool",
}


@pytest.mark.parametrize("name", SERVERS)
async def test_of_every_tool_it_was_decided_whether_all_may_call_it(name: str) -> None:
    server = importlib.import_module(f"ryzanstein.mcp_servers.{name}").mcp
    tools = {tool.name for tool in await server.list_tools()}
    own = set(OWN_TOOLS[name].split())
    assert tools - own <= _subject.ADMIN_TOOLS
    assert not own & _subject.ADMIN_TOOLS


async def test_what_changes_the_machine_is_refused_to_whoever_does_not_run_it(
    people: People,
) -> None:
    for tool, given in (
        ("load_model", {"name": "tiny-bitnet"}),
        ("unload_model", {"name": "tiny-bitnet"}),
        ("pull_model", {"name": "tiny-bitnet"}),
        ("remove_model", {"name": "tiny-bitnet"}),
        ("benchmark_model", {"name": "tiny-bitnet"}),
    ):
        said = await people.fault("ada", "model", tool, **given)
        assert said.startswith(f"INVALID_REQUEST: {tool} is for whoever runs this server.")
        assert "scope admin" in said
    assert (await people.answer("eve", "model", "load_model", name="tiny-bitnet"))["bytes"] > 0
    assert (await people.answer("", "model", "unload_model", name="tiny-bitnet"))["unloaded"]


async def test_a_file_that_is_no_model_of_the_catalogue_is_none_for_whoever_does_not_run_the_server(
    people: People, tmp_path: Path
) -> None:
    there = tmp_path / "model.gguf"
    there.write_bytes(b"GGUF")
    nowhere = tmp_path / "nowhere.gguf"
    for server, tool, key in (
        ("model", "describe_model", "name"),
        ("inference", "count_tokens", "model"),
    ):
        given = {"text": "x"} if tool == "count_tokens" else {}
        said = [
            await people.fault("ada", server, tool, **{key: str(path)}, **given)
            for path in (there, nowhere)
        ]
        assert said[0].replace("model.gguf", "nowhere.gguf") == said[1]
        assert said[0].startswith("MODEL_NOT_FOUND")


async def test_metrics_are_the_callers_own_but_for_whoever_runs_the_server(people: People) -> None:
    await people.answer("ada", "memory", "remember", text=SECRET)

    async def counted(name: str) -> set[str]:
        found = await people.answer(name, "analytics", "query_metrics")
        return {one["tool"] for one in found["tools"]}

    assert "remember" in await counted("ada")
    assert "remember" not in await counted("bob")
    assert "remember" in await counted("eve")
    assert "remember" in await counted("")


async def test_a_name_that_a_client_made_up_is_no_counter(people: People) -> None:
    for number in range(3):
        assert (await people.call("ada", "memory", f"made_up_{number}")).is_error
    found = await people.answer("ada", "analytics", "query_metrics")
    assert {one["tool"]: one["calls"] for one in found["tools"]}["unknown"] == 3


async def test_servers_of_others_are_the_owners_and_whose_he_made_an_administrator(
    people: People,
) -> None:
    config = shared().settings.config_dir
    config.mkdir(parents=True, exist_ok=True)
    (config / "registry.yaml").write_text(
        "servers:\n  - name: files2\n    transport: stdio\n    command: /nonexistent/program\n",
        encoding="utf-8",
    )
    for name, found in (("ada", 0), ("eve", 1), ("", 1)):
        with acting(
            OWNER
            if not name
            else subject_of(token(name, "ryzanstein", None, *(["admin"] if name == "eve" else [])))
        ):
            states = await shared().external.states()
        assert len(states) == found
    said = await people.fault("ada", "tools", "describe_tool", name="files2.read")
    none = await people.fault("ada", "tools", "describe_tool", name="files3.read")
    assert said.replace("files2", "files3") == none


async def test_no_error_tells_where_anything_lies(people: People) -> None:
    key = people.subject("ada").key
    folder = shared().settings.data_dir / "subjects" / key
    folder.mkdir(parents=True)
    (folder / "ryzanstein.db").write_text("This is no database." * 100, encoding="utf-8")
    said = [await people.fault("ada", "memory", "recall", query="safe")]
    ref = ResourceTemplateReference(type="ref/resource", uri="run://{id}")
    for mode in ("auto", "legacy"):
        async with people.client("ada", "orchestrator", mode=mode) as client:
            with pytest.raises(MCPError) as caught:
                await client.complete(ref, {"name": "id", "value": "run"})
        said.append(f"{caught.value} {caught.value.data}")
    for text in said:
        assert str(shared().settings.data_dir) not in text
        assert "ryzanstein.db" in text


async def test_nothing_tells_where_on_the_machine_anything_lies(
    people: People, tmp_path: Path
) -> None:
    places = [str(shared().settings.data_dir), str(shared().settings.models_path)]
    # The owner may have made a file the default, for everybody.
    file = write_gguf(tmp_path / "default.gguf", Shape(layers=1))
    shared().reset(replace(shared().settings, default_model=str(file)))
    places.append(str(tmp_path))
    told = [
        str(await people.answer("ada", "memory", "memory_stats")),
        str(await people.answer("ada", "model", "describe_model", name="tiny-bitnet")),
        str(await people.answer("ada", "model", "list_models")),
        str(await people.answer("ada", "cache", "cache_stats")),
        await people.read("ada", "cache", "cache://policy"),
        await people.read("ada", "model", "model://smollm2-135m"),
        str(await people.answer("ada", "inference", "generate_text", prompt="x", max_tokens=1)),
        str(await people.answer("ada", "inference", "count_tokens", text="x")),
        str(await people.answer("ada", "cache", "list_states")),
        await people.read("ada", "inference", "inference://status"),
        await people.read("ada", "analytics", "analytics://dashboard"),
    ]
    for text in told:
        assert not any(place in text for place in places)
    assert places[0] in str(await people.answer("", "memory", "memory_stats"))
