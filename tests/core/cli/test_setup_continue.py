"""What Continue is told, as Continue's own package reads it."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ryzanstein.config import load_settings
from ryzanstein.registry import load_registry
from ryzanstein.tokens import Tokens

Run = Callable[..., Any]
SECTIONS = ("mcpServers", "models", "prompts")

# As Continue loads its configuration: blocks of its folders are put into the main file, and
# secrets are taken from the .env file.
LOAD = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const [, , folder, ...files] = process.argv;
const { RegistryClient, unrollAssistantFromContent, validateConfigYaml } =
  await import(pathToFileURL(`${folder}/@continuedev/config-yaml/dist/index.js`).href);
const secrets = Object.fromEntries(readFileSync(files.pop(), "utf8").trim().split("\\n")
  .map((line) => line.split("=")));
const platformClient = { resolveFQSNs: async (fqsns) => fqsns.map((fqsn) => ({
  found: true, fqsn, value: secrets[fqsn.secretName],
  secretLocation: { secretName: fqsn.secretName, secretType: "local_env" } })) };
const main = "name: Local Agent\\nversion: 1.0.0\\nschema: v1\\n";
const { config, errors } = await unrollAssistantFromContent(
  { uriType: "slug", fullSlug: { ownerSlug: "", packageSlug: "", versionSlug: "" } }, main,
  new RegistryClient({ rootPath: "/" }),
  { renderSecrets: true, platformClient, currentUserSlug: "", orgScopeId: null,
    onPremProxyUrl: null,
    injectBlocks: files.map((fileUri) => ({ uriType: "file", fileUri })) });
console.log(JSON.stringify({ config, errors, faults: validateConfigYaml(config) }));
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Continue's own folder."""
    monkeypatch.setenv("CONTINUE_GLOBAL_DIR", str(tmp_path / ".continue"))
    return tmp_path / ".continue"


def blocks(home: Path) -> dict[str, Any]:
    return {
        name: yaml.safe_load((home / name / "ryzanstein.yaml").read_text(encoding="utf-8"))[name]
        for name in SECTIONS
    }


