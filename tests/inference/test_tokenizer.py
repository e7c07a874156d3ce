from __future__ import annotations

import json
import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.formats.gguf_header import read_header
from ryzanstein.inference.tokenizer import Tokenizer, load_tokenizer
from ryzanstein.inference.vocabulary import read_vocabulary
from tests.inference import tiny

DATA = Path(__file__).parent / "data"
TEXTS: dict[str, str] = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))
IDS: dict[str, dict[str, list[int]]] = json.loads(
    (DATA / "tokenizer_ids.json").read_text(encoding="utf-8")
)
PRE_TOKENIZERS = [name for name in IDS if name != "sentencepiece"]


def tables(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file that need not be a whole model."""
    with path.open("rb") as file:
        return read_header(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).metadata


def from_tables(metadata: dict[str, Any]) -> Tokenizer:
    checkpoint = SimpleNamespace(metadata=metadata, path=Path("m.gguf"))
    return Tokenizer(read_vocabulary(cast("Checkpoint", checkpoint)))


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Tokenizer:
    return load_tokenizer(open_checkpoint(smollm2))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tiny.write_safetensors(tmp_path_factory.mktemp("hub"), tiny.Shape())
    return load_tokenizer(open_checkpoint(path))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tiny.write_sentencepiece(tmp_path_factory.mktemp("spm") / "s.gguf")
    return from_tables(tables(path))


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_ids_equal_llama_cpp_on_real_text(name: str, smollm2: Path) -> None:
    metadata = tables(smollm2) | {"tokenizer.ggml.pre": name}
    tokenizer = from_tables(metadata)
    for text, content in TEXTS.items():
        assert tokenizer.encode(content) == IDS[name][text], text
        assert tokenizer.decode(IDS[name][text], specials=True) == content


def test_sentencepiece_ids_equal_llama_cpp(pieces: Tokenizer) -> None:
    for text, content in TEXTS.items():
        assert pieces.encode(content) == IDS["sentencepiece"][text], text
        assert pieces.decode(IDS["sentencepiece"][text]) == content


def test_ids_from_tables_and_from_tokenizer_json_are_the_same(tmp_path: Path) -> None:
    shape = tiny.Shape()
    hub = load_tokenizer(open_checkpoint(tiny.write_safetensors(tmp_path / "hub", shape)))
    file = load_tokenizer(open_checkpoint(tiny.write_gguf(tmp_path / "m.gguf", shape)))
    for content in TEXTS.values():
        assert hub.encode(content) == file.encode(content)
    assert hub.specials == file.specials
    assert hub.end_ids == file.end_ids == {shape.vocab - 3, shape.vocab - 1}
    assert hub.chat_template == file.chat_template == tiny.TEMPLATE
    assert hub.bos_id is None
    assert file.bos_id is None


def test_ids_equal_transformers_on_the_same_tokenizer_json(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    path = tiny.write_safetensors(tmp_path, tiny.Shape())
    reference = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    tokenizer = load_tokenizer(open_checkpoint(path))
    for content in TEXTS.values():
        assert tokenizer.encode(content) == reference.encode(content, add_special_tokens=False)


def test_special_tokens_are_parsed_only_where_allowed(real: Tokenizer) -> None:
    text = "<|im_start|>user\nHi<|im_end|>"
    assert real.encode(text)[0] == real.specials["<|im_start|>"]
    plain = real.encode(text, specials=False)
    assert not any(real.is_special(token) for token in plain)
    assert real.decode(plain) == text
    assert real.decode(real.encode(text)) == "user\nHi"
    assert real.encode(text)[0] == real.specials["<|im_start|>"]


def test_endings_hold_the_turn_and_the_text(real: Tokenizer) -> None:
    assert {real.specials["<|im_end|>"], real.specials["<|endoftext|>"]} <= real.end_ids


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_every_text_survives_and_streams_whole_characters(small: Tokenizer, text: str) -> None:
    ids = small.encode(text, specials=False)
    assert small.decode(ids) == text
    stream = small.stream()
    shown = [stream.push(token) for token in ids]
    assert "�" in text or all("�" not in piece for piece in shown)
    assert "".join(shown) + stream.finish() == text


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=40))
def test_byte_fallback_survives_too(pieces: Tokenizer, text: str) -> None:
    assert pieces.decode(pieces.encode(text, specials=False)) == text


def test_an_unfinished_character_comes_out_as_a_replacement_only_at_the_end(
    real: Tokenizer,
) -> None:
    stream = real.stream()
    ids = real.encode("🌍")
    assert len(ids) > 1
    assert "".join(stream.push(token) for token in ids[:-1]) == ""
    assert stream.finish() == "�"


def test_ids_outside_the_vocabulary_decode_to_nothing(real: Tokenizer) -> None:
    assert real.decode([-1, 10**9]) == ""
    assert real.token_bytes(10**9) == b""


def byte_tables(**changes: Any) -> dict[str, Any]:
    shape = tiny.Shape()
    values: dict[str, Any] = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tiny.tokens(shape),
        "merges": [" ".join(pair) for pair in tiny.MERGES],
        "eos_token_id": 319,
    }
    named = {f"tokenizer.ggml.{key}": value for key, value in (values | changes).items()}
    return {key: value for key, value in named.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "bert"}, "'bert'"),
        ({"model": None}, "None"),
        ({"tokens": None}, "no tokenizer"),
        ({"tokens": 7}, "no list"),
        ({"merges": None}, "lacks tokenizer.ggml.merges"),
        ({"merges": ["nospace"]}, "'nospace'"),
        ({"merges": ["x 不"]}, "makes no token"),
        ({"pre": "unheard-of"}, "'unheard-of'"),
        ({"add_bos_token": True, "bos_token_id": 10**6}, "no token of its vocabulary"),
        ({"model": "llama"}, "lacks tokenizer.ggml.scores"),
    ],
)
def test_damaged_tables_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelLoadError, match=said):
        from_tables(byte_tables(**changes))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "{", "cannot be read"),
        ("tokenizer.json", '{"model": 1}', "cannot be read"),
        ("tokenizer_config.json", "{", "not valid JSON"),
        ("tokenizer.json", None, "no tokenizer.json"),
    ],
)
def test_a_damaged_tokenizer_json_is_refused(
    name: str, content: str | None, said: str, tmp_path: Path
) -> None:
    path = tiny.write_safetensors(tmp_path, tiny.Shape())
    (path / name).unlink()
    if content is not None:
        (path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelLoadError, match=said):
        load_tokenizer(open_checkpoint(path))


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    path = tiny.write_safetensors(tmp_path, tiny.Shape())
    checkpoint = open_checkpoint(path)
    checkpoint.config["vocab_size"] = 300
    with pytest.raises(ModelLoadError, match="320 tokens"):
        load_tokenizer(checkpoint)
