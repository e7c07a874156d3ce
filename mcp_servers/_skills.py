"""Agents as skills: a client's own model can read how an agent works and do the same.

The Skills extension (SEP-2640). A skill is a folder of files, each a resource, with a manifest of
digests; the format of SKILL.md is that of agentskills.io.

    skill://apex/SKILL.md                 name, description, method, the call that runs the agent
    skill://apex/references/examples.md   tasks it is for
    skill://apex/references/team.md       its tools and commands, whom it asks and hands on to

Clients that do not know the extension see the files as the resources that they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mcp.server.context import ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, RequestParams
from mcp_types import Resource as WireResource
from pydantic import Field

from ryzanstein.errors import InvalidRequest

if TYPE_CHECKING:
    from ryzanstein.mcp_servers._factory import Server
    from ryzanstein.registry import AgentProfile, Registry

__all__ = ["Skill", "Skills", "agent_skills"]

EXTENSION = "io.modelcontextprotocol/skills"
SCHEME = "skill://"
MAIN = "SKILL.md"
MARKDOWN = "text/markdown"
FOLDER = "inode/directory"
PAGE = 50
HOUR_MS = 3_600_000
_CACHED = {"ttlMs": HOUR_MS, "cacheScope": "public"}
_MAX_DESCRIPTION = 1024  # of agentskills.io

Json = dict[str, Any]


class ListParams(RequestParams):
    """Of skills/list."""

    cursor: str | None = Field(None, max_length=20)


class UriParams(RequestParams):
    """Of skills/get."""

    uri: str = Field(max_length=2000)


class DirectoryParams(ListParams, UriParams):
    """Of resources/directory/read."""


@dataclass(frozen=True)
class Skill:
    """A folder of text files.

    Attributes:
        name: Lower case letters, digits and single hyphens.
        frontmatter: Of its SKILL.md, at least name and description.
        files: Text by path; SKILL.md is first, with the frontmatter before it.
    """

    name: str
    frontmatter: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def uri(self) -> str:
        """The URI of its folder."""
        return f"{SCHEME}{self.name}"

    @cached_property
    def entry(self) -> Json:
        """What skills/list says of it."""
        listed = []
        for path, text in self.files.items():
            raw = text.encode()
            digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            listed.append({"uri": f"{self.uri}/{path}", "digest": digest, "size": len(raw)})
        return {
            "uri": f"{self.uri}/{MAIN}",
            "frontmatter": dict(self.frontmatter),
            "resources": listed,
        }

    def children(self, folder: str) -> list[Json]:
        """What is directly in a folder of it, by path; "" is its root."""
        before = f"{folder}/" if folder else ""
        names: dict[str, Json] = {}
        for path in self.files:
            if path.startswith(before):
                name, _, deeper = path.removeprefix(before).partition("/")
                kind = FOLDER if deeper else MARKDOWN
                names[name] = {
                    "uri": f"{self.uri}/{before}{name}",
                    "name": self.name if path == MAIN else name,
                    "mimeType": kind,
                }
        return list(names.values())


class Skills(Extension):
    """Serves skills: `skills/list`, `skills/get` and `resources/directory/read`.

    Args:
        load: Returns the skills by name; called at each request.
    """

    identifier = EXTENSION

    def __init__(self, load: Callable[[], Mapping[str, Skill]]) -> None:
        self._load = load

    def settings(self) -> Json:
        """Folders can be read."""
        return {"directoryRead": True}

    def methods(self) -> Sequence[MethodBinding]:
        """The three methods."""
        return (
            MethodBinding("skills/list", ListParams, self._list),
            MethodBinding("skills/get", UriParams, self._get),
            MethodBinding("resources/directory/read", DirectoryParams, self._read_directory),
        )

    def offer(self, server: Server) -> None:
        """Makes the files resources of a server, and lists the main ones."""
        server.resource(
            f"{SCHEME}{{skill}}/{{+path}}", mime_type=MARKDOWN, title="A file of a skill"
        )(self.file)
        server.lists(self._listed)
        server.completes(f"{SCHEME}{{skill}}/{{+path}}", "skill", lambda *_: self._load())
        server.completes(f"{SCHEME}{{skill}}/{{+path}}", "path", self._paths)

    def file(self, skill: str, path: str) -> str:
        """One file of a skill; a skill is an agent's way of working, for other models to follow."""
        found = self._load().get(skill)
        if found is None or path not in found.files:
            raise InvalidRequest(
                f"There is no {SCHEME}{skill}/{path}.", hint="skills/list has all."
            )
        return found.files[path]

    def _paths(self, typed: str, others: Mapping[str, str]) -> Sequence[str]:
        found = self._load().get(others.get("skill", ""))
        return list(found.files) if found else []

    def _listed(self) -> list[WireResource]:
        return [
            WireResource(
                uri=f"{skill.uri}/{MAIN}",
                name=skill.name,
                description=str(skill.frontmatter["description"]),
                mime_type=MARKDOWN,
                size=len(skill.files[MAIN].encode()),
            )
            for skill in self._load().values()
        ]

    async def _list(self, ctx: ServerRequestContext[Any, Any], params: ListParams) -> Json:
        skills, following = _page([one.entry for one in self._load().values()], params.cursor)
        return {"skills": skills, **following, **_CACHED}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: UriParams) -> Json:
        for skill in self._load().values():
            if params.uri == skill.entry["uri"]:
                return {"skill": skill.entry, **_CACHED}
        raise MCPError(INVALID_PARAMS, "There is no such skill.", data={"uri": params.uri})

    async def _read_directory(
        self, ctx: ServerRequestContext[Any, Any], params: DirectoryParams
    ) -> Json:
        name, _, folder = params.uri.removeprefix(SCHEME).partition("/")
        skill = self._load().get(name) if params.uri.startswith(SCHEME) else None
        children = skill.children(folder) if skill and not params.uri.endswith("/") else []
        if not children:
            raise MCPError(INVALID_PARAMS, "There is no such folder.", data={"uri": params.uri})
        resources, following = _page(children, params.cursor)
        return {"resources": resources, **following, **_CACHED}