def test_continue_itself_reads_servers_models_and_slash_commands(
    run: Run, home: Path, tmp_path: Path, node_modules: Path, node_environment: dict[str, str]
) -> None:
    url = ("--url", "http://127.0.0.1:9000/")
    assert run("setup", "continue", *url, "--server", "orchestrator").code == 0
    script = tmp_path / "load.mjs"
    script.write_text(LOAD, encoding="utf-8")
    files = [str(home / name / "ryzanstein.yaml") for name in SECTIONS]
    command = ["node", str(script), str(node_modules), *files, str(home / ".env")]
    done = subprocess.run(command, env=node_environment, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert not found["faults"] and not found.get("errors")
    token = Tokens(load_settings().data_dir).owner()
    (server,) = found["config"]["mcpServers"]
    assert server["url"] == "http://127.0.0.1:9000/mcp/orchestrator"
    assert server["requestOptions"]["headers"]["Authorization"] == f"Bearer {token}"
    models = {one["roles"][0]: one for one in found["config"]["models"]}
    assert set(models) == {"chat", "autocomplete", "embed"}
    assert {one["apiKey"] for one in models.values()} == {token}
    assert {one["apiBase"] for one in models.values()} == {"http://127.0.0.1:9000/v1"}
    assert {one["provider"] for one in models.values()} == {"openai"}
    prompts = {one["name"]: one["prompt"] for one in found["config"]["prompts"]}
    commands = load_registry(user=False).routing.commands
    assert set(prompts) == set(commands) and len(prompts) == 40
    assert prompts["debug"].startswith("You are APEX") and "/debug: Find" in prompts["debug"]
    # Continue fills these in itself, which would change what an agent is told.
    assert not [text for text in prompts.values() if "${{" in text or "{{{" in text]


def test_files_of_the_schema_pass_the_package_s_own_check(
    run: Run, home: Path, tmp_path: Path, node_modules: Path, node_environment: dict[str, str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("name: Mine\nversion: 0.0.1\nmodels: []  # none yet\n", encoding="utf-8")
    run("setup", "continue", "--file", str(file))
    check = [str(node_modules / ".bin" / "config-yaml"), str(file)]
    done = subprocess.run(check, env=node_environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "valid" in done.stdout, done.stderr
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert document["name"] == "Mine" and len(document["models"]) == 3


def test_blocks_of_others_in_the_same_lists_stay(run: Run, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    before = {
        "name": "Mine",
        "version": "1.0.0",
        "models": [{"uses": "a/b"}, {"uses": "c/d", "with": {"KEY": "x"}}, {"name": "m"}],
        "mcpServers": [{"uses": "e/f"}, {"name": "twice", "command": "1"}, {"name": "twice"}],
    }
    file.write_text(yaml.safe_dump(before), encoding="utf-8")
    run("setup", "continue", "--file", str(file))
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert document["models"][:3] == before["models"] and len(document["models"]) == 6
    assert document["mcpServers"][:3] == before["mcpServers"] and len(document["mcpServers"]) == 4
    run("setup", "continue", "--file", str(file), "--remove")
    after = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {key: after.get(key) for key in before} == before


def test_the_token_is_in_one_file_that_only_its_user_can_read(run: Run, home: Path) -> None:
    home.mkdir()
    env = home / ".env"
    env.write_text("OTHER=1\nRYZANSTEIN_TOKEN=old\n", encoding="utf-8")
    env.chmod(0o644)
    run("setup", "continue")
    token = Tokens(load_settings().data_dir).owner()
    assert env.read_text(encoding="utf-8") == f"OTHER=1\nRYZANSTEIN_TOKEN={token}\n"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    holding = [one for one in home.rglob("*") if one.is_file() and token in one.read_text()]
    assert holding == [env]
    shown = run("setup", "continue", "--dry-run")
    assert token not in shown.out and "OTHER=…" in shown.out
    assert "as it should be" in run("setup", "continue").out


def test_nothing_else_of_the_env_file_is_changed_or_shown(run: Run, home: Path) -> None:
    others = 'A=x\u2028y\r\nKEY="-----BEGIN\r\nMIIab/cd==\r\n-----END"\r\n'
    home.mkdir(parents=True)
    (home / ".env").write_bytes(others.encode())
    shown = run("setup", "continue", "--dry-run").out
    assert "BEGIN" not in shown and "MIIab" not in shown
    assert "A=…" in shown and "KEY=…" in shown
    assert run("setup", "continue").code == 0
    assert (home / ".env").read_bytes().startswith(others.encode())
    assert run("setup", "continue", "--remove").code == 0
    assert (home / ".env").read_bytes() == others.encode()
    assert run("setup", "continue", "--remove", "--json").json["changed"] is False


def test_names_that_are_no_text_are_left_alone(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("mcpServers:\n  - name: [a, b]\n  - name: 3\n", encoding="utf-8")
    assert run("setup", "continue", "--file", str(path)).code == 0
    names = [one["name"] for one in yaml.safe_load(path.read_text("utf-8"))["mcpServers"]]
    assert names == [["a", "b"], 3, "ryzanstein"]


def test_a_server_elsewhere_gets_no_token_of_this_machine(run: Run, home: Path) -> None:
    run("setup", "continue", "--url", "https://box.example.org")
    assert not (home / ".env").exists()
    assert blocks(home)["models"][0]["apiBase"] == "https://box.example.org/v1"


def test_removing_leaves_what_is_the_user_s(run: Run, home: Path) -> None:
    run("setup", "continue")
    (home / ".env").write_text("A=1\nRYZANSTEIN_TOKEN=x\n", encoding="utf-8")
    prompts = home / "prompts" / "ryzanstein.yaml"
    mine = "  - name: mine  # by hand\n    prompt: Do it.\n"
    prompts.write_text(prompts.read_text(encoding="utf-8") + mine, encoding="utf-8")
    removed = run("setup", "continue", "--remove", "--json").json
    assert removed["written"] is True
    assert yaml.safe_load(prompts.read_text(encoding="utf-8"))["prompts"] == [
        {"name": "mine", "prompt": "Do it."}
    ]
    assert "# by hand" in prompts.read_text(encoding="utf-8")
    assert not (home / "models" / "ryzanstein.yaml").exists()
    assert not (home / "mcpServers" / "ryzanstein.yaml").exists()
    assert (home / ".env").read_text(encoding="utf-8") == "A=1\n"


def test_a_slash_command_of_the_user_s_own_wins(run: Run, home: Path) -> None:
    file = home / "prompts" / "ryzanstein.yaml"
    file.parent.mkdir(parents=True)
    mine = {"name": "debug", "description": "mine", "prompt": "Look."}
    file.write_text(yaml.safe_dump({"prompts": [mine]}), encoding="utf-8")
    done = run("setup", "continue", "--json").json
    assert next(one for one in done["files"] if one.get("kept"))["kept"] == ["debug"]
    assert blocks(home)["prompts"][0] == mine and len(blocks(home)["prompts"]) == 40
    assert "Left as they are" in run("setup", "continue").out


def test_models_follow_the_settings(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    monkeypatch.setenv("RYZANSTEIN_CONTEXT_TOKENS", "1024")
    run("setup", "continue")
    chat = blocks(home)["models"][0]
    assert chat["model"] == "smollm2-135m" and chat["capabilities"] == []
    assert chat["defaultCompletionOptions"] == {
        "contextLength": 1024,
        "maxTokens": 512,
        "temperature": 0,
    }
    assert blocks(home)["mcpServers"][0]["env"]["RYZANSTEIN_DEFAULT_MODEL"] == "smollm2-135m"
