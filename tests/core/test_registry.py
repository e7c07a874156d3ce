"""The default registry, users' files over it, and what is said about wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ryzanstein.config import Settings
from ryzanstein.errors import AgentNotFound, ConfigError, ModelNotFound
from ryzanstein.registry import (
    BUILTIN_SERVERS,
    HubSource,
    Registry,
    RegistryError,
    WheelSource,
    check_registry,
    default_registry,
    load_registry,
    prompt_directory,
)
from ryzanstein.tools import all_tools

TOOLS = tuple(tool.name for tool in all_tools())
TIERS = {
    1: "APEX CIPHER ARCHITECT AXIOM VELOCITY",
    2: "QUANTUM TENSOR FORTRESS NEURAL CRYPTO FLUX PRISM SYNAPSE CORE HELIX VANGUARD ECLIPSE",
    3: "NEXUS GENESIS",
    4: "OMNISCIENT",
    5: "ATLAS FORGE SENTRY VERTEX STREAM",
    6: "PHOTON LATTICE MORPH PHANTOM ORBIT",
    7: "CANVAS LINGUA SCRIBE MENTOR BRIDGE",
    8: "AEGIS LEDGER PULSE ARBITER ORACLE",
}
COMMANDS = {
    "APEX": "inference chat async thread debug trace",
    "MENTOR": "explain review",
    "VELOCITY": "optimize bench profile cache",
    "ECLIPSE": "test doctest",
    "CIPHER": "security sanitize encrypt auth",
    "ARCHITECT": "arch refactor",
    "SCRIBE": "doc comment",
    "SYNAPSE": "api integrate",
    "VERTEX": "query migrate",
    "FLUX": "deploy ci",
    "TENSOR": "ml train",
    "ATLAS": "cloud infra",
    "VANGUARD": "research compare",
    "GENESIS": "design novel",
    "CANVAS": "a11y ux",
    "OMNISCIENT": "help context",
}
AGENT = """\
agents:
  - codename: POET
    id: "41"
    tier: 7
    domain: verse
    summary: Writes poems and song lyrics.
    prompt: poet.md
    tools: [recall]
    examples: [a sonnet, an ode, a haiku, a ballad, a limerick, an elegy]
    consults: [SCRIBE]
