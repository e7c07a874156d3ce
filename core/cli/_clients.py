"""Where MCP clients keep their configuration, and how an entry of theirs looks.

    claude-desktop   claude_desktop_config.json     {"mcpServers": {NAME: {command, args, env}}}
    vscode           mcp.json, of the user or       {"servers": {NAME: {type, command, args, env}},
                     in .vscode/ of a folder         "inputs": […]}
    continue         SECTION/ryzanstein.yaml, of    {mcpServers: [{name, command, args, env}]},
                     the user or in .continue/       {models: […]} and {prompts: […]}

Continue takes one section only of a file in its folders, which is why there are three.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzanstein.cli import _continue
from ryzanstein.cli._config_files import Kind, Plan, Section
from ryzanstein.cli._entries import Wish, server_url, servers_section, stdio_entry

__all__ = ["CLIENTS", "TOKEN_INPUT", "Client"]

TOKEN_INPUT = "ryzanstein-token"
_INPUT = {
    "type": "promptString",
    "id": TOKEN_INPUT,
    "description": "Token of `ryzanstein serve` (ryzanstein token show)",
    "password": True,
}


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        title: For people.
        kind: How its file is written.
        section: Where in it the servers are.
        seconds: How long it waits for a server.
        path: Its file: of the user's, or of the folder given.
        plans: What its files are to hold; the file given stands for all of them.
        by: The key that names an entry of a list; None for a mapping by name.
        restart: What makes it see a change.
        has_workspaces: It reads a file of the folder that is open too.
        has_urls: It reaches servers over HTTP too.
    """

    title: str
    kind: Kind
    section: str
    seconds: float
    path: Callable[[Path | None], Path]
    plans: Callable[[Wish, Path | None], list[Plan]]
    by: str | None = None
    restart: str = ""
    has_workspaces: bool = True
    has_urls: bool = True


def _home_config(*folders: str) -> list[Path]:
    """The places of a program's files on this platform, the usual one first."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return [base / folder for folder in folders]


def _first(places: Sequence[Path]) -> Path:
    return next((place for place in places if place.is_dir()), places[0])


def _claude_path(_: Path | None) -> Path:
    usual = _home_config("Claude")
    if sys.platform == "win32":  # what the Store installs sees a roaming folder of its own
        local = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        stored = sorted(local.glob("Packages/Claude_*/LocalCache/Roaming/Claude"))
        usual = [*stored, *usual]
    return _first(usual) / "claude_desktop_config.json"


def _claude_plans(wish: Wish, file: Path | None) -> list[Plan]:
    servers = servers_section("mcpServers", None, wish, lambda server: stdio_entry(wish, server))
    return [Plan(file or _claude_path(None), "json", [servers])]


def _vscode_path(workspace: Path | None) -> Path:
    if workspace is not None:
        return workspace / ".vscode" / "mcp.json"
    return _first(_home_config("Code/User", "Code - Insiders/User", "VSCodium/User")) / "mcp.json"


def _vscode_plans(wish: Wish, file: Path | None) -> list[Plan]:
    def entry(server: str) -> dict[str, Any]:
        if wish.url is None:
            return {"type": "stdio", **stdio_entry(wish, server)}
        bearer = {"Authorization": f"Bearer ${{input:{TOKEN_INPUT}}}"}
        return {"type": "http", "url": server_url(wish, server), "headers": bearer}

    asked = wish.url is not None and wish.servers
    inputs = Section(
        "inputs",
        ours=lambda one: one.get("id") == TOKEN_INPUT,
        by="id",
        entries={TOKEN_INPUT: _INPUT} if asked else {},
        gone=() if wish.servers else None,
    )
    sections = [servers_section("servers", None, wish, entry), inputs]
    return [Plan(file or _vscode_path(wish.workspace), "jsonc", sections)]


def _continue_path(workspace: Path | None) -> Path:
    return _continue.block_path("mcpServers", workspace)


CLIENTS = {
    "claude-desktop": Client(
        "Claude Desktop",
        "json",
        "mcpServers",
        60,
        _claude_path,
        _claude_plans,
        restart="Quit Claude Desktop and start it again.",
        has_workspaces=False,
        has_urls=False,
    ),
    "vscode": Client(
        "VS Code",
        "jsonc",
        "servers",
        60,
        _vscode_path,
        _vscode_plans,
        restart="Run `MCP: List Servers` in VS Code and start it there.",
    ),
    "continue": Client(
        "Continue",
        "yaml",
        "mcpServers",
        20,
        _continue_path,
        _continue.plans,
        by="name",
        restart="Reload the window of your editor.",
    ),
}
