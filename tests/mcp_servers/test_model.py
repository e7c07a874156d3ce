from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from ryzanstein.inference import packed_cache
from ryzanstein.registry import load_registry
from tests.inference import tiny

Answer = Callable[..., Awaitable[dict[str, Any]]]
Fault = Callable[..., Awaitable[dict[str, str]]]


async def test_the_catalogue_is_listed_with_what_is_here(answer: Answer, smollm2: Path) -> None:
    found = await answer("model", "list_models")
    by_name = {model["name"]: model for model in found["models"]}
    assert by_name["smollm2-135m"]["present"] is True
    assert by_name["smollm2-135m"]["bytes"] == 98_362_432
    assert sum(model["default"] for model in found["models"]) == 1


async def test_a_model_is_described_by_name_and_by_file(answer: Answer, smollm2: Path) -> None:
    by_name = await answer("model", "describe_model", name="smollm2-135m")
    by_file = await answer("model", "describe_model", name=str(smollm2))
    assert by_name["config"]["num_hidden_layers"] == 30
    assert by_name["config"] == by_file["config"]
    assert by_name["licence"] == "Apache-2.0"


async def test_pulling_what_is_here_returns_at_once(answer: Answer, smollm2: Path) -> None:
    found = await answer("model", "pull_model", name="smollm2-135m")
    assert found["already_present"] is True
    assert found["path"] == str(smollm2)


@pytest.mark.parametrize("tool", ["describe_model", "pull_model", "remove_model", "load_model"])
async def test_an_unknown_model_gets_the_nearest_names(
    fault: Callable[..., Awaitable[dict[str, str]]], tool: str
) -> None:
    error = await fault("model", tool, name="smollm2-153m")
    assert error["code"] == "MODEL_NOT_FOUND"
    assert "smollm2-135m" in error["hint"]


async def test_a_model_is_measured_and_each_round_is_told(
    server: Callable[[str], Any], smollm2: Path
) -> None:
    told: list[tuple[float, float | None]] = []

    async def hear(done: float, total: float | None, message: str | None) -> None:
        told.append((done, total))

    asked = {"name": "smollm2-135m", "prompt_tokens": 16, "new_tokens": 4, "threads": 1}
    async with Client(server("model")) as client:
        result = await client.call_tool("benchmark_model", asked, progress_callback=hear)
    found = result.structured_content or {}
    assert {(1, 4), (2, 4), (3, 4)} <= set(told)
    assert found["prefill_tok_s"] > 0 and found["decode_tok_s"] > 0


async def test_a_removed_model_is_gone(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_MODELS_DIR", str(tmp_path))
    (tmp_path / "smollm2-135m").mkdir()
    (tmp_path / "smollm2-135m" / "part").write_bytes(b"12345")
    found = await answer("model", "remove_model", name="smollm2-135m")
    assert found["freed_bytes"] == 5
    assert not (tmp_path / "smollm2-135m").exists()


async def test_a_model_that_was_not_loaded_is_said_to_be_so(answer: Answer) -> None:
    assert (await answer("model", "unload_model", name="smollm2-135m"))["unloaded"] is False


async def test_packed_weights_are_shown_and_removed_with_their_model(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_home: Path
) -> None:
    monkeypatch.setenv("RYZANSTEIN_MODELS_DIR", str(tmp_path))
    entry = next(one for one in load_registry().models if one.name == "smollm2-135m")
    model = tmp_path / entry.name / entry.file
    model.parent.mkdir()
    beside = model.with_name(f"{model.name}.rzpack")
    beside.write_bytes(b"12345")
    assert (await answer("model", "describe_model", name=entry.name))["packed_bytes"] == 5
    *_, elsewhere = packed_cache._places(model, ".int4")
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"123")
    assert elsewhere.is_relative_to(isolated_home / "cache")
    assert (await answer("model", "describe_model", name=entry.name))["packed_bytes"] == 8
    assert (await answer("model", "remove_model", name=entry.name))["freed_bytes"] == 8
    assert not beside.exists()
    assert not elsewhere.exists()


async def test_a_model_is_converted_beside_the_others_and_runs(
    answer: Answer, fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RYZANSTEIN_MODELS_DIR", str(tmp_path / "models"))
    source = tiny.write_gguf(tmp_path / "tiny.gguf", tiny.Shape(layers=1), "F32")
    given = {"name": str(source), "to": "q8_0"}
    made = await answer("model", "convert_model", **given)
    assert Path(made["path"]) == tmp_path / "models" / "tiny-q8_0" / "tiny-q8_0.gguf"
    assert made["bytes"] == Path(made["path"]).stat().st_size and 0 < made["error"] < 0.01
    described = await answer("model", "describe_model", name=made["path"])
    assert described["config"]["model_type"] == "llama"
    again = await fault("model", "convert_model", **given)
    assert again["message"] == "tiny-q8_0.gguf is there already."
    other = await answer("model", "convert_model", **given, out="..small")
    assert Path(other["path"]).parent == tmp_path / "models" / "small"
    for wrong, message in (
        ({"to": "q1"}, "convert_model: to: Input should be 'f16', 'q8_0'"),
        ({"out": "../up"}, "convert_model: out: String should match pattern"),
        ({"to": "tq1_0"}, "No matrix of tiny.gguf can become tq1_0"),
        ({"out": "smollm2-135m"}, "smollm2-135m is a model of the catalogue."),
    ):
        assert (await fault("model", "convert_model", **{**given, **wrong}))["message"].startswith(
            message
        )
