"""Agents as skills: the Skills extension, its manifest and what it refuses."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp import Client, MCPError
from mcp_types import Request, RequestParams
from pydantic import BaseModel, ConfigDict

from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._skills import PAGE, Skill, Skills, agent_skills, skill_name

IDENTIFIER = "io.modelcontextprotocol/skills"


class Result(BaseModel):
    """Any result."""

    model_config = ConfigDict(extra="allow")


class Params(RequestParams):
    """Any params."""

    model_config = ConfigDict(extra="allow")


async def ask(client: Client, method: str, **params: Any) -> dict[str, Any]:
    request: Any = Request[Params, str](method=method, params=Params(**params))
    return (await client.session.send_request(request, Result)).model_dump()


def orchestrator(**options: Any) -> Client:
    return Client(importlib.import_module("ryzanstein.mcp_servers.orchestrator").mcp, **options)


async def text(client: Client, uri: str) -> str:
    return str(getattr((await client.read_resource(uri)).contents[0], "text", ""))


async def test_every_agent_is_a_skill_whose_manifest_is_true() -> None:
    async with orchestrator() as client:
        extensions = client.server_capabilities.extensions or {}
        assert extensions[IDENTIFIER] == {"directoryRead": True}
        listed = await ask(client, "skills/list")
        assert listed["ttlMs"] > 0 and listed["cacheScope"] == "public"
        names = [skill["frontmatter"]["name"] for skill in listed["skills"]]
        assert names == [skill_name(agent.codename) for agent in shared().registry.agents]
        for skill in listed["skills"][:3]:
            assert skill["uri"] == f"skill://{skill['frontmatter']['name']}/SKILL.md"
            files = [one["uri"].rpartition("/")[2] for one in skill["resources"]]
            assert files == ["SKILL.md", "examples.md", "team.md"]
            for file in skill["resources"]:
                raw = (await text(client, file["uri"])).encode()
                assert file["size"] == len(raw)
                assert file["digest"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            got = await ask(client, "skills/get", uri=skill["uri"])
            assert got["skill"] == skill and "nextCursor" not in got


async def test_a_skill_file_has_the_frontmatter_of_its_entry_and_the_agents_method() -> None:
    async with orchestrator() as client:
        read = await text(client, "skill://apex/SKILL.md")
        _, head, body = read.split("---\n", 2)
        entry = (await ask(client, "skills/get", uri="skill://apex/SKILL.md"))["skill"]
        assert yaml.safe_load(head) == entry["frontmatter"]
        apex = shared().registry.agent("APEX")
        assert apex.prompt_text.strip() in body and "run_agent" in body
        assert apex.examples[0] in await text(client, "skill://apex/references/examples.md")
        assert "CIPHER" in await text(client, "skill://apex/references/team.md")


async def test_folders_are_read_level_by_level() -> None:
    async with orchestrator() as client:
        root = (await ask(client, "resources/directory/read", uri="skill://apex"))["resources"]
        assert [(one["name"], one["mimeType"]) for one in root] == [
            ("apex", "text/markdown"),
            ("references", "inode/directory"),
        ]
        inside = await ask(client, "resources/directory/read", uri=root[1]["uri"])
        assert [one["uri"] for one in inside["resources"]] == [
            "skill://apex/references/examples.md",
            "skill://apex/references/team.md",
        ]


async def test_skills_are_ordinary_resources_for_clients_that_know_no_extension() -> None:
    server = importlib.import_module("ryzanstein.mcp_servers.orchestrator").mcp
    async with Client(server, mode="legacy") as client:
        listed = {str(one.uri): one for one in (await client.list_resources()).resources}
        apex = listed["skill://apex/SKILL.md"]
        read = await client.read_resource("skill://apex/SKILL.md")
    assert (apex.name, apex.mime_type) == ("apex", "text/markdown")
    assert apex.description and apex.description in str(read.contents[0])
    assert read.contents[0].mime_type == "text/markdown"


NONE: list[tuple[str, dict[str, Any]]] = [
    ("skills/get", {"uri": "skill://nobody/SKILL.md"}),
    ("skills/get", {"uri": "skill://apex"}),
    ("skills/get", {"uri": "skill://apex/references/examples.md"}),
    ("skills/get", {"uri": "skill://" + "x" * 5000}),
    ("skills/get", {"uri": 7}),
    ("skills/get", {}),
    ("skills/list", {"cursor": "nonsense"}),
    ("skills/list", {"cursor": "999999"}),
    ("skills/list", {"cursor": "²"}),
    ("skills/list", {"cursor": ["1"]}),
    ("resources/directory/read", {"uri": "skill://apex/SKILL.md"}),
    ("resources/directory/read", {"uri": "skill://apex/"}),
    ("resources/directory/read", {"uri": "skill://apex/../apex"}),
    ("resources/directory/read", {"uri": "skill://"}),
    ("resources/directory/read", {"uri": "file:///etc"}),
    ("resources/directory/read", {"uri": "skill://apex", "cursor": "5"}),
]


async def test_what_is_none_is_refused() -> None:
    async with orchestrator() as client:
        for method, params in NONE:
            with pytest.raises(MCPError) as caught:
                await ask(client, method, **params)
            assert caught.value.code == -32602, (method, params)
        assert len((await ask(client, "skills/list"))["skills"]) == 40


NO_FILES = [
    "skill://apex",
    "skill://apex/",
    "skill://apex/none.md",
    "skill://apex/../cipher/SKILL.md",
    "skill://apex/%2e%2e/cipher/SKILL.md",
    "skill://nobody/SKILL.md",
    "skill://apex/SKILL.md%00",
]


async def test_a_file_that_is_none_is_not_read() -> None:
    async with orchestrator() as client:
        for uri in NO_FILES:
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
            assert caught.value.code == -32602, uri


async def test_long_lists_come_in_pages_and_no_entry_twice() -> None:
    many = {
        f"s{number}": Skill(
            f"s{number}",
            {"name": f"s{number}", "description": "x"},
            {"SKILL.md": "x", **{f"f{number}.md": "y" for number in range(PAGE + 10)}},
        )
        for number in range(2 * PAGE + 1)
    }
    skills = Skills(lambda: many)
    server = make_server("paged", "Paged", "A server of a test.", extensions=[skills])
    skills.offer(server)
    async with Client(server) as client:
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            one = await ask(client, "skills/list", **cursor)
            found += [skill["frontmatter"]["name"] for skill in one["skills"]]
            if "nextCursor" not in one:
                break
            cursor = {"cursor": one["nextCursor"]}
        first = await ask(client, "resources/directory/read", uri="skill://s0")
        rest = await ask(
            client, "resources/directory/read", uri="skill://s0", cursor=first["nextCursor"]
        )
    assert found == list(many)
    assert [len(one["resources"]) for one in (first, rest)] == [PAGE, 11]


def test_agents_of_a_users_own_file_become_skills_too(tmp_path: Path) -> None:
    agent = (
        shared()
        .registry.agent("APEX")
        .model_copy(
            update={
                "codename": "MY__OWN_1",
                "summary": 'Says: "yes", #1 {of} all',
                "consults": (),
                "hands_on_to": (),
                "tools": (),
                "commands": {},
            }
        )
    )
    registry = shared().registry.model_copy(update={"agents": (agent,)})
    (made,) = agent_skills(registry).values()
    assert made.name == "my-own-1"
    head = yaml.safe_load(made.files["SKILL.md"].split("---\n")[1])
    assert head == made.frontmatter == json.loads(json.dumps(made.frontmatter))
    assert made.files["references/team.md"] == ""
