"""load_model: the tokenizer comes at its first use, or at once, and its errors are clear."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ryzanstein.errors import ModelLoadError, ValidationError
from ryzanstein.inference import load
from ryzanstein.inference.engine import Engine
from ryzanstein.inference.load import load_model
from tests.inference import tiny

SHAPE = tiny.Shape(model_type="qwen2", vocab=384)


@pytest.fixture(params=["gguf", "directory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "gguf":
        return tiny.write_gguf(tmp_path / "m.gguf", SHAPE, "Q8_0")
    return tiny.write_safetensors(tmp_path / "m", SHAPE)


def break_tokenizer(path: Path) -> str:
    """Damages the tokenizer only; returns what the error says."""
    if path.is_dir():
        (path / "tokenizer.json").write_text("{", encoding="utf-8")
        return "tokenizer.json cannot be read"
    content = path.read_bytes()
    assert content.count(b"gpt2") == 1
    path.write_bytes(content.replace(b"gpt2", b"wpm2"))
    return "tokenizer 'wpm2' is not supported"


def test_the_tokenizer_is_read_at_its_first_use_and_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    whole = load.load_tokenizer
    monkeypatch.setattr(load, "load_tokenizer", lambda one: reads.append(one) or whole(one))
    with load_model(path, threads=1) as model:
        model.forward([1, 2], model.new_state())
        assert not reads
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: model.tokenizer, range(8)))
        assert found[0].decode(found[0].encode("a test")) == "a test"
        assert all(one is found[0] for one in found)
    assert len(reads) == 1


def test_or_at_once_where_that_is_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load_model(path, threads=1, read_tokenizer=True) as model:
        monkeypatch.setattr(load, "load_tokenizer", None)
        assert model.tokenizer.encode("a")


def test_a_damaged_tokenizer_is_an_error_when_it_is_used(path: Path) -> None:
    message = break_tokenizer(path)
    with load_model(path, threads=1) as model:
        model.forward([1], model.new_state())
        for _ in range(2):
            with pytest.raises(ModelLoadError, match=message):
                _ = model.tokenizer
    with pytest.raises(ModelLoadError, match=message):
        load_model(path, threads=1, read_tokenizer=True)


def test_the_engine_says_so_before_anything_else(path: Path) -> None:
    message = break_tokenizer(path)
    engine = Engine()
    with pytest.raises(ModelLoadError, match=message):
        engine.get(str(path))
    assert not engine.loaded()


def test_a_model_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "m.gguf", tiny.Shape(vocab=64), "Q8_0")
    for now in (False, True):
        with (
            load_model(path, threads=1, read_tokenizer=now) as model,
            pytest.raises(ModelLoadError, match="without a tokenizer"),
        ):
            _ = model.tokenizer


def test_a_form_that_there_is_not_is_refused(path: Path) -> None:
    with pytest.raises(ValidationError, match="'ternary9' is not one of ternary2"):
        load_model(path, ternary="ternary9")