"""


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry(user=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "d", config_dir=tmp_path / "c", cache_dir=tmp_path / "k")


def write(folder: Path, text: str, prompt: str = "You are POET.") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "poet.md").write_text(prompt, encoding="utf-8")
    path = folder / "registry.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path, settings: Settings) -> list[str]:
    """Faults as `line: message`, all of the given file."""
    found = check_registry(path, TOOLS, settings=settings)
    assert all(fault.file == path for fault in found)
    return [f"{fault.line}: {fault.message}" for fault in found]


# What comes with the package


def test_all_forty_agents_are_there_with_their_ids_and_tiers(registry: Registry) -> None:
    expected = [(name, tier) for tier, names in TIERS.items() for name in names.split()]
    assert [(agent.codename, agent.tier) for agent in registry.agents] == expected
    assert [agent.id for agent in registry.agents] == [f"{number:02}" for number in range(1, 41)]
    assert registry.agent("CANVAS").tier_name == "HumanCentric"


def test_the_forty_slash_commands_belong_to_their_agents(registry: Registry) -> None:
    expected = {command: name for name, owned in COMMANDS.items() for command in owned.split()}
    assert registry.routing.commands == expected
    assert len(expected) == 40
    assert list(registry.agent("FLUX").commands) == ["deploy", "ci"]


def test_the_default_registry_has_no_fault_with_the_first_twelve_tools() -> None:
    assert check_registry(tool_names=TOOLS, user=False) == []


def test_every_agent_has_enough_examples_and_no_example_twice(registry: Registry) -> None:
    examples = [example.casefold() for agent in registry.agents for example in agent.examples]
    assert min(len(agent.examples) for agent in registry.agents) >= 8
    assert len(set(examples)) == len(examples)


def test_every_agent_has_its_own_summary_tools_and_team(registry: Registry) -> None:
    assert len({agent.summary for agent in registry.agents}) == 40
    for agent in registry.agents:
        assert len(agent.summary.split()) >= 15
        assert {"read_file", "remember", "recall"} <= set(agent.tools)
        assert len(set(agent.tools)) == len(agent.tools)
        assert agent.consults and agent.hands_on_to


def test_no_two_prompts_share_a_sentence(registry: Registry) -> None:
    owners: dict[str, str] = {}
    for agent in registry.agents:
        text = re.sub(r"^##.*$", "", agent.prompt_text, flags=re.MULTILINE)
        for sentence in re.split(r"[.!?]\s|\n", re.sub(r"^\d\. ", "", text, flags=re.MULTILINE)):
            words = re.sub(r"^\s*(\d+\.|-)\s*", "", sentence).strip(" .").casefold()
            if words:
                assert owners.setdefault(words, agent.codename) == agent.codename, sentence


def test_every_prompt_has_substance_and_opens_with_the_essence(registry: Registry) -> None:
    for agent in registry.agents:
        opening, *sections = agent.prompt_text.split("\n## ")
        assert opening.startswith(f"You are {agent.codename},")
        assert len(opening.split()) <= 120
        assert 250 <= len(agent.prompt_text.split()) <= 450
        titles = [section.split("\n")[0] for section in sections]
        assert titles == [
            "Method",
            "Good work looks like",
            "Traps in this field",
            "Refuse",
            "Consult and hand on",
        ]
        assert re.findall(r"^(\d)\. ", sections[0], re.MULTILINE)[-1] >= "7"


def test_prompts_name_only_agents_they_consult_or_hand_on_to(registry: Registry) -> None:
    names = {agent.codename for agent in registry.agents}
    for agent in registry.agents:
        last = agent.prompt_text.rpartition("## ")[2]
        named = set(re.findall(r"[A-Z]{4,}", last)) & names - {agent.codename}
        assert named <= {*agent.consults, *agent.hands_on_to}, agent.codename


def test_every_prompt_file_belongs_to_an_agent(registry: Registry) -> None:
    files = {path.name for path in prompt_directory().glob("*.md")}
    assert files == {agent.prompt for agent in registry.agents}


def test_the_catalogue_has_its_models_with_their_sources(registry: Registry) -> None:
    small, large = registry.model("qwen2.5-coder-0.5b"), registry.model("qwen2.5-coder-1.5b")
    assert (small.bytes, large.bytes) == (491_400_064, 1_117_320_768)
    assert registry.model("smollm2-135m").bytes == 98_362_432
    for model, parts in ((small, 6), (large, 22)):
        hub, wheels = model.sources
        assert isinstance(hub, HubSource) and hub.file == model.file
        assert isinstance(wheels, WheelSource)
        numbers = [int(package.name.rpartition("part")[2]) for package in wheels.packages]
        assert numbers == list(range(1, parts + 1))
    assert {model.licence for model in registry.models} == {"Apache-2.0"}


def test_the_seven_servers_run_in_memory_and_the_local_engine_comes_first(
    registry: Registry,
) -> None:
    assert [spec.name for spec in registry.servers] == list(BUILTIN_SERVERS)
    assert {spec.transport for spec in registry.servers} == {"memory"}
    assert [backend.kind for backend in registry.backends] == ["local", "sampling"]


@pytest.mark.parametrize(
    ("file", "agents"),
    [
        ("main.py", "APEX ECLIPSE"),
        ("test_main.py", "ECLIPSE APEX"),
        ("token.sol", "CRYPTO CIPHER"),
        ("Dockerfile", "FLUX FORTRESS"),
        ("CMakeLists.txt", "FORGE CORE"),
        ("notes.md", "SCRIBE VANGUARD"),
        ("app.kt", "BRIDGE CANVAS"),
    ],
)
def test_a_kind_of_file_calls_for_its_agents(registry: Registry, file: str, agents: str) -> None:
    kinds = registry.routing.file_kinds
    first = next(kind for kind in kinds if any(fnmatch(file, glob) for glob in kind.files))
    assert list(first.agents) == agents.split()


def test_loading_is_quick_and_imports_nothing_above_the_core() -> None:
    load_registry(user=False)
    times = []
    for _ in range(5):
        start = time.process_time()
        load_registry(user=False)
        times.append(time.process_time() - start)
    assert min(times) < 0.1
    code = "import sys, ryzanstein.registry as r; r.load_registry(user=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = {name for name in done.stdout.split() if name.startswith("ryzanstein.")}
    assert not [name for name in ours if name.count(".") > 1 or name == "ryzanstein.agents"]


# Looking things up


@pytest.mark.parametrize("name", ["APEX", "apex", "@Apex", "01", " @APEX "])
def test_an_agent_is_found_by_codename_or_id(registry: Registry, name: str) -> None:
    assert registry.agent(name).codename == "APEX"


def test_an_unknown_name_gets_the_nearest_ones(registry: Registry) -> None:
    with pytest.raises(AgentNotFound, match="OMNISCIENT"):
        registry.agent("OMNISCENT")
    with pytest.raises(ModelNotFound, match=r"qwen2\.5-coder-0\.5b"):
        registry.model("qwen-coder-0.5b")
    with pytest.raises(ConfigError, match="memory"):
        registry.server("memroy")
    with pytest.raises(AgentNotFound) as caught:
        registry.agent("x" * 10_000)
    assert len(str(caught.value)) < 200


# A user's file


def test_a_users_agent_is_added_with_a_prompt_beside_the_file(
    tmp_path: Path, settings: Settings
) -> None:
    path = write(tmp_path, AGENT, prompt="You are POET, and you rhyme.\n")
    registry = load_registry(path, settings=settings, tool_names=TOOLS)
    assert len(registry.agents) == 41
    assert registry.agent("poet").prompt_text == "You are POET, and you rhyme."
    assert registry.agent("poet").limits == registry.agent("APEX").limits
    assert registry.files == (default_registry(), path)


def test_one_field_of_an_agent_is_overridden_and_the_rest_stays(
    tmp_path: Path, settings: Settings, registry: Registry
) -> None:
    path = write(tmp_path, "agents:\n- {codename: apex, model: smollm2-135m, limits: {steps: 3}}\n")
    before, after = registry.agent("APEX"), load_registry(path, settings=settings).agent("APEX")
    assert (after.model, after.limits.steps) == ("smollm2-135m", 3)
    assert after.limits.tokens == before.limits.tokens
    assert (after.examples, after.prompt_text) == (before.examples, before.prompt_text)


def test_a_prompt_may_be_replaced_by_a_file_of_the_same_name(
    tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / "apex.md").write_text("You are APEX, and terse.", encoding="utf-8")
    path = write(tmp_path, "agents:\n- {codename: APEX, prompt: apex.md}\n")
    assert load_registry(path, settings=settings).agent("APEX").prompt_text.endswith("terse.")


def test_servers_backends_models_limits_and_routing_are_overridden_by_name(
    tmp_path: Path, settings: Settings
) -> None:
    text = """\
