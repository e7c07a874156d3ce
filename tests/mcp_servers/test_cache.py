"""The cache server's states, in memory and on disk, with the real SmolLM2-135M."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.mcp_servers._shared import shared

Answer = Callable[..., Awaitable[dict[str, Any]]]
Fault = Callable[..., Awaitable[dict[str, str]]]
HERON = "You are a heron. You stand in the shallow water, and you answer in one short sentence."
STORK = "You are a stork. You stand on the roof, and you answer in one short sentence."


@pytest.fixture(autouse=True)
def small_default(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    monkeypatch.setenv("RYZANSTEIN_DEFAULT_MODEL", "smollm2-135m")
    monkeypatch.setenv("RYZANSTEIN_CONTEXT_TOKENS", "1024")


def asked(system: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Who?"}]
    return {"messages": messages, "max_tokens": 2}


async def test_a_saved_system_prompt_outlives_the_process(answer: Answer) -> None:
    saved = await answer("cache", "save_state", system=HERON, label="heron")
    assert (saved["label"], saved["place"]) == ("heron", "disk")
    assert saved["tokens"] > 15 and saved["bytes"] > 1000
    shared().reset()
    (listed,) = (await answer("cache", "list_states"))["states"]
    assert listed == {key: saved[key] for key in listed} | {"idle_seconds": listed["idle_seconds"]}
    assert not shared().has("engine")
    found = await answer("inference", "chat", **asked(HERON))
    assert found["cached_tokens"] == saved["tokens"]
    other = await answer("inference", "chat", **asked(STORK))
    assert other["cached_tokens"] < 15


async def test_a_state_goes_from_memory_to_disk_and_back(answer: Answer) -> None:
    await answer("inference", "chat", **asked(HERON))
    (held,) = (await answer("cache", "list_states", place="memory"))["states"]
    assert "You are a heron" in held["label"] and held["model"] == "smollm2-135m"
    saved = await answer("cache", "save_state", state=held["id"], label="after Who")
    assert (saved["id"], saved["tokens"]) == (held["id"], held["tokens"])
    shared().reset()
    for name in ("after Who", saved["id"]):
        restored = await answer("cache", "restore_state", state=name)
        assert (restored["place"], restored["tokens"]) == ("memory", held["tokens"])
    found = await answer("inference", "chat", **asked(HERON))
    assert found["cached_tokens"] == found["prompt_tokens"] - 1


async def test_a_chat_can_ask_for_its_system_message_to_be_kept(answer: Answer) -> None:
    await answer("inference", "chat", **asked(HERON), keep_system=True)
    (listed,) = (await answer("cache", "list_states", place="disk"))["states"]
    assert listed["label"].startswith("You are a heron.")
    stats = await answer("cache", "cache_stats")
    assert (stats["saved_states"], stats["saved_bytes"]) == (1, listed["bytes"])


async def test_chosen_states_and_the_oldest_are_evicted(answer: Answer) -> None:
    for system, label in ((HERON, "heron"), (STORK, "stork")):
        await answer("cache", "save_state", system=system, label=label)
    memory = (await answer("cache", "list_states", place="memory"))["states"]
    assert [one["tokens"] for one in memory] and len(memory) == 2
    gone = await answer("cache", "evict_entries", keep_bytes=memory[0]["bytes"])
    assert gone == {"states": 1, "bytes": memory[1]["bytes"]}
    (left,) = (await answer("cache", "list_states", place="memory"))["states"]
    assert left["id"] == memory[0]["id"]
    gone = await answer("cache", "evict_entries", states=[left["id"]])
    assert gone["states"] == 1
    assert len((await answer("cache", "list_states", place="disk"))["states"]) == 2
    gone = await answer("cache", "evict_entries", states=["heron"], place="disk")
    assert gone["states"] == 1
    (stork,) = (await answer("cache", "list_states"))["states"]
    assert stork["label"] == "stork"
    assert (await answer("cache", "evict_entries", keep_bytes=0, place="disk"))["states"] == 1
    assert (await answer("cache", "evict_entries", keep_bytes=0, place="disk"))["states"] == 0


async def test_what_cannot_be_done_is_said(answer: Answer, fault: Fault) -> None:
    for arguments in ({}, {"system": HERON, "state": "x"}):
        error = await fault("cache", "save_state", **arguments)
        assert error["code"] == "INVALID_REQUEST" and "either" in error["message"]
    assert "either" in (await fault("cache", "evict_entries"))["message"]
    for tool, place in (("save_state", "memory"), ("restore_state", "disk")):
        error = await fault("cache", tool, state="nothing")
        assert error["code"] == "INVALID_REQUEST" and place in error["message"]
        assert "list_states" in error["hint"]
    long = await fault("cache", "save_state", system="heron " * 2000)
    assert "1,023" in long["message"]


async def test_a_damaged_state_is_not_restored(answer: Answer, fault: Fault) -> None:
    await answer("cache", "save_state", system=HERON, label="heron")
    (saved,) = shared().engine.store.entries()
    data = saved.path.read_bytes()
    saved.path.write_bytes(data[: len(data) // 2] + b"\xff" * 9 + data[len(data) // 2 + 9 :])
    error = await fault("cache", "restore_state", state="heron")
    assert error["code"] == "INFERENCE_FAILED" and "checksum" in error["message"]


async def test_the_policy_says_where_and_how_much(server: Callable[[str], Any]) -> None:
    (content,) = await server("cache").read_resource("cache://policy")
    assert '"disk_megabytes": 2048' in content.content
