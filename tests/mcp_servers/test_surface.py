"""What clients see: names, schemas, annotations, texts and what they cost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcp import Client

SNAPSHOT = Path(__file__).parent / "data" / "surface.json"
SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


async def surface(mcp: Any) -> dict[str, Any]:
    async with Client(mcp) as client:
        tools = (await client.list_tools()).tools
        resources = (await client.list_resources()).resources
        templates = (await client.list_resource_templates()).resource_templates
    return {
        "tools": [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools],
        "resources": [str(resource.uri) for resource in resources],
        "templates": [template.uri_template for template in templates],
    }


async def test_the_surface_is_the_recorded_one(
    server_name: str, server: Callable[[str], Any]
) -> None:
    recorded = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    found = await surface(server(server_name))
    assert found == recorded[server_name], "run scripts/surface --write if this change is meant"


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
        assert None not in (hints.read_only_hint, hints.destructive_hint, hints.open_world_hint)
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