servers:
  - {name: inference, transport: http, url: "http://box:8321/inference/mcp"}
  - {name: notes, transport: stdio, command: notes-server, args: [--fast]}
backends:
  - {name: ollama, kind: openai, url: "http://127.0.0.1:11434/v1", model: "qwen2.5-coder:7b"}
  - {name: client, enabled: false}
limits: {seconds: 30}
routing:
  top_k: 3
  teams: {poetry: [SCRIBE, LINGUA]}
models:
  - {name: smollm2-135m, context: 2048}
"""
    registry = load_registry(write(tmp_path, text), settings=settings)
    assert registry.server("inference").url == "http://box:8321/inference/mcp"
    assert registry.server("notes").args == ("--fast",)
    assert [backend.name for backend in registry.backends] == ["local", "ollama", "client"]
    assert not registry.backends[-1].enabled
    assert registry.agent("APEX").limits.seconds == 30
    assert (registry.routing.alpha, registry.routing.top_k) == (2.0, 3)
    assert {"poetry", "security"} <= set(registry.routing.teams)
    assert registry.model("smollm2-135m").context == 2048


def test_the_users_own_file_comes_before_the_one_named(tmp_path: Path, settings: Settings) -> None:
    write(settings.config_dir, "limits: {steps: 3, tokens: 99}\n")
    named = write(tmp_path, "limits: {steps: 4}\n")
    limits = load_registry(named, settings=settings).agent("APEX").limits
    assert (limits.steps, limits.tokens) == (4, 99)
    with_setting = replace(settings, registry_file=named)
    assert load_registry(settings=with_setting).agent("APEX").limits == limits
    assert load_registry(user=False, settings=with_setting).agent("APEX").limits.steps != 4


def test_everyone_may_be_consulted_with_one_word(tmp_path: Path, settings: Settings) -> None:
    path = write(tmp_path, AGENT.replace("[SCRIBE]", "all"))
    registry = load_registry(path, settings=settings)
    assert len(registry.agent("POET").consults) == 40
    assert "POET" in registry.agent("NEXUS").consults


def test_an_empty_file_changes_nothing(
    tmp_path: Path, settings: Settings, registry: Registry
) -> None:
    for text in ("", "# nothing yet\n", "agents:\nmodels: []\n"):
        loaded = load_registry(write(tmp_path, text), settings=settings)
        assert loaded.agents == registry.agents


def test_anchors_and_merge_keys_work(tmp_path: Path, settings: Settings) -> None:
    text = """\
servers:
  - &box {name: one, transport: http, url: "http://box/one"}
  - {<<: *box, name: two}
