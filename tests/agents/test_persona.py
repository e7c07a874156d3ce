"""What agents' conversations begin with, and that the model reads it once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ryzanstein.agents.clients.services import NEEDED, Services
from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.agents.running.loop import run_task
from ryzanstein.agents.running.persona import system_message, warm, window_of
from ryzanstein.agents.running.prompting import plain_question
from ryzanstein.inference import load_model
from ryzanstein.inference.prompts import chat_prompt, persona_ids
from ryzanstein.inference.requests import ChatRequest
from ryzanstein.inference.synthesize import SHAPES, synthesize
from ryzanstein.inference.tokenizer import Tokenizer
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.registry import Registry
from tests.agents.conftest import MODEL

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_personas.py"


@pytest.fixture
def services(place: Path, smollm2: Path, declared: Registry) -> Services:
    return Services(declared, names=(*NEEDED, "cache"))


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    with load_model(smollm2, threads=1) as model:
        return model.tokenizer


def test_every_prompt_of_an_agent_begins_with_its_persona(
    tokenizer: Tokenizer, declared: Registry
) -> None:
    lengths = {}
    for agent in declared.agents:
        system = system_message(agent, 6144)
        ids = persona_ids(tokenizer, system)
        lengths[agent.codename] = len(ids)
        assert system.startswith(agent.prompt_text[:20])
        for task in (agent.examples[0], "\n1", "?"):
            messages = [
                {"role": "system", "content": system},
                {"role": "user", "content": plain_question(task, "")},
            ]
            prompt = chat_prompt(tokenizer, ChatRequest.model_validate({"messages": messages}))
            assert prompt[: len(ids)] == ids
            assert len(ids) > len(tokenizer.encode(system))
    assert len(lengths) == 40 and len(set(lengths.values())) > 10


def test_a_persona_fits_its_share_of_a_small_window(declared: Registry) -> None:
    agent = declared.agent("APEX")
    assert len(system_message(agent, 1024)) < len(system_message(agent, 6144))
    assert window_of("no such model", declared) == 6144


async def test_warmed_agents_need_no_prefill_after_a_restart(
    services: Services, declared: Registry
) -> None:
    agents = [declared.agent(name) for name in ("APEX", "CIPHER")]
    heard = []

    async def hear(done: int, total: int, name: str) -> None:
        heard.append((done, total, name))

    async with services:
        kept = await warm(services, declared, agents, model=MODEL, on_done=hear)
        again = await warm(services, declared, agents, model=MODEL)
        assert heard == [(0, 2, "APEX"), (1, 2, "CIPHER"), (2, 2, "")]
        assert [one["label"] for one in kept] == ["APEX", "CIPHER"]
        assert [one["id"] for one in again] == [one["id"] for one in kept]
        shared().engine.clear_cache()
        for agent, state in zip(agents, kept, strict=True):
            talk = Conversation(services, Budget(50, 60), window=6144, model=MODEL)
            await talk.system(system_message(agent, window_of(MODEL, declared)))
            found = await talk.ask("Task: Say hello.", max_tokens=2, final=True)
            assert found.cached_tokens == state["tokens"]


async def test_a_run_leaves_its_agents_persona_behind_which_warming_gives_its_name(
    services: Services, declared: Registry
) -> None:
    async def labels() -> list[str]:
        found = await services.call("cache", "list_states", {"place": "disk"})
        return [one["label"] for one in found["states"] if "SCRIBE" in one["label"]]

    async with services:
        asked = {"agent": "SCRIBE", "model": MODEL, "tools": False}
        await run_task("Say hello.", services=services, registry=declared, **asked)
        assert await labels()
        await warm(services, declared, [declared.agent("SCRIBE")], model=MODEL)
        assert "SCRIBE" in await labels()


def test_the_benchmark_ends_in_a_line_of_json_with_every_agent(tmp_path: Path) -> None:
    shape = replace(SHAPES["mamba-130m"], name="tiny", vocab=1200, hidden=128, layers=1)
    model = synthesize(shape, tmp_path / "tiny.gguf", format="gguf-q8_0").path
    command = [sys.executable, SCRIPT, model, "--repeats", "1", "--threads", "1", "--agents"]
    done = subprocess.run([*command, "APEX,ORACLE"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert [one["agent"] for one in found["agents"]] == ["APEX", "ORACLE"]
    assert found["persona"]["worst_ratio"] > 0 and found["task"]["switched_ms"] > 0
    assert found["agents"][0]["persona_tokens"] > 100
