"""RWKV-7 against BlinkDL's package, rwkv7-hf and float64, and the trained one that ships."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.kernels.reference_wkv import Rwkv7
from ryzanstein.inference.model import Model
from ryzanstein.inference.models.rwkv7 import Args
from tests.inference.models.random_rwkv import Shape, stored, tensors, write_pth
from tests.inference.models.running import in_pieces, likeliest, load
from tests.inference.models.rwkv_package import one_thread, reference
from tests.inference.rwkv_containers import write_hub

Array = np.ndarray
LENGTH = 150
SHAPES = {
    "as published": Shape(),
    "small heads": Shape(heads=6, head_dim=16, inner=100, seed=1),
    "odd heads and ranks": Shape(
        heads=5,
        head_dim=24,
        inner=77,
        vocab=97,
        decay_rank=40,
        a_rank=5,
        v_rank=3,
        gate_rank=33,
        seed=2,
    ),
    "one wide head": Shape(layers=2, heads=1, head_dim=128, seed=3),
    "one layer": Shape(layers=1, heads=3, head_dim=32, seed=4),
}
TINY = Path(__file__).parents[3] / "inference/tiny"


def ids(shape: Shape, count: int = LENGTH) -> Array:
    return np.random.default_rng(7).integers(0, shape.vocab, count)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns (file, logits of the package) of a shape."""

    @cache
    def make(name: str) -> tuple[Path, Array]:
        path = write_pth(tmp_path_factory.mktemp("rwkv7") / "m.pth", SHAPES[name])
        return path, reference(path, seven=True)(ids(SHAPES[name]).tolist())

    return make


def worst(got: Array, want: Array) -> float:
    """Largest difference, in units of the logits' spread."""
    return float(np.abs(got - want).max() / want.std())


@pytest.mark.parametrize("name", SHAPES)
def test_float_logits_equal_the_package_in_pieces_of_any_size(name: str, model: Any) -> None:
    path, want = model(name)
    with load(path) as own:
        whole = in_pieces(own, ids(SHAPES[name]), 1000)
        assert worst(whole, want) < 5e-5
        for size in (1, 7, 64):
            np.testing.assert_array_equal(in_pieces(own, ids(SHAPES[name]), size), whole)


@pytest.mark.parametrize("name", SHAPES)
def test_greedy_text_equals_the_package(name: str, model: Any) -> None:
    path, _ = model(name)
    prompt = ids(SHAPES[name])[:20].tolist()
    with load(path) as own:
        assert likeliest(own, prompt, 64) == reference(path, seven=True).greedy(prompt, 64)


@pytest.mark.parametrize("name", ["as published", "odd heads and ranks"])
def test_instruction_sets_and_threads_do_not_change_a_bit(name: str, model: Any) -> None:
    path, _ = model(name)
    tokens = ids(SHAPES[name])
    with load(path) as own:
        first = in_pieces(own, tokens, LENGTH)
    for isa in available_isas():
        for threads in (1, 2, 4):
            with load(path, isa=isa, threads=threads) as own:
                for size in (LENGTH, 1):
                    np.testing.assert_array_equal(in_pieces(own, tokens, size), first)


@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.1), ("int4", 1.0)])
def test_packed_forms_stay_close_to_float(precision: str, limit: float, model: Any) -> None:
    path, want = model("as published")
    tokens = ids(SHAPES["as published"])
    with load(path, precision=precision, threads=2) as own:
        got = in_pieces(own, tokens, 64)
        assert np.sqrt(((got - want) ** 2).mean()) / want.std() < limit
        np.testing.assert_array_equal(in_pieces(own, tokens, 1), got)


def test_matrices_of_low_rank_keep_eight_bits_where_others_have_four(model: Any) -> None:
    path, _ = model("as published")
    shape = SHAPES["as published"]
    ranks = shape.decay_rank + shape.a_rank + shape.gate_rank
    with load(path, precision="int4") as own:
        weights, _ = own.layouts["int8/group"]
    small = shape.layers * ranks + (shape.layers - 1) * shape.v_rank
    assert weights == 2 * small * shape.hidden


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head_dim": 512}, "Heads of 512"),
        ({"decay_rank": -1}, "decay_rank = -1"),
        ({"num_heads": True}, "num_heads = True"),
        ({"group_norm_eps": 2.0}, "group_norm_eps = 2.0"),
        ({"hidden_size": None}, "hidden_size = None"),
    ],
)
def test_configurations_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "vocab_size": 8,
        "num_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": 4,
    }
    assert Args.from_dict(config).width == 64
    with pytest.raises(ModelLoadError, match=message):
        Args.from_dict(config | changes)


def test_fifty_thousand_tokens_do_not_drift_from_float64(tmp_path: Path) -> None:
    shape = Shape(layers=2, heads=2, head_dim=32, inner=96, seed=5)
    tokens = ids(shape, 50_000)
    want = Rwkv7(tensors(shape), shape.head_dim)(tokens)
    with load(write_pth(tmp_path / "m.pth", shape)) as own:
        got = own.forward(tokens, own.new_state(), all_logits=True)
    errors = np.abs(got - want).max(1) / want.std()
    assert errors[-5000:].max() < 3e-5
    assert errors[-5000:].mean() < 1.2 * errors[:5000].mean()


@pytest.mark.parametrize("heads", [2, 8])
def test_logits_and_text_equal_rwkv7_hf(heads: int, tmp_path: Path) -> None:
    import torch
    from rwkv7_hf import RWKV7ForCausalLM

    shape = Shape(heads=heads, head_dim=128 // heads, seed=heads)
    path = write_hub(
        tmp_path / "hub",
        stored(shape),
        decay_low_rank_dim=shape.decay_rank,
        a_low_rank_dim=shape.a_rank,
        v_low_rank_dim=shape.v_rank,
        gate_low_rank_dim=shape.gate_rank,
    )
    theirs = RWKV7ForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    tokens = ids(shape)
    theirs.generation_config.eos_token_id = None  # 64 tokens, whatever they are
    with torch.no_grad(), one_thread():
        want = theirs(torch.from_numpy(tokens)[None]).logits[0].numpy()
        written = theirs.generate(
            torch.from_numpy(tokens[None, :20]), max_new_tokens=64, do_sample=False
        )
    with load(path) as own:
        assert worst(in_pieces(own, tokens, 64), want) < 5e-5
        assert likeliest(own, tokens[:20].tolist(), 64) == written[0, 20:].tolist()


def test_the_shipped_model_has_the_bits_per_byte_of_its_card() -> None:
    text = (TINY / "held_out.txt").read_bytes()
    card = (TINY / "rwkv7/README.md").read_text(encoding="utf-8")
    stated = float(re.findall(r"^bits_per_byte_excerpt: (\S+)$", card, re.MULTILINE)[0])
    windows = [text[at : at + 256] for at in range(0, len(text), 256)]
    with load(TINY / "rwkv7") as own:
        bits = sum(_bits(own, window) for window in windows)
    assert round(bits / len(text), 3) == round(stated, 3)


def _bits(model: Model, window: bytes) -> float:
    """What a window costs, after the token that begins a text."""
    tokens = np.array([256, *window[:-1]])
    logits = model.forward(tokens, model.new_state(), all_logits=True).astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return float(-logits[np.arange(len(window)), list(window)].sum() / np.log(2))