"""
    registry = load_registry(write(tmp_path, text), settings=settings)
    assert registry.server("two").url == "http://box/one"


# Wrong files


def agent(**changes: str) -> str:
    """The agent's YAML with the lines of some keys replaced, or left out where empty."""
    lines = []
    for line in AGENT.splitlines():
        key = line.strip(" -").partition(":")[0]
        if key not in changes:
            lines.append(line)
        elif changes[key]:
            lines.append(line.partition(":")[0] + f": {changes[key]}")
    return "\n".join(lines) + "\n"


WRONG = {
    "not a mapping": ("- 1\n", 1, "a registry is a mapping"),
    "broken YAML": ("agents:\n  - {codename: POET\n", 3, "not valid YAML"),
    "a tab": ("agents:\n\t- a\n", 2, "not valid YAML"),
    "a control character": ("agents: []\n# \x01\n", 2, "not valid YAML"),
    "two documents": ("agents: []\n---\nagents: []\n", 2, "not valid YAML"),
    "a foreign tag": ("agents: !!python/object:os.system x\n", 1, "is no plain"),
    "a key twice": (AGENT + "    tier: 2\n", 11, "key 'tier' is given twice, first in line 4"),
    "a mapping as key": ("{a: b}: c\n", 1, "a key must be plain text"),
    "an unknown section": ("agent: []\n", 1, "no section is called 'agent'; Did you mean agents"),
    "a section that is no list": ("agents: {}\n", 1, "'agents' is no list"),
    "limits that are no mapping": ("limits: 3\n", 1, "'limits' is no mapping"),
    "an entry without a name": ("agents:\n  - id: '41'\n", 2, "has no codename"),
    "an entry that is no mapping": ("servers:\n- memory\n", 2, "has no name"),
    "a duplicate codename": (
        AGENT + "  - {codename: poet}\n",
        11,
        "codename 'POET' is given twice, first in line 2",
    ),
    "a duplicate model": (
        "models:\n- {name: smollm2-135m}\n- {name: smollm2-135m}\n",
        3,
        "name 'smollm2-135m' is given twice",
    ),
    "a codename with a space": (agent(codename="MY POET"), 2, "is no codename"),
    "an id that is taken": (agent(id='"01"'), 3, "id '01' is APEX's; choose another"),
    "an id without quotes": (agent(id="41"), 3, "is no text; put it in quotes"),
    "an unknown tier": (agent(tier="9"), 4, "'tier' is 9; input should be less than or equal to 8"),
    "a missing field": (agent(domain=""), 2, "agent POET: 'domain' is missing; add it"),
    "a missing prompt": (agent(prompt=""), 2, "agent POET: 'prompt' is missing; add it"),
    "a prompt that is not there": (agent(prompt="bard.md"), 7, "prompt file 'bard.md' is not in"),
    "a misspelt field": (AGENT + "    exmaples: []\n", 11, "Did you mean examples?"),
    "five examples": (agent(examples="[a, b, c, d, e]"), 9, "'examples' has 5; give at least 6"),
    "no examples": (agent(examples=""), 2, "'examples' is missing"),
    "an unknown tool": (
        agent(tools="[recall, raed_file]"),
        8,
        "no tool is called 'raed_file'; Did",
    ),
    "an unknown consult": (agent(consults="[SCRIBBE]"), 10, "Did you mean SCRIBE"),
    "an unknown hand-on": (AGENT + "    hands_on_to: [ZZZ]\n", 11, "no agent is called 'ZZZ'"),
    "itself": (agent(consults="[SCRIBE, POET]"), 10, "'consults' names itself"),
    "an unknown model": (AGENT + "    model: gpt\n", 11, "no model is called 'gpt'"),
    "a command that is taken": (
        AGENT + "    commands:\n      rhyme: Rhymes.\n      debug: Mends.\n",
        13,
        "slash command 'debug' is APEX's",
    ),
    "a command under routing": ("routing: {commands: {x: APEX}}\n", 1, "commands belong to agents"),
    "a team with a stranger": (
        "routing:\n  teams:\n    a:\n      - APEX\n      - APEKS\n",
        5,
        "Did you mean APEX",
    ),
    "a file kind with a stranger": (
        "routing:\n  file_kinds:\n    - files: ['*.x']\n      agents: [ZZZ]\n",
        4,
        "no agent is called 'ZZZ'",
    ),
    "limits out of bounds": ("limits:\n  steps: 0\n", 2, "greater than or equal to 1"),
    "a bad sha256": ("models:\n- name: smollm2-135m\n  sha256: ABC\n", 3, "'ABC' is no sha256"),
    "a file in a folder": ("models:\n- {name: smollm2-135m, file: ../x}\n", 2, "is no file name"),
    "an unknown source": (
        "models:\n- name: smollm2-135m\n  sources:\n    - {kind: ftp}\n",
        4,
        "kind",
    ),
    "a source without its file": (
        "models:\n- name: smollm2-135m\n  sources:\n    - kind: huggingface\n      repo: a/b\n",
        4,
        "file' is missing",
    ),
    "a folder outside the package": (
        "models:\n- name: smollm2-135m\n  sources:\n    - {kind: package, folder: ../x}\n",
        4,
        "is no folder of the package",
    ),
    "a stranger in memory": ("servers:\n- {name: mine, transport: memory}\n", 2, "run in memory"),
    "stdio without a command": ("servers:\n- {name: mine, transport: stdio}\n", 2, "a command if"),
    "http without a url": ("servers:\n- {name: mine, transport: http}\n", 2, "a url if"),
    "no url": ("servers:\n- {name: mine, transport: http, url: ftp://x}\n", 2, "is no URL"),
}


