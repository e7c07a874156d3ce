"""`ryzanstein doctor` starts what clients are to start, as they would, and lists the tools."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.cli import _clients, _probe
from ryzanstein.cli._probe import Configured, configured, probe
from ryzanstein.errors import ConfigError

Run = Callable[..., Any]

# Answers as an MCP server would, and tells what it was started with as the names of its tools.
SERVER = """
import json, os, sys
names = ["PATH=" + os.environ["PATH"], "cwd=" + os.getcwd(), *sys.argv[1:]]
for name in sorted(os.environ):
    if name.startswith(("RYZANSTEIN", "SECRET")):
        names.append(name)
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "x", "version": "1"}}
    else:
        cursor = (asked.get("params") or {}).get("cursor")
        at = int(cursor or 0)
        result = {"tools": [{"name": names[at], "inputSchema": {"type": "object"}}]}
        if at + 1 < len(names):
            result["nextCursor"] = str(at + 1)
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "CONTINUE_GLOBAL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    """A program called ryzanstein."""
    path = tmp_path / "bin" / "ryzanstein"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{SERVER}", encoding="utf-8")
    path.chmod(0o755)
    yield path


def server(command: Path | str, *args: str, seconds: float = 30, **entry: Any) -> Configured:
    return Configured("one", {"command": str(command), "args": args, **entry}, seconds, Path("/"))


def test_a_server_starts_with_a_bare_path_and_the_variables_of_its_entry_only(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SHELL", "x")
    (found,) = probe([server(script, "mcp", env={"RYZANSTEIN_THREADS": "2"})])
    assert found.fault == "" and found.seconds > 0
    assert found.tools == (
        "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
        "cwd=/",
        "mcp",
        "RYZANSTEIN_THREADS",
    )


def test_what_keeps_a_server_from_starting_is_said(tmp_path: Path) -> None:
    (tmp_path / "dead").write_text("#!/bin/sh\necho first >&2\necho 'no module x' >&2\nexit 3\n")
    (tmp_path / "dead").chmod(0o755)
    (tmp_path / "silent").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "silent").chmod(0o755)
    (tmp_path / "plain").write_text("x")
    found = probe(
        [
            server(tmp_path / "gone"),
            server(tmp_path / "dead"),
            server(tmp_path / "silent", seconds=0.5),
            server(tmp_path / "plain"),
            server("relative-and-nowhere"),
            server("\0", env=[1]),
            Configured("one", {"args": ["ryzanstein.cli"]}, 5, Path("/")),
            Configured("one", {"command": "/bin/true", "args": "mcp"}, 5, Path("/")),
        ]
    )
    faults = [one.fault for one in found]
    assert faults[0] == f"{tmp_path / 'gone'} is not there any more"
    assert faults[1] == "no module x"
    assert faults[2] == "no answer within 0.5 s"
    assert "ermission" in faults[3]
    assert faults[4] == "relative-and-nowhere is not there any more"
    assert faults[5].startswith("its entry cannot be used")
    assert faults[6:] == [
        "its entry cannot be used: it has no command",
        "its entry cannot be used: args is no list",
    ]
    assert not any(one.tools for one in found)


def test_a_server_that_writes_without_end_takes_neither_memory_nor_disk(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    floods = []
    for name, where in (("out", ""), ("err", ">&2")):
        flood = tmp_path / name
        flood.write_text(f"#!/bin/sh\nexec yes no words at all {where}\n")
        flood.chmod(0o755)
        floods.append(server(flood, seconds=0.5))
    found = probe(floods)
    assert found[0].fault == "no answer within 0.5 s"
    assert found[1].fault in {"no words at all", "no answer within 0.5 s"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    assert capfd.readouterr() == ("", "") and not caplog.records


def test_the_entries_of_the_user_and_of_the_folder_are_found(script: Path, home: Path) -> None:
    ours = {"command": str(script), "args": ["mcp", "--root", "${workspaceFolder}"]}
    user = _clients.CLIENTS["vscode"].path(None)
    folder = home / ".vscode" / "mcp.json"
    other = {"command": "/bin/other", "args": []}
    for path in (user, folder):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"servers": {"ryzanstein": ours, "other": other}}))
    files = configured("vscode", home)
    assert list(files) == [user, folder]
    assert [one.name for servers in files.values() for one in servers] == ["ryzanstein"] * 2
    (found,) = probe(files[folder])
    assert found.tools[1:] == (f"cwd={home}", "mcp", "--root", str(home))


@pytest.mark.parametrize("client", ["claude-desktop", "vscode", "continue"])
def test_a_file_that_is_damaged_is_a_fault_of_its_client_only(home: Path, client: str) -> None:
    path = _clients.CLIENTS[client].path(None)
    path.parent.mkdir(parents=True)
    path.write_text('{"servers": [', encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot be understood"):
        configured(client, home)


def test_entries_that_are_none_are_passed_over(home: Path) -> None:
    path = _clients.CLIENTS["vscode"].path(None)
    path.parent.mkdir(parents=True)
    path.write_text('{"servers": {"ryzanstein": 3, "x": {"command": ["ryzanstein"]}}}')
    assert configured("vscode", home) == {}


def test_doctor_lists_the_tools_of_the_real_server_and_fails_where_one_is_gone(
    run: Run, home: Path
) -> None:
    assert run("setup", "claude-desktop").code == 0
    gone = {"servers": {"ryzanstein": {"command": "/gone/ryzanstein", "args": ["mcp"]}}}
    path = _clients.CLIENTS["vscode"].path(None)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(gone), encoding="utf-8")
    done = run("doctor", "--json")
    rows = {row["name"]: row for row in done.json["checks"]}
    assert rows["claude-desktop"]["ok"] is True
    assert "run_task" in rows["claude-desktop"]["servers"][0]["tools"]
    assert rows["vscode"]["ok"] is False and "ryzanstein setup vscode" in rows["vscode"]["detail"]
    assert rows["continue"]["detail"] == "not set up: ryzanstein setup continue"
    assert (done.code, done.json["ok"]) == (1, False)


def test_a_server_at_an_address_is_shown_the_token_of_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_probe, "owner_token", lambda: "mine")
    header = {"Authorization": "Bearer ${input:ryzanstein-token}"}
    assert _probe.headers_of("http://127.0.0.1:8000/mcp/x", {"headers": header}) == {
        "Authorization": "Bearer mine"
    }
    far = {
        "requestOptions": {"headers": {"Authorization": "Bearer ${{ secrets.RYZANSTEIN_TOKEN }}"}}
    }
    url = "https://example.org/mcp/memory"
    assert _probe.headers_of(url, far) == {}
    (found,) = probe([Configured("one", {"url": url, **far}, 5, Path("/"))])
    assert found.note == "not tried: only the client knows its token" and not found.fault


def test_a_server_that_is_not_up_is_said_so() -> None:
    down = Configured("one", {"url": "http://127.0.0.1:1/mcp/memory"}, 5, Path("/"))
    (found,) = probe([down])
    assert found.tools == () and found.fault
