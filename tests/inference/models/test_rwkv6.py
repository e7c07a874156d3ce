"""RWKV-6 against BlinkDL's package and float64, on small random checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.kernels.reference_wkv import Rwkv6
from tests.inference.models.random_rwkv import Shape, tensors, write_pth
from tests.inference.models.running import in_pieces, likeliest, load
from tests.inference.models.rwkv_package import reference

Array = np.ndarray
LENGTH = 150
SHAPES = {
    "as published": Shape(6),
    "small heads": Shape(6, heads=6, head_dim=16, inner=100, seed=1),
    "odd heads and ranks": Shape(
        6, heads=5, head_dim=24, inner=77, vocab=97, decay_rank=40, mix_rank=5, seed=2
    ),
    "one wide head": Shape(6, layers=2, heads=1, head_dim=128, seed=3),
}


def ids(shape: Shape, count: int = LENGTH) -> Array:
    return np.random.default_rng(7).integers(0, shape.vocab, count)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns (file, logits of the package) of a shape."""

    @cache
    def make(name: str) -> tuple[Path, Array]:
        path = write_pth(tmp_path_factory.mktemp("rwkv6") / "m.pth", SHAPES[name])
        return path, reference(path)(ids(SHAPES[name]).tolist())

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
        assert likeliest(own, prompt, 64) == reference(path).greedy(prompt, 64)


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


def test_fifty_thousand_tokens_do_not_drift_from_float64(tmp_path: Path) -> None:
    shape = Shape(6, layers=1, heads=2, head_dim=32, inner=96, seed=5)
    tokens = ids(shape, 50_000)
    want = Rwkv6(tensors(shape), shape.head_dim)(tokens)
    with load(write_pth(tmp_path / "m.pth", shape)) as own:
        got = own.forward(tokens, own.new_state(), all_logits=True)
    errors = np.abs(got - want).max(1) / want.std()
    assert errors[-5000:].max() < 3e-5
    assert errors[-5000:].mean() < 1.2 * errors[:5000].mean()