@pytest.mark.parametrize(("text", "line", "message"), WRONG.values(), ids=WRONG)
def test_a_fault_is_told_with_its_line(
    text: str, line: int, message: str, tmp_path: Path, settings: Settings
) -> None:
    path = write(tmp_path, text)
    found = faults(path, settings)
    assert len(found) == 1, found
    assert found[0].startswith(f"{line}: ")
    assert message in found[0]


def test_faults_are_told_together_and_by_line(tmp_path: Path, settings: Settings) -> None:
    text = agent(tier="nine", prompt="bard.md", consults="[NOBODY]") + "models:\n- {name: m}\n"
    path = write(tmp_path, text)
    with pytest.raises(RegistryError) as caught:
        load_registry(path, settings=settings)
    assert [fault.line for fault in caught.value.faults] == [4, 7, 10] + [12] * 7
    first = str(caught.value).splitlines()[0]
    assert first.startswith(f"{path}:4: agent POET: 'tier' is 'nine'")
    assert caught.value.code == "INVALID_CONFIG"


def test_a_fault_of_a_merged_entry_is_told_where_it_was_written(
    tmp_path: Path, settings: Settings
) -> None:
    own = write(settings.config_dir, "agents:\n\n- codename: APEX\n  tier: 99\n")
    named = write(tmp_path, "agents:\n- {codename: APEX, domain: code}\n")
    (fault,) = check_registry(named, settings=settings)
    assert (fault.file, fault.line) == (own, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xff\xfe\x00", "cannot be read")],
)
def test_a_prompt_that_cannot_be_used_is_a_fault(
    content: bytes, message: str, tmp_path: Path, settings: Settings
) -> None:
    path = write(tmp_path, AGENT)
    (tmp_path / "poet.md").write_bytes(content)
    (found,) = faults(path, settings)
    assert found.startswith("7: ") and message in found


def test_files_that_cannot_be_read_are_faults(tmp_path: Path, settings: Settings) -> None:
    (missing,) = faults(tmp_path / "no.yaml", settings)
    assert "cannot be read (No such file or directory)" in missing
    (folder,) = faults(tmp_path, settings)
    assert "cannot be read" in folder
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"agents: []\n# caf\xe9\n")
    assert faults(latin, settings) == ["2: not valid UTF-8; save the file in that encoding"]


def test_aliases_that_unfold_without_end_are_refused(tmp_path: Path, settings: Settings) -> None:
    levels = [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    bomb = "routing:\n  a0: &a0 [1]\n" + "\n".join(levels) + "\n"
    assert "too many" in faults(write(tmp_path, bomb), settings)[0]
    assert "too many" in faults(write(tmp_path, "routing: &r {teams: *r}\n"), settings)[0]
    deep = "routing: " + "[" * 60 + "]" * 60 + "\n"
    assert "deeply nested" in faults(write(tmp_path, deep), settings)[0]


def test_tool_names_are_checked_only_where_they_are_known(
    tmp_path: Path, settings: Settings
) -> None:
    path = write(tmp_path, agent(tools="[xyzzy]"))
    assert load_registry(path, settings=settings).agent("POET").tools == ("xyzzy",)
    with pytest.raises(RegistryError, match="no tool is called 'xyzzy'; there are "):
        load_registry(path, settings=settings, tool_names=TOOLS)


def test_a_copy_with_other_agents_finds_those() -> None:
    declared = load_registry(user=False)
    first = declared.agent("APEX")
    other = first.model_copy(update={"model": "another"})
    assert declared.model_copy(update={"agents": (other,)}).agent("@apex").model == "another"