def _page(items: list[Json], cursor: str | None) -> tuple[list[Json], Json]:
    if cursor and not (cursor.isascii() and cursor.isdecimal() and int(cursor) < len(items)):
        raise MCPError(INVALID_PARAMS, "There is no such cursor.")
    start = int(cursor or "0")
    end = start + PAGE
    return items[start:end], {"nextCursor": str(end)} if end < len(items) else {}


def agent_skills(registry: Registry) -> dict[str, Skill]:
    """Returns every agent of a registry as a skill, by the skill's name."""
    made = [_agent_skill(agent) for agent in registry.agents]
    return {skill.name: skill for skill in made}


def skill_name(codename: str) -> str:
    """The codename as the name of a skill: lower case, words joined by single hyphens."""
    return re.sub("_+", "-", codename.lower()).strip("-")


def _agent_skill(agent: AgentProfile) -> Skill:
    import yaml

    name = skill_name(agent.codename)
    frontmatter = {
        "name": name,
        "description": f"{agent.summary} For work in {agent.domain}."[:_MAX_DESCRIPTION],
        "metadata": {"agent": agent.codename, "tier": str(agent.tier), "domain": agent.domain},
    }
    head = yaml.safe_dump(frontmatter, sort_keys=False, allow_unicode=True, width=10_000)
    body = _METHOD.format(
        codename=agent.codename, domain=agent.domain, method=agent.prompt_text.strip()
    )
    files = {
        MAIN: f"---\n{head}---\n\n{body}",
        "references/examples.md": _list_of("Tasks for it", agent.examples),
        "references/team.md": _team(agent),
    }
    return Skill(name, frontmatter, files)


_METHOD = """# {codename}, {domain}

{method}

## How to use this

Work as it is said above, with your own tools. Or let the agent do it: the tool `run_agent` with
`codename` {codename} and everything it must know in `task` runs it on this machine, with its
tools, its memory and checks of the result.

- [Tasks it is for](references/examples.md)
- [Its tools, its commands, and whom it works with](references/team.md)
"""


def _team(agent: AgentProfile) -> str:
    commands = [f"/{name}: {what}" for name, what in agent.commands.items()]
    parts = {
        "Tools": agent.tools,
        "Commands": commands,
        "Asks for advice": agent.consults,
        "Hands on to": agent.hands_on_to,
    }
    return "\n".join(_list_of(title, lines) for title, lines in parts.items() if lines)


def _list_of(title: str, lines: Sequence[str]) -> str:
    return "\n".join((f"# {title}", "", *(f"- {line}" for line in lines), ""))
