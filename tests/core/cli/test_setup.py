"""Clients' configuration files: merged, kept, and never harmed."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ryzanstein.cli import _clients, _config_files, _entries

Run = Callable[..., Any]
CLIENTS = ("claude-desktop", "vscode", "continue")
URL = "http://127.0.0.1:8000"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "CONTINUE_GLOBAL_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def load(file: Path, client: str) -> dict[str, Any]:
    text = file.read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text) if client == "continue" else json.loads(text)
    return found


def servers(document: dict[str, Any], client: str) -> dict[str, Any]:
    if client == "continue":
        return {entry["name"]: entry for entry in document["mcpServers"]}
    found: dict[str, Any] = document["servers" if client == "vscode" else "mcpServers"]
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_a_new_file_starts_the_servers_by_an_absolute_command(
    run: Run, tmp_path: Path, client: str
) -> None:
    file = tmp_path / "deep" / "config"
    done = run("setup", client, "--file", str(file), "--server", "orchestrator", "--json")
    assert done.json["written"] is True and done.json["backup"] is None
    entry = servers(load(file, client), client)["ryzanstein"]
    assert Path(entry["command"]).is_absolute()
    assert entry["args"][-2:] == ["mcp", "orchestrator"] or client == "claude-desktop"
    assert entry.get("type") == (None if client == "claude-desktop" else "stdio")


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
    file.chmod(0o640)
    added = run("setup", client, "--file", str(file), "--server", "memory", "--json").json
    assert list(servers(load(file, client), client)) == ["other", "ryzanstein-memory"]
    assert load(file, client)["theme"] == "dark"
    assert Path(added["backup"]).read_text(encoding="utf-8") == text
    for kept in (file, Path(added["backup"])):
        assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    again = run("setup", client, "--file", str(file), "--server", "memory", "--json").json
    assert again["changed"] is False
    run("setup", client, "--file", str(file), "--remove")
    after = load(file, client)
    assert {key: after[key] for key in before} == before


@pytest.mark.parametrize("client", CLIENTS)
def test_setting_up_and_removing_leaves_the_text_as_it_was(
    run: Run, tmp_path: Path, client: str
) -> None:
    file = tmp_path / "config"
    text = '{\n\t"mcpServers": {\n\t\t"o": {"command": "x"}\n\t},\n\t"servers": {}\n}\n'
    if client == "continue":
        text = "# mine\nname: Me\nmcpServers:\n  - name: o  # theirs\n    command: x\nrules: []\n"
    file.write_text(text, encoding="utf-8")
    run("setup", client, "--file", str(file), "--server", "memory", "--server", "tools")
    assert len(servers(load(file, client), client)) == (2 if client == "vscode" else 3)
    run("setup", client, "--file", str(file), "--remove")
    after = file.read_text(encoding="utf-8")
    assert load(file, client).items() >= _parsed(text, client).items()
    assert all(line in after for line in text.splitlines() if "{}" not in line)


def _parsed(text: str, client: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text) if client == "continue" else json.loads(text)
    return found


@pytest.mark.parametrize("client", CLIENTS)
def test_an_entry_of_our_name_that_starts_something_else_is_no_ground_to_lose_it(
    run: Run, tmp_path: Path, client: str
) -> None:
    file = tmp_path / "config"
    mine = {"command": "/bin/mine", "args": []}
    if client == "continue":
        text = yaml.safe_dump({"mcpServers": [{"name": "ryzanstein", **mine}]})
    else:
        text = json.dumps({"servers" if client == "vscode" else "mcpServers": {"ryzanstein": mine}})
    file.write_text(text, encoding="utf-8")
    done = run("setup", client, "--file", str(file), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "INVALID_CONFIG")
    assert "Rename" in done.json["error"]["hint"]
    run("setup", client, "--file", str(file), "--remove")
    assert file.read_text(encoding="utf-8") == text


def test_only_entries_of_our_names_are_taken_out(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    others = {
        "github": {"type": "http", "url": "https://example.org/mcp/"},
        "mine": {"command": "/opt/ryzanstein", "args": ["mcp", "memory"]},
    }
    file.write_text(json.dumps({"servers": others}), encoding="utf-8")
    run("setup", "vscode", "--file", str(file), "--server", "cache")
    run("setup", "vscode", "--file", str(file), "--remove")
    assert load(file, "vscode") == {"servers": others}


def test_what_a_user_added_to_an_entry_stays(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    entry = {"command": "/old/ryzanstein", "args": ["mcp"], "env": {"A": "1"}, "disabled": True}
    file.write_text(json.dumps({"servers": {"ryzanstein": entry}}), encoding="utf-8")
    run("setup", "vscode", "--file", str(file), "--url", URL)
    changed = servers(load(file, "vscode"), "vscode")["ryzanstein"]
    assert changed.pop("headers")["Authorization"] == "Bearer ${input:ryzanstein-token}"
    assert changed == {
        "env": {"A": "1"},
        "disabled": True,
        "type": "http",
        "url": f"{URL}/mcp/orchestrator",
    }


@pytest.mark.parametrize("text", ["", "{}", '{"servers": null}', '{"servers": {"ryzanstein": 3}}'])
def test_what_is_empty_or_odd_is_no_obstacle(run: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(text, encoding="utf-8")
    run("setup", "vscode", "--file", str(file), "--remove")
    assert file.read_text(encoding="utf-8") == text
    done = run("setup", "vscode", "--file", str(file), "--json")
    assert done.code == (1 if "3" in text else 0)
    assert "3" in text or "ryzanstein" in servers(load(file, "vscode"), "vscode")


def test_an_environment_that_is_none_is_replaced(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    entry = {"command": "/old/ryzanstein", "args": 3, "env": ["A"]}
    file.write_text(json.dumps({"servers": {"ryzanstein": entry}}), encoding="utf-8")
    assert run("setup", "vscode", "--file", str(file)).code == 0
    assert isinstance(servers(load(file, "vscode"), "vscode")["ryzanstein"]["env"], dict)


def test_comments_of_vscode_files_stay(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    text = '{\r\n  // mine\r\n  "servers": {\r\n    "o": {"command": "x",}, // why\r\n  },\r\n}\r\n'
    file.write_bytes(text.encode())
    run("setup", "vscode", "--file", str(file), "--url", URL)
    written = file.read_bytes().decode()
    assert "// mine\r\n" in written and '"o": {"command": "x",}, // why\r\n' in written
    assert "\n" not in written.replace("\r\n", "")
    found = _config_files.read(file, "jsonc")
    assert found["inputs"] == [found["inputs"][0]] and found["inputs"][0]["password"] is True
    run("setup", "vscode", "--file", str(file), "--remove")
    left = file.read_bytes().decode()
    assert left.replace(",", "") == text.replace(",", "")


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path, isolated_home: Path) -> None:
    file = tmp_path / "mcp.json"
    done = run("setup", "vscode", "--file", str(file), "--dry-run")
    assert '"ryzanstein"' in done.out and not file.exists()
    for client in ("claude-desktop", "continue"):
        shown = run("setup", client, "--dry-run", "--json").json
        assert shown["changed"] is True and shown["written"] is False
        assert not any(Path(one["file"]).exists() for one in shown["files"])
    assert not isolated_home.joinpath("data").exists()


@pytest.mark.parametrize("client", CLIENTS)
def test_removing_from_nothing_makes_no_file(run: Run, tmp_path: Path, client: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run("setup", client, "--remove").code == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        '{"servers": 3, "mcpServers": 3}',
        "\xff\xfe{",
        "{'a': [}",
        "\0",
        '{"a":' * 50_000,
    ],
    ids=range(7),
)
def test_a_file_that_is_not_understood_is_left_alone(
    run: Run, tmp_path: Path, text: str, client: str
) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(text.encode("latin-1"))
    done = run("setup", client, "--file", str(file), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "INVALID_CONFIG")
    assert file.read_bytes() == text.encode("latin-1")


def test_a_linked_file_is_changed_where_it_is(run: Run, tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles" / "mcp.json", tmp_path / "mcp.json"
    real.parent.mkdir()
    real.write_text("{}", encoding="utf-8")
    link.symlink_to(real)
    run("setup", "vscode", "--file", str(link))
    assert link.is_symlink() and "ryzanstein" in real.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_said(run: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    done = run("setup", "vscode", "--file", str(blocked / "mcp.json"), "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "INVALID_CONFIG")


def test_a_file_that_changes_while_it_is_read_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(_config_files.ConfigSaveError, match="was changed"):
        _config_files.written(_config_files.Change(file, "{1}", '{"before": 1}'))
    assert file.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("claude-desktop", "--url", URL), 2, "starts servers itself"),
        (("claude-desktop", "--workspace"), 2, "no files of folders"),
        (("vscode", "--workspace", "--file", "x"), 2, "--workspace and --file"),
        (("vscode", "--workspace", "/no/such/folder"), 2, "does not exist"),
        (("vscode", "--url", "ftp://127.0.0.1"), 1, "no address"),
        (("vscode", "--url", "http://[::1"), 1, "no address"),
        (("vscode", "--url", "http://127.0.0.1:99999"), 1, "no address"),
        (("vscode", "--url", "http://me:secret@127.0.0.1:8000"), 1, "no address"),
        (("vscode", "--url", f"{URL}/mcp/memory"), 1, "not one server"),
        (("continue", "--url", "http://example.org"), 1, "unencrypted"),
        (("emacs",), 2, "emacs"),
        (("vscode", "--root", "/no/such/folder"), 2, "does not exist"),
    ],
)
def test_what_a_client_cannot_do_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = run("setup", *arguments, "--json")
    assert done.code == code and says in done.json["error"]["message"]
    assert "secret" not in done.out + done.err
    assert not list(tmp_path.rglob("*.json"))


def test_settings_of_the_shell_go_along_but_no_passwords(
    run: Run, tmp_path: Path, isolated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_SEARCH_HEADER", "X-Key: secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RYZANSTEIN_DATA_DIR", "here")
    file = tmp_path / "c.json"
    options = ("--root", ".", "--read-only", "--file", str(file))
    run("setup", "claude-desktop", *options)
    entry = load(file, "claude-desktop")["mcpServers"]["ryzanstein"]
    assert entry["args"][-3:] == ["--root", str(tmp_path), "--read-only"]
    assert entry["env"]["RYZANSTEIN_DATA_DIR"] == str(tmp_path / "here")
    assert "secret" not in file.read_text(encoding="utf-8")


def test_claude_desktop_lets_tools_into_a_folder_of_ours_only(
    run: Run, tmp_path: Path, isolated_home: Path
) -> None:
    file = tmp_path / "c.json"
    run("setup", "claude-desktop", "--file", str(file))
    entry = load(file, "claude-desktop")["mcpServers"]["ryzanstein"]
    assert entry["args"][-2:] == ["--root", str(isolated_home / "data" / "files")]
    assert isolated_home.joinpath("data", "files").is_dir()


def test_a_folder_of_vscode_and_continue_has_its_own_files(run: Run, tmp_path: Path) -> None:
    run("setup", "vscode", "--workspace", str(tmp_path))
    entry = load(tmp_path / ".vscode" / "mcp.json", "vscode")["servers"]["ryzanstein"]
    assert entry["args"][-2:] == ["--root", "${workspaceFolder}"]
    work = tmp_path / "work"
    work.mkdir()
    run("setup", "continue", "--workspace", str(work))
    assert (work / ".continue" / "mcpServers" / "ryzanstein.yaml").exists()
    assert not (tmp_path / ".continue" / "mcpServers").exists()


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
    assert _clients.CLIENTS[client].path(None) == tmp_path / end


@pytest.mark.parametrize(
    ("platform", "client", "there"),
    [
        ("linux", "vscode", ".config/Code - Insiders/User"),
        ("darwin", "vscode", "Library/Application Support/VSCodium/User"),
        (
            "win32",
            "claude-desktop",
            "AppData/Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude",
        ),
    ],
)
def test_of_several_editions_the_one_that_is_installed_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, client: str, there: str
) -> None:
    monkeypatch.setattr(_clients.sys, "platform", platform)
    (tmp_path / there).mkdir(parents=True)
    assert _clients.CLIENTS[client].path(None).parent == tmp_path / there


@pytest.mark.parametrize(
    ("entry", "ours"),
    [
        ({"command": r"C:\Users\x\Scripts\ryzanstein.exe", "args": ["mcp"]}, True),
        ({"command": "/usr/bin/python3", "args": ["-m", "ryzanstein.cli", "mcp"]}, True),
        ({"command": "/home/x/ryzanstein/run-other", "args": []}, False),
        ({"command": "/bin/other", "args": ["--name", "ryzanstein"]}, False),
        ({"url": f"{URL}/mcp/memory"}, True),
        ({"url": "https://example.org/mcp/"}, False),
        ({"url": "https://example.org/mcp/others"}, False),
        ({}, False),
    ],
)
def test_our_entries_are_told_from_others(entry: dict[str, Any], ours: bool) -> None:
    assert _entries.starts_us(entry) is ours
