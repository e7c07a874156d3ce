from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import wordllama

from ryzanstein.memory.embed import WordLlamaEmbedder, get_embedder


def test_vectors_are_unit_and_equal_to_those_of_wordllama_itself() -> None:
    texts = ["how do I reverse a list", "x", "Grüße aus Köln", "日本語のテキスト"]
    made = get_embedder().embed(texts)
    assert made.dtype == np.float32 and made.shape == (4, 256)
    model = wordllama.WordLlama.load(
        cache_dir=Path(wordllama.__file__).parent, disable_download=True
    )
    assert np.allclose(made, model.embed(texts, norm=True), atol=1e-5)


def test_a_batch_gives_what_single_texts_give() -> None:
    texts = [f"sentence number {number} about {'cats' * (number % 5)}" for number in range(100)]
    embedder = get_embedder()
    batch = embedder.embed(texts)
    assert np.allclose(batch, np.concatenate([embedder.embed([text]) for text in texts]), atol=1e-6)


def test_empty_texts_give_zeros_and_no_texts_give_no_rows() -> None:
    embedder = get_embedder()
    made = embedder.embed(["", "word", "\ud800"])
    assert np.isfinite(made).all() and not made[0].any()
    assert embedder.embed([]).shape == (0, 256)


def test_loading_leaves_the_root_logger_alone() -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    WordLlamaEmbedder().embed(["x"])
    assert (list(root.handlers), root.level) == before
