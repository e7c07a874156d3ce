"""The bundle for Claude Desktop, as the official tools see it and as its server starts."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.cli._probe import Configured, probe

ROOT = Path(__file__).parent.parent.parent.parent
WHEELS = (
    "ryzanstein-0.1.0-cp311-cp311-linux_x86_64.whl",
    "ryzanstein-0.1.0-cp311-cp311-macosx_11_0_arm64.whl",
    "ryzanstein-0.1.0-cp311-cp311-win_amd64.whl",
)

# As Claude Desktop makes the command of a bundle that was unpacked into a folder.
CONFIGURE = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const [, , modules, folder, given] = process.argv;
const { getMcpConfigForManifest } =
  await import(pathToFileURL(`${modules}/@anthropic-ai/mcpb/dist/node.js`).href);
const manifest = JSON.parse(readFileSync(`${folder}/manifest.json`, "utf8"));
const variants = JSON.parse(given).map((userConfig) => getMcpConfigForManifest({
  manifest, extensionPath: folder, systemDirs: {}, userConfig, pathSeparator: "/" }));
console.log(JSON.stringify(await Promise.all(variants)));
"""


def bundle(out: Path, cli: Path | str, *wheels: Path) -> subprocess.CompletedProcess[str]:
    given = [text for wheel in wheels for text in ("--wheel", str(wheel))]
    command = [sys.executable, str(ROOT / "scripts" / "bundle"), str(out), "--mcpb", str(cli)]
    return subprocess.run([*command, *given], capture_output=True, text=True, check=False)


@pytest.fixture
def wheels(tmp_path: Path) -> list[Path]:
    """Files with wheels' names; what is in them is uv's business."""
    paths = [tmp_path / name for name in WHEELS]
    for path in paths:
        path.write_bytes(b"PK")
    return paths


def test_the_official_cli_accepts_the_bundle_and_its_server_starts(
    tmp_path: Path,
    wheels: list[Path],
    node_modules: Path,
    node_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", node_environment["PATH"])
    out, folder = tmp_path / "out.mcpb", tmp_path / "unpacked"
    done = bundle(out, node_modules / ".bin" / "mcpb", *wheels)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Manifest schema validation passes!" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["platforms"] == ["darwin", "linux", "win32"]
    with zipfile.ZipFile(out) as packed:
        packed.extractall(folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["manifest_version"] == "0.4" and manifest["server"]["type"] == "uv"
    assert manifest["user_config"]["search_header"]["sensitive"] is True
    assert "run_task" in [tool["name"] for tool in manifest["tools"]]
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    sources = project["tool"]["uv"]["sources"]["ryzanstein"]
    assert [(folder / one["path"]).is_file() for one in sources] == [True] * 3
    markers = [one["marker"].split("'")[1::2] for one in sources]
    assert markers == [["linux", "x86_64"], ["darwin", "arm64"], ["win32", "AMD64"]]
    assert project["tool"]["uv"]["environments"] == [one["marker"] for one in sources]
    full, empty = commands(tmp_path, folder, node_modules, node_environment)
    assert full["env"]["RYZANSTEIN_READ_ONLY"] == "true"
    (found,) = probe([started(empty, folder)])
    assert found.fault == "" and "run_task" in found.tools


def commands(
    tmp_path: Path, folder: Path, node_modules: Path, environment: dict[str, str]
) -> list[dict[str, Any]]:
    """What the client starts for a user who filled everything in, and for one who did not."""
    script = tmp_path / "configure.mjs"
    script.write_text(CONFIGURE, encoding="utf-8")
    places = [str(tmp_path), str(tmp_path / "gone")]
    full = {"server": "memory", "folders": places, "read_only": True, "default_model": "x"}
    given = json.dumps([full, {}])
    run = ["node", str(script), str(node_modules), str(folder), given]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert found[0]["args"][3:] == ["server/main.py", "memory", *places]
    assert all(one["args"][:3] == ["run", "--directory", str(folder)] for one in found)
    return found


def started(entry: dict[str, Any], folder: Path) -> Configured:
    """The same with this environment's Python, where uv would make one of the wheels."""
    args = [str(folder / "server" / "main.py"), *entry["args"][4:]]
    assert entry["command"] == "uv"
    return Configured("it", {**entry, "command": sys.executable, "args": args}, 60, folder)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["memory", "HERE", "HERE/gone"], ["mcp", "memory", "--root", "HERE"]),
        (["tools", "HERE/gone"], ["mcp", "tools", "--root", "OWN"]),
        (["", "${user_config.folders}"], ["mcp", "orchestrator", "--root", "OWN"]),
    ],
)
def test_what_the_user_left_empty_is_left_out(
    tmp_path: Path,
    isolated_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    wanted: list[str],
) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr("ryzanstein.cli.main", heard.append)
    here = [word.replace("HERE", str(tmp_path)) for word in words]
    monkeypatch.setattr(sys, "argv", ["main.py", *here])
    monkeypatch.setenv("RYZANSTEIN_SEARCH_URL", "${user_config.search_url}")
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "")
    runpy.run_path(str(ROOT / "scripts" / "mcpb" / "main.py"), run_name="__main__")
    places = {"HERE": str(tmp_path), "OWN": str(isolated_home / "data" / "files")}
    assert heard == [[places.get(word, word) for word in wanted]]
    assert not {"RYZANSTEIN_SEARCH_URL", "RYZANSTEIN_DEFAULT_MODEL"} & set(os.environ)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("other-1.0-py3-none-any.whl",), "is no wheel of ryzanstein"),
        (("ryzanstein-0.1.0-cp311-cp311-musllinux_1_2_x86_64.whl",), "no platform"),
        ((WHEELS[0], WHEELS[1].replace("311", "312")), "several versions of Python"),
    ],
)
def test_wheels_that_do_not_fit_are_refused(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"PK")
    out = tmp_path / "out.mcpb"
    done = bundle(out, "false", *(tmp_path / name for name in names))
    assert done.returncode == 1 and says in done.stderr and not out.exists()


def test_a_wheel_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = bundle(tmp_path / "out.mcpb", "false", tmp_path / WHEELS[0])
    assert done.returncode == 1 and "is no wheel" in done.stderr
