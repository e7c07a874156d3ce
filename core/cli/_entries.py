"""An entry of a client's file: how it starts one of this program's servers, or reaches it.

    {"command": "/path/ryzanstein", "args": ["mcp", "memory"], "env": {…}}
    {"url": "http://127.0.0.1:8000/mcp/memory", …}

Clients start servers with a minimal PATH and without the user's own environment, so the command is
an absolute path and settings that point somewhere go along.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzanstein.cli._config_files import Section
from ryzanstein.cli.serving import SERVERS
from ryzanstein.config import PREFIX, Settings, load_settings

__all__ = [
    "Wish",
    "entry_name",
    "program",
    "server_url",
    "servers_section",
    "starts_us",
    "stdio_entry",
]

_NAME = "ryzanstein"
# Settings of the shell that `setup` is run in which servers started by a client need too. Others
# may hold passwords, and a client's file is no place for them.
_SETTINGS = (
    *("data_dir", "config_dir", "cache_dir", "models_dir", "registry_file", "default_model"),
    *("embedding", "threads", "context_tokens", "read_only", "roots"),
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client is to be told.

    Attributes:
        servers: By their names; empty takes all of ours out.
        command: Starts this program.
        url: Where `ryzanstein serve` is; None starts the servers as children.
        workspace: The folder that it is for; None means everything of the user's.
        roots: Folders that tools may touch.
        read_only: Nothing may be changed.
    """

    servers: tuple[str, ...]
    command: tuple[str, ...] = ()
    url: str | None = None
    workspace: Path | None = None
    roots: tuple[Path, ...] = ()
    read_only: bool = False


def program() -> tuple[str, ...]:
    """Returns the absolute command that starts this program, whatever the PATH."""
    script = Path(sys.argv[0])
    if script.name.lower().removesuffix(".exe") == "ryzanstein" and script.exists():
        return (str(script.absolute()),)
    for name in ("ryzanstein", "ryzanstein.exe"):
        beside = Path(sys.executable).with_name(name)
        if beside.exists():
            return (str(beside),)
    found = shutil.which("ryzanstein")
    return (str(Path(found).absolute()),) if found else (sys.executable, "-m", "ryzanstein.cli")


def entry_name(server: str) -> str:
    """Returns what a server is called in clients' files."""
    return _NAME if server == "orchestrator" else f"{_NAME}-{server}"


def starts_us(entry: Mapping[str, Any]) -> bool:
    """Says whether an entry of a client's file starts or reaches this program."""
    url = entry.get("url")
    if isinstance(url, str):
        return re.search(rf"/mcp/({'|'.join(SERVERS)})/?$", url) is not None
    command, args = entry.get("command"), entry.get("args")
    words = (
        [str(command), *(str(one) for one in args)] if isinstance(args, list) else [str(command)]
    )
    name = words[0].replace("\\", "/").rpartition("/")[2].lower()
    return name.removesuffix(".exe") == "ryzanstein" or "ryzanstein.cli" in words


def servers_section(
    key: str, by: str | None, wish: Wish, entry: Callable[[str], dict[str, Any]]
) -> Section:
    """Returns the part of a client's file that holds the servers.

    Args:
        key: Where in the file it is.
        by: The key that names an entry of a list; None for a mapping by name.
        wish: Which servers.
        entry: Makes the entry of a server.
    """
    entries = {entry_name(server): entry(server) for server in wish.servers}
    return Section(
        key,
        ours=starts_us,
        by=by,
        entries=entries,
        gone=() if wish.servers else [entry_name(server) for server in SERVERS],
        needed=bool(wish.servers),
    )


def stdio_entry(wish: Wish, server: str) -> dict[str, Any]:
    """Returns the entry of a server that the client starts."""
    options = [text for root in wish.roots for text in ("--root", str(root))]
    if wish.read_only:
        options.append("--read-only")
    entry = {"command": wish.command[0], "args": [*wish.command[1:], "mcp", server, *options]}
    variables = _variables(load_settings())
    return {**entry, "env": variables} if variables else entry


def _variables(settings: Settings) -> dict[str, str]:
    """Settings of this process's environment, with paths made absolute."""
    found = {}
    for name in _SETTINGS:
        value = getattr(settings, name)
        if os.environ.get(f"{PREFIX}{name.upper()}") and value not in (None, ()):
            parts = value if isinstance(value, tuple) else (value,)
            found[f"{PREFIX}{name.upper()}"] = os.pathsep.join(str(part) for part in parts)
    return found


def server_url(wish: Wish, server: str) -> str:
    """Returns where a server is under `ryzanstein serve`."""
    return f"{(wish.url or '').rstrip('/')}/mcp/{server}"
