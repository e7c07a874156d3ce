"""What Continue is told: MCP servers, models at /v1, and the slash commands as prompts.

    mcpServers/ryzanstein.yaml   the servers
    models/ryzanstein.yaml       chat, autocomplete and embeddings of `ryzanstein serve`
    prompts/ryzanstein.yaml      a prompt a slash command, with its agent's instructions
    .env                         RYZANSTEIN_TOKEN, which the others name as a secret

The files follow the schema of Continue's package @continuedev/config-yaml.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ryzanstein.cli._config_files import Change, Plan, Section, read_text
from ryzanstein.cli._entries import Wish, server_url, servers_section, stdio_entry
from ryzanstein.config import load_settings
from ryzanstein.tokens import Tokens

if TYPE_CHECKING:
    from ryzanstein.registry_models import ModelEntry

__all__ = ["SECRET", "block_path", "is_local", "owner_token", "plans", "secret_change"]

SECRET = "RYZANSTEIN_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8000"
_LOCAL = ("127.0.0.1", "localhost", "::1")
_REFERENCE = f"${{{{ secrets.{SECRET} }}}}"
_HEADER = {"name": "Ryzanstein", "version": "1.0.0", "schema": "v1"}
_MARK = "Ryzanstein "
# Continue warns where an answer leaves fewer than 1,000 tokens of the context to its question.
_ANSWER = 2048


def root(workspace: Path | None = None) -> Path:
    """Returns Continue's own folder, of the user's or in a workspace."""
    if workspace is not None:
        return workspace / ".continue"
    return Path(os.environ.get("CONTINUE_GLOBAL_DIR") or Path.home() / ".continue")


def block_path(section: str, workspace: Path | None = None) -> Path:
    """Returns our file of a section."""
    return root(workspace) / section / "ryzanstein.yaml"


def plans(wish: Wish, file: Path | None) -> list[Plan]:
    """Returns what Continue's files are to hold: one a section, or all in the file given."""
    sections = [_servers(wish), _models(wish), _prompts(wish)]
    if file is not None:
        return [Plan(file, "yaml", sections, _HEADER)]
    return [Plan(block_path(one.key, wish.workspace), "yaml", [one], _HEADER) for one in sections]


def secret_change(wanted: bool, url: str | None, *, make: bool) -> Change:
    """Returns Continue's .env file with the token of this machine's `serve`, or without it.

    Args:
        wanted: It is to be there.
        url: Where `serve` is; another machine's token is not known here.
        make: Make the token where there is none yet.

    Raises:
        ConfigError: A file cannot be read or written.
    """
    path = root() / ".env"
    before = read_text(path)
    text = before or ""
    if not wanted:
        text = _with_secret(text, None)
    elif is_local(url or DEFAULT_URL):
        text = _with_secret(text, owner_token(make=make))
    return Change(path, text, before, secret=True)


def is_local(url: str) -> bool:
    """Says whether an address is of this machine."""
    return urlsplit(url).hostname in _LOCAL


def owner_token(*, make: bool = False) -> str:
    """Returns the token of this machine's `serve`; "" where there is none yet and none is made."""
    tokens = Tokens(load_settings().data_dir)
    if make:
        return tokens.owner()
    return next((one.token for one in tokens.all() if one.token), "")


def _with_secret(text: str, token: str | None) -> str:
    assignment = re.compile(rf"(?m)^[ \t]*(?:export[ \t]+)?{SECRET}[ \t]*=.*\n?")
    others = assignment.sub("", text)
    if token is None:
        return others
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not others or others.endswith("\n") else end
    return f"{others}{gap}{SECRET}={token}{end}"


def _servers(wish: Wish) -> Section:
    def entry(server: str) -> dict[str, Any]:
        if wish.url is None:
            return {"type": "stdio", **stdio_entry(wish, server)}
        bearer = {"headers": {"Authorization": f"Bearer {_REFERENCE}"}}
        return {
            "type": "streamable-http",
            "url": server_url(wish, server),
            "requestOptions": bearer,
        }

    return servers_section("mcpServers", "name", wish, entry)


def _models(wish: Wish) -> Section:
    found = _model_entries((wish.url or DEFAULT_URL).rstrip("/") + "/v1") if wish.servers else {}
    return Section("models", ours=_is_named, by="name", entries=found, gone=None)


def _model_entries(base: str) -> dict[str, dict[str, Any]]:
    from ryzanstein.inference.catalogue import Catalogue
    from ryzanstein.registry import load_registry

    settings = load_settings()
    catalogue = Catalogue(settings, load_registry(settings=settings).models)
    chat = catalogue.default()
    common = {"provider": "openai", "apiBase": base, "apiKey": _REFERENCE}
    known = {one.entry.name: one.entry for one in catalogue.entries()}
    context = _context(known.get(chat), settings.context_tokens)
    coders = [one for one in known.values() if "coder" in one.name]
    small = min(coders, key=lambda one: one.bytes).name if coders else chat
    options = {"contextLength": context, "maxTokens": min(_ANSWER, context // 2), "temperature": 0}
    return {
        f"{_MARK}chat": {
            **common,
            "model": chat,
            # /v1 refuses tools; without this Continue decides by the name whether to send them.
            "capabilities": [],
            "roles": ["chat", "edit", "apply", "summarize"],
            "defaultCompletionOptions": options,
        },
        f"{_MARK}autocomplete": {
            **common,
            "model": small,
            "roles": ["autocomplete"],
            "useLegacyCompletionsEndpoint": True,
            "defaultCompletionOptions": {"contextLength": context, "maxTokens": 128},
        },
        f"{_MARK}embeddings": {**common, "model": settings.embedding, "roles": ["embed"]},
    }


def _context(entry: ModelEntry | None, most: int) -> int:
    return min(most, entry.context) if entry is not None and entry.context else most


def _prompts(wish: Wish) -> Section:
    found = _prompt_entries() if wish.servers else {}
    return Section("prompts", ours=_is_described, by="name", entries=found, gone=None)


def _prompt_entries() -> dict[str, dict[str, Any]]:
    from ruamel.yaml.scalarstring import LiteralScalarString

    from ryzanstein.registry import load_registry

    registry = load_registry()
    entries = {}
    for name, owner in sorted(registry.routing.commands.items()):
        agent = registry.agent(owner)
        what = agent.commands[name]
        # What the user types behind the command follows it.
        text = f"{agent.prompt_text.strip()}\n\n/{name}: {what}"
        entries[name] = {
            "description": f"{_MARK}{agent.codename}: {what}",
            "prompt": LiteralScalarString(text),
        }
    return entries


def _is_named(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("name")).startswith(_MARK)


def _is_described(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("description")).startswith(_MARK)
