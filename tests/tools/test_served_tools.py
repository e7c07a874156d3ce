"""Tools that ask the servers which own the models and the memory: the real ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from ryzanstein.errors import ApprovalRequired, ModelNotFound, RyzansteinError, ToolError
from ryzanstein.mcp_servers._calling import ask_server
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.tools import ToolContext, ToolResult, call_tool
from ryzanstein.tools.families.model import cache_bytes

Call = Callable[..., Awaitable[ToolResult]]
TINY = "tiny-bitnet"


@pytest.fixture
def served(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Call]:
    monkeypatch.setenv("RYZANSTEIN_DATA_DIR", str(tmp_path / "data"))
    shared().reset(keep=("engine",))

    async def function(name: str, args: object = None, **changes: object) -> ToolResult:
        given = {"ask_server": ask_server, "store": shared().store, **changes}
        return await call(name, args, **given)

    yield function
    shared().reset(keep=("engine",))


async def test_a_model_is_asked_by_itself(served: Call, root: Path) -> None:
    args = {"question": "Is water wet?", "choices": ["yes", "no"], "model": TINY}
    chosen = await served("ask_model", args)
    assert chosen.text in {"yes", "no"} and chosen.untrusted and chosen.data["model"] == TINY
    cut = await served("ask_model", {"question": "Tell me.", "model": TINY, "max_tokens": 2})
    assert cut.data["tokens"] == 2 and cut.text.endswith("[it was cut at max_tokens]")
    (root / "a.txt").write_text("one two three", encoding="utf-8")
    counted = await served("count_tokens_of", {"path": "a.txt", "model": TINY})
    again = await served("count_tokens_of", {"text": "one two three", "model": TINY})
    assert counted.data == again.data and counted.data["tokens"] > 1
    for args, error in (
        ({"question": "x", "model": "no-such-model"}, RyzansteinError),
        ({"question": "x", "choices": [""]}, ToolError),
        ({"question": ""}, ToolError),
    ):
        with pytest.raises(error) as caught:
            await served("ask_model", args)
        assert caught.value.hint


async def test_texts_are_compared_by_meaning(served: Call) -> None:
    texts = ["Where is my parcel?", "I forgot my password and cannot log in"]
    ranked = await served("compare_meaning", {"query": "reset my password", "texts": texts})
    assert [one["index"] for one in ranked.data["ranked"]] == [1, 0]
    labels = ["money: cards, payments, invoices", "delivery: parcels and shipping"]
    found = await served("classify_text", {"text": "When will the parcel ship?", "labels": labels})
    assert found.data["label"] == labels[1]
    with pytest.raises(ToolError, match="labels must be a list"):
        await served("classify_text", {"text": "x", "labels": ["one"]})


async def test_models_are_listed_and_described(served: Call) -> None:
    listed = await served("list_local_models", {"present": True})
    assert f"{TINY}: bitnet" in listed.text
    assert all(one["present"] for one in listed.data["models"])
    assert len((await served("list_local_models", {})).data["models"]) >= len(listed.data["models"])
    described = await served("describe_local_model", TINY)
    assert described.data["family"] == "bitnet" and "num_hidden_layers" in described.text
    needs = await served("model_memory_needs", {"name": TINY, "context": 1000})
    assert needs.data["fits"] and needs.data["cache"] == 1000 * cache_bytes(
        described.data["config"]
    )
    for name in ("describe_local_model", "model_memory_needs"):
        with pytest.raises(ModelNotFound, match="no model"):
            await served(name, "no-such-model")


def test_the_cache_of_a_window_is_counted_from_the_shape() -> None:
    shape = {"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    # 30 layers, keys and values of 3 heads of 64, two bytes each.
    assert cache_bytes({**shape, "hidden_size": 576}) == 30 * 2 * 3 * 64 * 2
    assert cache_bytes({**shape, "head_dim": 64}) == 30 * 2 * 3 * 64 * 2
    assert cache_bytes({"num_hidden_layers": 24, "hidden_size": 768}) == 0


async def test_memories_are_corrected_counted_and_forgotten(served: Call) -> None:
    kept = await served("remember", "The staging server is called heron.")
    found = await served("recall", {"query": "staging server", "ids": True})
    assert found.text == f"- {kept.data['id']}: The staging server is called heron."
    new = {"id": kept.data["id"], "text": "The staging server is called crane."}
    corrected = await served("correct_memory", new)
    assert (await served("recall", "staging server")).text == f"- {new['text']}"
    counted = await served("count_memories", {"by": "kind"})
    assert "memories: 1" in counted.text and "kind fact: 1" in counted.text
    with pytest.raises(ApprovalRequired):
        await served("forget_memory", corrected.data["id"], grants=frozenset())
    with pytest.raises(ToolError, match="only reading"):
        await served("forget_memory", corrected.data["id"], read_only=True)
    await served("forget_memory", corrected.data["id"])
    assert (await served("recall", "staging server")).text == "Nothing is remembered about this."
    with pytest.raises(ToolError, match="no memory"):
        await served("forget_memory", corrected.data["id"])
    with pytest.raises(RyzansteinError):
        await served("correct_memory", {"id": "mem_none", "text": "x"})


async def test_experiences_are_found(served: Call) -> None:
    assert (await served("find_experience", "count rows")).text == "No such task is known."
    shared().store.record_experience(
        task="count the rows of a CSV file",
        agent="PRISM",
        outcome="verified",
        strategy="query_data with count(*)",
        lesson="name the file in FROM",
    )
    found = await served("find_experience", "how many rows has this CSV file?")
    assert found.untrusted and found.text == (
        "- verified (PRISM): count the rows of a CSV file; strategy: query_data with count(*); "
        "lesson: name the file in FROM"
    )


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("ask_model", "x"),
        ("count_tokens_of", "x"),
        ("list_local_models", {}),
        ("forget_memory", "mem_1"),
        ("find_experience", "x"),
    ],
)
async def test_without_servers_it_is_said(name: str, args: object) -> None:
    with pytest.raises(ToolError, match="server here") as caught:
        await call_tool(ToolContext(grants=frozenset({"*"})), name, args)  # type: ignore[arg-type]
    assert caught.value.hint
