"""Registry files merged and validated; every fault is kept with its file and line.

    files, first the default --add--> Draft: sections of named Located entries --build--> Registry
                                                                                     └──> faults

A later file adds entries, or replaces single fields of the entries it names; `limits` and the teams
merge by key. Entries are validated one by one, so that one wrong agent hides no fault of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ryzanstein.nearest import did_you_mean
from ryzanstein.registry_models import (
    BUILTIN_SERVERS,
    AgentProfile,
    BackendSpec,
    Limits,
    ModelEntry,
    Registry,
    Resilience,
    Routing,
    ServerSpec,
)
from ryzanstein.registry_yaml import Fault, Located, Place, read_located

__all__ = ["Draft", "build"]

_SECTIONS = {"models": "name", "backends": "name", "servers": "name", "agents": "codename"}
_MAPPINGS = ("routing", "resilience", "limits")
_NEIGHBOURS = ("consults", "hands_on_to")
_EVERYONE = "all"
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass
class Draft:
    """What the files say so far, not yet validated."""

    prompts: Path
    sections: dict[str, dict[str, Located]] = field(
        default_factory=lambda: {section: {} for section in _SECTIONS}
    )
    mappings: dict[str, Located] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def add(self, path: Path) -> None:
        """Reads a file on top of what is there; what is wrong in it goes to `faults`."""
        self.files.append(path)
        root = read_located(path, self.faults)
        if root is None:
            return
        if not isinstance(root.value, dict):
            self._fault(root, f"a registry is a mapping; begin it with one of {_known_sections()}")
            return
        for name, section in root.value.items():
            if section.value is None:
                continue
            if name in _SECTIONS:
                self._add_entries(name, section)
            elif name in _MAPPINGS:
                self._add_mapping(name, section)
            else:
                near = did_you_mean(name, (*_SECTIONS, *_MAPPINGS))
                self._fault(section, f"no section is called '{name}'; {near or _known_sections()}")

    def _add_entries(self, section: str, located: Located) -> None:
        if not isinstance(located.value, list):
            self._fault(located, f"'{section}' is no list; begin each entry with '- '")
            return
        key, here = _SECTIONS[section], self.sections[section]
        seen: dict[str, Place] = {}
        for entry in located.value:
            name = _entry_name(entry, key)
            if name is None:
                self._fault(entry, f"an entry of '{section}' has no {key}; give it one as text")
            elif name in seen:
                line = seen[name].line
                advice = f"first in line {line}; rename or remove one"
                self._fault(entry.value[key], f"{key} '{name}' is given twice, {advice}")
            else:
                seen[name] = entry.value[key].place
                here[name] = _merged(here[name], entry) if name in here else entry

    def _add_mapping(self, name: str, located: Located) -> None:
        if not isinstance(located.value, dict):
            self._fault(located, f"'{name}' is no mapping; write 'key: value' lines under it")
            return
        before = self.mappings.get(name)
        self.mappings[name] = _merged(before, located) if before else located

    def _fault(self, located: Located, message: str) -> None:
        self.faults.append(located.place.fault(message))


def _known_sections() -> str:
    return ", ".join((*_SECTIONS, *_MAPPINGS))


def _entry_name(entry: Located, key: str) -> str | None:
    """The name of an entry, codenames in capitals."""
    name = entry.value.get(key) if isinstance(entry.value, dict) else None
    if name is None or not isinstance(name.value, str) or not name.value:
        return None
    return name.value.upper() if key == "codename" else name.value


def _merged(old: Located, new: Located) -> Located:
    """The fields of `new` over those of `old`; limits and teams are merged by key in their turn."""
    fields = {**old.value, **new.value}
    for key in ("limits", "teams"):
        parts = [side.value[key] for side in (old, new) if key in side.value]
        if len(parts) == 2 and all(isinstance(part.value, dict) for part in parts):
            fields[key] = Located({**parts[0].value, **parts[1].value}, parts[1].place)
    return Located(fields, new.place)


def build(draft: Draft, tool_names: Iterable[str] | None = None) -> Registry | None:
    """Validates a draft; None where an entry cannot be used. Faults go to `draft.faults`.

    Args:
        draft: What `Draft.add` gathered.
        tool_names: The tools (and families) there are; None leaves tool names unchecked.
    """
    models = _entries(draft, "models", ModelEntry)
    backends = sorted(_entries(draft, "backends", BackendSpec), key=lambda backend: backend.order)
    servers = _entries(draft, "servers", ServerSpec)
    agents = _agents(draft)
    _check_agents(draft, None if tool_names is None else set(tool_names))
    routing, resilience = _routing(draft, agents), _resilience(draft)
    if draft.faults or routing is None or resilience is None:
        return None
    return Registry(
        models=tuple(models),
        backends=tuple(backends),
        servers=tuple(servers),
        routing=routing,
        resilience=resilience,
        agents=tuple(agents),
        files=tuple(draft.files),
    )


def _entries(draft: Draft, section: str, model: type[_Model]) -> list[_Model]:
    found = []
    for name, entry in draft.sections[section].items():
        valid = _validated(draft, model, entry, entry.plain(), f"{section[:-1]} {name}")
        if valid is not None:
            found.append(valid)
    return found


def _agents(draft: Draft) -> list[AgentProfile]:
    limits = _limits(draft)
    names = list(draft.sections["agents"])
    found = [agent for name in names if (agent := _agent(draft, name, limits)) is not None]
    codenames = [agent.codename for agent in found]
    return [_with_everyone(agent, draft, codenames) for agent in found]


def _limits(draft: Draft) -> dict[str, Any]:
    """The limits of agents that say nothing else; those of the models where these are wrong."""
    located = draft.mappings.get("limits")
    if located is None or _validated(draft, Limits, located, located.plain(), "limits") is None:
        return {}
    return dict(located.plain())


def _agent(draft: Draft, codename: str, limits: dict[str, Any]) -> AgentProfile | None:
    entry = draft.sections["agents"][codename]
    plain = {**entry.plain(), "codename": codename}
    plain.update({key: [] for key in _NEIGHBOURS if plain.get(key) == _EVERYONE})
    if isinstance(plain.get("limits", {}), dict):
        plain["limits"] = {**limits, **plain.get("limits", {})}
    if isinstance(plain.get("prompt"), str):
        plain["prompt_text"] = _prompt_text(draft, entry.value["prompt"])
    return _validated(draft, AgentProfile, entry, plain, f"agent {codename}")


def _with_everyone(agent: AgentProfile, draft: Draft, codenames: list[str]) -> AgentProfile:
    """The agent with `all` in place of names turned into every other codename."""
    entry = draft.sections["agents"][agent.codename].value
    others = tuple(name for name in codenames if name != agent.codename)
    changes = {key: others for key in _NEIGHBOURS if _text(entry.get(key)) == _EVERYONE}
    return agent.model_copy(update=changes) if changes else agent


def _prompt_text(draft: Draft, prompt: Located) -> str:
    """The text of a prompt file: beside the registry file that names it, or among our own."""
    folder = prompt.place.file.parent
    places = dict.fromkeys((folder / prompt.value, draft.prompts / prompt.value))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        tried = " or ".join(str(place.parent) for place in places)
        message = f"prompt file '{prompt.value}' is not in {tried}; create it or correct the name"
        draft.faults.append(prompt.place.fault(message))
        return "-"
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"prompt file '{path}' cannot be read ({error}); save it as UTF-8 text"
        draft.faults.append(prompt.place.fault(message))
        return "-"
    if not text:
        draft.faults.append(prompt.place.fault(f"prompt file '{path}' is empty; write the prompt"))
    return text or "-"


def _validated(
    draft: Draft, model: type[_Model], located: Located, plain: Any, what: str
) -> _Model | None:
    try:
        return model.model_validate(plain)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            if error["loc"] == ("prompt_text",):
                continue  # follows from a missing `prompt`, which has its own fault
            message = f"{what}: {_explained(error, model)}"
            draft.faults.append(located.find(error["loc"]).fault(message))
        return None


def _explained(error: Any, model: type[BaseModel]) -> str:
    """A pydantic error in words, with what to do."""
    loc = [str(step) for step in error["loc"]]
    where = ".".join(loc) or "entry"
    kind = error["type"]
    if kind == "missing":
        return f"'{where}' is missing; add it"
    if kind == "extra_forbidden":
        near = did_you_mean(loc[-1], model.model_fields) if len(loc) == 1 else ""
        return f"there is no field '{where}'; {near or 'remove it'}"
    if kind == "too_short":
        has, least = error["ctx"]["actual_length"], error["ctx"]["min_length"]
        return f"'{where}' has {has}; give at least {least}"
    if kind == "value_error":
        return str(error["ctx"]["error"]) if not loc else f"{where}: {error['ctx']['error']}"
    if kind == "string_type":
        return f"'{where}' is {error['input']!r}, which is no text; put it in quotes"
    return f"'{where}' is {error['input']!r}; {error['msg'][:1].lower()}{error['msg'][1:]}"


def _check_agents(draft: Draft, tools: set[str] | None) -> None:
    """Adds a fault for each id or command used twice and each unknown name.

    It looks at the entries as written, so that one that fails validation hides nothing here.
    """
    ids: dict[str, str] = {}
    commands: dict[str, str] = {}
    for codename, entry in draft.sections["agents"].items():
        number, owned = entry.value.get("id"), entry.value.get("commands")
        if number is not None and (text := _text(number)):
            owner = ids.setdefault(text, codename)
            if owner != codename:
                message = f"agent {codename}: id '{text}' is {owner}'s; choose another"
                draft.faults.append(number.place.fault(message))
        for command, item in owned.value.items() if owned and isinstance(owned.value, dict) else ():
            owner = commands.setdefault(command, codename)
            if owner != codename:
                message = f"slash command '{command}' is {owner}'s; remove it from {codename}"
                draft.faults.append(item.place.fault(message))
        _check_names(draft, codename, entry, tools)


def _check_names(draft: Draft, codename: str, entry: Located, tools: set[str] | None) -> None:
    codenames, models = draft.sections["agents"], draft.sections["models"]
    for key in _NEIGHBOURS:
        for item, name in _texts(entry.value.get(key)):
            if name == codename:
                message = f"agent {name}: '{key}' names itself; remove it"
                draft.faults.append(item.place.fault(message))
            elif name not in codenames:
                message = f"agent {codename}: {_unknown_agent(name, codenames)}"
                draft.faults.append(item.place.fault(message))
    model = _text(entry.value.get("model"))
    if model and model not in models:
        advice = did_you_mean(model, models) or "add it to `models`"
        message = f"agent {codename}: no model is called '{model}'; {advice}"
        draft.faults.append(entry.value["model"].place.fault(message))
    servers = set(draft.sections["servers"]) - set(BUILTIN_SERVERS)
    for key in ("tools", "grants") if tools is not None else ():
        known = {*(tools or ()), *servers, *(("*",) if key == "grants" else ())}
        for item, name in _texts(entry.value.get(key)):
            # A tool of another server is SERVER.tool, a grant may be tool:target.
            plain = name.partition(":")[0] if key == "grants" else name
            if plain not in known and plain.rpartition(".")[0] not in servers:
                advice = did_you_mean(plain, known) or f"there are {', '.join(sorted(known))}"
                message = f"agent {codename}: no tool is called '{plain}'; {advice}"
                draft.faults.append(item.place.fault(message))


def _text(located: Located | None) -> str | None:
    return located.value if located is not None and isinstance(located.value, str) else None


def _texts(located: Located | None) -> Iterator[tuple[Located, str]]:
    """The items of a list that are text; wrong ones have their fault from validation."""
    if located is not None and isinstance(located.value, list):
        for item in located.value:
            if isinstance(item.value, str):
                yield item, item.value


def _unknown_agent(name: str, codenames: Iterable[str]) -> str:
    return f"no agent is called '{name}'; {did_you_mean(name, codenames) or 'add or remove it'}"


def _routing(draft: Draft, agents: list[AgentProfile]) -> Routing | None:
    located = draft.mappings.get("routing") or Located({}, Place(draft.files[0], 1))
    if "commands" in located.value:
        message = "routing: commands belong to agents; list each under `commands` of its agent"
        draft.faults.append(located.value["commands"].place.fault(message))
        return None
    commands = {command: agent.codename for agent in agents for command in agent.commands}
    plain = {**located.plain(), "commands": commands}
    routing = _validated(draft, Routing, located, plain, "routing")
    if routing is not None:
        codenames = draft.sections["agents"]
        for steps, name in _routed_names(routing):
            if name not in codenames:
                message = f"routing: {_unknown_agent(name, codenames)}"
                draft.faults.append(located.find(steps).fault(message))
    return routing


def _resilience(draft: Draft) -> Resilience | None:
    located = draft.mappings.get("resilience")
    if located is None:
        return Resilience()
    return _validated(draft, Resilience, located, located.plain(), "resilience")


def _routed_names(routing: Routing) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for team, members in routing.teams.items():
        for index, name in enumerate(members):
            yield ("teams", team, index), name
    for kind, file_kind in enumerate(routing.file_kinds):
        for index, name in enumerate(file_kind.agents):
            yield ("file_kinds", kind, "agents", index), name
