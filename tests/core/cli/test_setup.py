"""Clients' configuration files: merged, kept, and never harmed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ryzanstein.cli import _clients

Run = Callable[..., Any]
CLIENTS = ("claude-desktop", "vscode", "continue")


def load(file: Path, client: str) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text) if client == "continue" else json.loads(text)
    return found


def names(document: dict[str, Any], client: str) -> list[str]:
    if client == "continue":
        return [entry["name"] for entry in document["mcpServers"]]
    return list(document["servers" if client == "vscode" else "mcpServers"])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_new_file_starts_the_servers_by_an_absolute_command(
    run: Run, tmp_path: Path, client: str
) -> None:
    file = tmp_path / "deep" / "config"
    done = run("setup", client, "--file", str(file), "--server", "orchestrator", "--json")
    assert done.json["written"] is True and done.json["backup"] is None
    document = load(file, client)
    assert names(document, client) == ["ryzanstein"]
    entry = document["mcpServers"][0] if client == "continue" else next(iter(document.values()))
    entry = entry.get("ryzanstein", entry)
    assert Path(entry["command"]).is_absolute()
    assert entry["args"][-2:] == ["mcp", "orchestrator"]
    assert entry.get("type") == ("stdio" if client == "vscode" else None)


@pytest.mark.parametrize("client", CLIENTS)
def test_entries_of_others_stay_and_the_old_file_is_kept(
    run: Run, tmp_path: Path, client: str
) -> None:
    file = tmp_path / "config"
    other = {"command": "/bin/other", "args": ["ä"]}
    before: dict[str, Any] = {"theme": "dark"}
    if client == "continue":
        before["mcpServers"] = [{"name": "other", **other}]
        text = yaml.safe_dump(before, allow_unicode=True)
    else:
        before["servers" if client == "vscode" else "mcpServers"] = {"other": other}
        text = json.dumps(before)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o600)
    added = run("setup", client, "--file", str(file), "--server", "memory", "--json").json
    assert names(load(file, client), client) == ["other", "ryzanstein-memory"]
    assert load(file, client)["theme"] == "dark"
    assert Path(added["backup"]).read_text(encoding="utf-8") == text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = run("setup", client, "--file", str(file), "--server", "memory", "--json").json
    assert again["changed"] is False
    run("setup", client, "--file", str(file), "--remove")
    after = load(file, client)
    assert {key: after[key] for key in before} == before


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    done = run("setup", "vscode", "--file", str(file), "--dry-run")
    assert '"ryzanstein"' in done.out and not file.exists()


def test_removing_from_nothing_makes_no_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    assert run("setup", "vscode", "--file", str(file), "--remove").code == 0
    assert not file.exists()


@pytest.mark.parametrize("text", ["{", "[1]", '{"servers": 3}', "\xff\xfe{"])
def test_a_file_that_is_not_understood_is_left_alone(run: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(text.encode("latin-1"))
    done = run("setup", "vscode", "--file", str(file), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "INVALID_CONFIG")
    assert file.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize(
    ("platform", "client", "end"),
    [
        ("linux", "claude-desktop", ".config/Claude/claude_desktop_config.json"),
        (
            "darwin",
            "claude-desktop",
            "Library/Application Support/Claude/claude_desktop_config.json",
        ),
        ("win32", "claude-desktop", "AppData/Roaming/Claude/claude_desktop_config.json"),
        ("linux", "vscode", ".config/Code/User/mcp.json"),
        ("darwin", "vscode", "Library/Application Support/Code/User/mcp.json"),
        ("win32", "vscode", "AppData/Roaming/Code/User/mcp.json"),
        ("linux", "continue", ".continue/mcpServers/ryzanstein.yaml"),
    ],
)
def test_the_file_is_where_the_client_looks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, client: str, end: str
) -> None:
    monkeypatch.setattr(_clients.sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("APPDATA", "XDG_CONFIG_HOME", "CONTINUE_GLOBAL_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert _clients.CLIENTS[client].path() == tmp_path / end
