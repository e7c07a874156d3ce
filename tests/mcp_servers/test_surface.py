"""What clients see: names, schemas, annotations, texts and what they cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
from mcp import Client

SCRIPT = run_path(str(Path(__file__).parents[2] / "scripts" / "surface"))
RECORDED = json.loads(SCRIPT["SNAPSHOT"].read_text(encoding="utf-8"))
SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


async def test_the_surface_is_the_recorded_one(
    server_name: str, server: Callable[[str], Any]
) -> None:
    found = await SCRIPT["surface"](server_name)
    assert found == RECORDED[server_name], "run scripts/surface --write if this change is meant"


def test_a_server_costs_its_clients_few_tokens() -> None:
    # Counted by scripts/surface with a Qwen tokenizer, which is not here: the digest tells whether
    # what was counted is what is recorded, and so what the servers list.
    tokens = RECORDED["tokens"]
    for name in SERVERS:
        print(f"{name}: {tokens[name]['shown']} tokens shown, {tokens[name]['whole']} in all")
        assert tokens[name]["of"] == SCRIPT["digest"](RECORDED[name]["tools"]), name
    for name, ceiling in SCRIPT["CEILINGS"].items():
        assert tokens[name]["whole"] <= ceiling, name
    for kind in ("shown", "whole"):
        assert tokens["total"][kind] == sum(tokens[name][kind] for name in SERVERS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tokens: tokens["total"].update(whole=99999), "total costs 99999 tokens, more than"),
        (lambda tokens: tokens["memory"].update(of=""), "the record is old"),
    ],
)
def test_too_many_tokens_and_an_old_record_are_told(
    change: Callable[[Any], None], said: str
) -> None:
    tokens = json.loads(json.dumps(RECORDED["tokens"]))
    found = {name: RECORDED[name] for name in SERVERS}
    assert SCRIPT["faults"](tokens, found) == []
    change(tokens)
    assert SCRIPT["faults"](tokens, found)[0].startswith(said)


async def test_tool_names_are_unique_across_servers(server: Callable[[str], Any]) -> None:
    names = [tool.name for name in SERVERS for tool in await server(name).list_tools()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][a-z_]{2,40}", name) for name in names)


async def test_every_tool_says_what_it_does_and_what_it_touches(
    server_name: str, server: Callable[[str], Any]
) -> None:
    for tool in await server(server_name).list_tools():
        assert tool.title and tool.description and len(tool.description) >= 30, tool.name
        hints = tool.annotations
        assert hints.read_only_hint is not None, tool.name
        if hints.read_only_hint:
            assert hints.open_world_hint is not None, tool.name
        else:
            assert hints.destructive_hint is not None, tool.name
        assert tool.output_schema, tool.name


async def test_every_text_and_list_argument_is_bounded(
    server_name: str, server: Callable[[str], Any]
) -> None:
    for tool in await server(server_name).list_tools():
        for name, schema in tool.input_schema.get("properties", {}).items():
            options = schema.get("anyOf", [schema])
            for option in options:
                if option.get("type") == "string" and "enum" not in option:
                    assert "maxLength" in option, f"{tool.name}.{name}"
                if option.get("type") == "array":
                    assert "maxItems" in option, f"{tool.name}.{name}"


async def test_instructions_are_short(server_name: str, server: Callable[[str], Any]) -> None:
    assert 50 < len(server(server_name).instructions) < 2000


async def test_the_list_is_the_same_every_time(
    server_name: str, server: Callable[[str], Any]
) -> None:
    first = await server(server_name).list_tools()
    assert first == await server(server_name).list_tools()


async def test_what_is_too_much_for_an_answer_is_linked_to(server: Callable[[str], Any]) -> None:
    async with Client(server("orchestrator")) as client:
        found = await client.call_tool("describe_agent", {"codename": "apex"})
        link = found.content[1]
        assert (link.type, link.uri) == ("resource_link", "agent://APEX")
        read = await client.read_resource(link.uri)
    assert json.loads(read.contents[0].text)["prompt_text"]  # type: ignore[union-attr]
