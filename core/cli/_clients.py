"""Where MCP clients keep their configuration, and how an entry of theirs looks.

    claude-desktop   claude_desktop_config.json   {"mcpServers": {NAME: {command, args}}}
    vscode           mcp.json of the user         {"servers": {NAME: {type, command, args}}}
    continue         mcpServers/ryzanstein.yaml   {mcpServers: [{name, command, args}]}

Clients start servers with a minimal PATH, so the command is an absolute path. A file that cannot
be read as what it should be is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ryzanstein.errors import ConfigError, ConfigSaveError

__all__ = ["CLIENTS", "Change", "Client", "change", "program", "read"]


def program() -> list[str]:
    """Returns the absolute command that starts this program, whatever the PATH."""
    script = Path(sys.argv[0])
    if script.name.removesuffix(".exe") == "ryzanstein" and script.exists():
        return [str(script.absolute())]
    beside = Path(sys.executable).with_name("ryzanstein")
    if beside.exists():
        return [str(beside)]
    found = shutil.which("ryzanstein")
    return [found] if found else [sys.executable, "-m", "ryzanstein.cli"]


@dataclass(frozen=True, slots=True)
class Client:
    """One client.

    Attributes:
        title: For people.
        path: Its configuration file on this platform.
        key: Where in it the servers are.
        entry: Makes an entry of a command and a server's name.
        yaml: YAML with a list of named entries, in place of JSON with a mapping.
    """

    title: str
    path: Callable[[], Path]
    key: str
    entry: Callable[[Sequence[str], str], dict[str, Any]]
    yaml: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What a configuration becomes: its text, whether it differs, and where the old one is kept."""

    text: str
    differs: bool
    backup: Path | None


def change(
    path: Path,
    client: Client,
    entries: Mapping[str, dict[str, Any]],
    gone: Sequence[str],
    *,
    dry_run: bool = False,
) -> Change:
    """Merges entries into a configuration file and takes others out; everything else stays.

    Raises:
        ConfigError: The file is not what it should be; it was not touched.
        ConfigSaveError: It cannot be written.
    """
    before = _text(path)
    document = read(path, client)
    servers = _servers(document, client, path)
    for name in gone:
        servers.pop(name, None)
    servers.update(entries)
    if not servers and before is None:
        return Change("", differs=False, backup=None)
    _put(document, client, servers)
    text = _dump(document, client)
    differs = before is None or read(path, client) != document
    if not differs or dry_run:
        return Change(text, differs, None)
    return Change(text, True, _write(path, text, before is not None))


def read(path: Path, client: Client) -> dict[str, Any]:
    """Reads a configuration; a file that is missing or empty is an empty one.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    text = _text(path)
    if text is None or not text.strip():
        return {}
    try:
        document = _parse_yaml(text) if client.yaml else json.loads(text)
    except ValueError as error:
        hint = "Correct it, or take comments out; it was not touched."
        raise ConfigError(f"{path} cannot be understood: {error}", hint=hint) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no mapping.", hint="It was not touched.")
    return document


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="It was not touched.") from error


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _servers(document: dict[str, Any], client: Client, path: Path) -> dict[str, dict[str, Any]]:
    found = document.get(client.key)
    if found is None:
        return {}
    if client.yaml and isinstance(found, list) and all(_named(one) for one in found):
        return {one["name"]: one for one in found}
    if not client.yaml and isinstance(found, dict):
        return dict(found)
    raise ConfigError(f"{path}: {client.key} is not as expected.", hint="It was not touched.")


def _named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _put(document: dict[str, Any], client: Client, servers: dict[str, dict[str, Any]]) -> None:
    if client.yaml:
        for key, value in (("name", "Ryzanstein"), ("version", "1.0.0"), ("schema", "v1")):
            document.setdefault(key, value)
        document[client.key] = [{"name": name, **entry} for name, entry in servers.items()]
    else:
        document[client.key] = servers


def _dump(document: dict[str, Any], client: Client) -> str:
    if client.yaml:
        import yaml

        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str, exists: bool) -> Path | None:
    """Writes a file whole or not at all, after keeping the old one; returns where that is."""
    backup = None
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if exists:
            backup = path.with_name(f"{path.name}.{datetime.now():%Y%m%d-%H%M%S}.bak")
            shutil.copy2(path, backup)
        partial.write_text(text, encoding="utf-8")
        if exists:
            shutil.copymode(path, partial)
        os.replace(partial, path.resolve())
    except OSError as error:
        with contextlib.suppress(OSError):  # on a read-only disk this fails too
            partial.unlink(missing_ok=True)
        raise ConfigSaveError(
            f"{path} cannot be written: {error.strerror}.", hint="Check the rights of its folder."
        ) from error
    return backup


def _home_config(windows: str, mac: str, linux: str) -> Path:
    home = Path.home()
    if sys.platform == "win32":
        roaming = os.environ.get("APPDATA") or str(home / "AppData" / "Roaming")
        return Path(roaming) / windows
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / mac
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / linux


def _claude_path() -> Path:
    file = "Claude/claude_desktop_config.json"
    return _home_config(file, file, file)


def _vscode_path() -> Path:
    file = "Code/User/mcp.json"
    return _home_config(file, file, file)


def _continue_path() -> Path:
    root = os.environ.get("CONTINUE_GLOBAL_DIR") or Path.home() / ".continue"
    return Path(root) / "mcpServers" / "ryzanstein.yaml"


def _plain_entry(command: Sequence[str], server: str) -> dict[str, Any]:
    return {"command": command[0], "args": [*command[1:], "mcp", server]}


def _vscode_entry(command: Sequence[str], server: str) -> dict[str, Any]:
    return {"type": "stdio", **_plain_entry(command, server)}


CLIENTS = {
    "claude-desktop": Client("Claude Desktop", _claude_path, "mcpServers", _plain_entry),
    "vscode": Client("VS Code", _vscode_path, "servers", _vscode_entry),
    "continue": Client("Continue", _continue_path, "mcpServers", _plain_entry, yaml=True),
}
