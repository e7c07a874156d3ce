"""Logits against transformers on small random checkpoints of many shapes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from tests.inference import tiny
from tests.inference.models.running import in_pieces, load

Array = np.ndarray
LENGTH = 150
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHAPES = {
    "grouped heads": tiny.Shape(),
    "qwen2, tied, biases": tiny.Shape(model_type="qwen2", hidden=96, heads=6, tied=True),
    "llama with biases": tiny.Shape(bias=True, seed=3),
    "one key/value head, odd sizes": tiny.Shape(
        hidden=100, heads=5, kv_heads=1, head_dim=20, inner=97, vocab=97
    ),
    "every head its own": tiny.Shape(model_type="qwen2", hidden=72, heads=3, kv_heads=3),
    "group of seven": tiny.Shape(model_type="qwen2", hidden=112, heads=14, kv_heads=2, layers=3),
    "heads wider than the model": tiny.Shape(hidden=48, heads=4, kv_heads=2, head_dim=32),
    "large base": tiny.Shape(rope_theta=1e6, layers=1),
    "linear scaling": tiny.Shape(rope_scaling={"rope_type": "linear", "factor": 4.0}),
    "llama3 scaling": tiny.Shape(rope_scaling=LLAMA3),
    "yarn scaling": tiny.Shape(model_type="qwen2", rope_scaling=YARN),
    "wide": tiny.Shape(hidden=320, heads=5, kv_heads=5, inner=700, layers=1, tied=True),
}


def ids(shape: tiny.Shape) -> Array:
    return np.random.default_rng(7).integers(0, shape.vocab, LENGTH)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns (directory, logits of transformers in float32) of a shape."""

    @cache
    def make(name: str) -> tuple[Path, Array]:
        import torch
        from transformers import AutoModelForCausalLM

        shape = SHAPES[name]
        path = tiny.write_safetensors(tmp_path_factory.mktemp("model") / "m", shape)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        with torch.no_grad():
            return path, model(torch.tensor(ids(shape))[None]).logits[0].numpy()

    return make


def worst(got: Array, want: Array) -> float:
    """Largest difference, in units of the logits' spread."""
    return float(np.abs(got - want).max() / want.std())


def typical(got: Array, want: Array) -> float:
    return float(np.sqrt(((got - want) ** 2).mean()) / want.std())


@pytest.mark.parametrize("name", SHAPES)
def test_float_logits_equal_transformers(name: str, reference: Any) -> None:
    path, want = reference(name)
    with load(path) as model:
        for size in (LENGTH, 1, 7, 64):
            assert worst(in_pieces(model, ids(SHAPES[name]), size), want) < 1e-3


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_instruction_set_and_thread_count_agrees(
    isa: str, threads: int, reference: Any
) -> None:
    for name in ("grouped heads", "one key/value head, odd sizes", "qwen2, tied, biases"):
        path, want = reference(name)
        with load(path, isa=isa, threads=threads) as model:
            assert (model.isa, model.threads) == (isa, threads)
            for size in (LENGTH, 1, 7):
                assert worst(in_pieces(model, ids(SHAPES[name]), size), want) < 1e-3


@pytest.mark.parametrize("precision", ["auto", "int8", "int4"])
def test_threads_do_not_change_a_bit(precision: str, reference: Any) -> None:
    path, _ = reference("group of seven")
    tokens = ids(SHAPES["group of seven"])
    results = []
    for threads in (1, 2, 3, 4):
        with load(path, precision=precision, threads=threads) as model:
            results.append([in_pieces(model, tokens, size) for size in (LENGTH, 1, 7)])
    for result in results[1:]:
        for got, first in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(got, first)


@pytest.mark.parametrize(("precision", "limit"), [("auto", 0.05), ("int8", 0.05), ("int4", 0.4)])
def test_packed_forms_stay_close_to_float(precision: str, limit: float, reference: Any) -> None:
    # Root mean square over the spread; random weights, unlike trained ones, have no slack at all.
    path, want = reference("wide")
    with load(path, precision=precision) as model:
        assert typical(in_pieces(model, ids(SHAPES["wide"]), LENGTH), want) < limit
        assert typical(in_pieces(model, ids(SHAPES["wide"]), 1), want) < limit


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q5_0", "Q4_1"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_gguf_computes_what_its_weights_say(kind: str, family: str, tmp_path: Path) -> None:
    # The same quantised weights: dequantised by the float form, packed by the other. For llama this
    # also proves that the permuted rows of q and k are rotated as neighbouring pairs.
    shape = tiny.Shape(model_type=family, hidden=64, inner=96, layers=1, seed=2)
    path = tiny.write_gguf(tmp_path / "m.gguf", shape, kind)
    plain = tiny.write_safetensors(tmp_path / "plain", shape)
    with load(path) as dense, load(path, precision="auto") as packed, load(plain) as original:
        want = in_pieces(dense, ids(shape), LENGTH)
        assert typical(in_pieces(packed, ids(shape), LENGTH), want) < 0.05
        exact = in_pieces(original, ids(shape), LENGTH)
        assert typical(want, exact) < {"F32": 1e-4, "F16": 5e-3, "Q8_0": 0.03}.get(kind, 0.5)


def test_llama3_factors_of_a_gguf_equal_the_scaling_they_came_from() -> None:
    from ryzanstein.inference.models.rope import frequencies

    scaled, _ = frequencies(64, 5e5, LLAMA3, 1024)
    plain, _ = frequencies(64, 5e5, None, 1024)
    factors = {"rope_type": "factors", "factors": (plain / scaled).tolist()}
    np.testing.assert_allclose(frequencies(64, 5e5, factors, 1024)[0], scaled, rtol=1e-6)
