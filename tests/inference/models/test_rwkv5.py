"""RWKV-5, 5.1 and 5.2 against BlinkDL's package, on small random checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from tests.inference.models.random_rwkv4 import Shape, write_pth
from tests.inference.models.running import in_pieces, likeliest, load
from tests.inference.models.rwkv_package import reference

Array = np.ndarray
LENGTH = 100
SHAPES = {
    "5.0": Shape("5"),
    "5.0 of old": Shape("5", heads=3, head_dim=32, old=True, seed=1),
    "5.1": Shape("5.1", heads=3, head_dim=32, seed=2),
    "5.1 of old": Shape("5.1", old=True, seed=3),
    "5.2": Shape("5.2"),
    "5.2, odd sizes": Shape("5.2", heads=5, head_dim=20, inner=97, vocab=97, layers=2, seed=4),
    "5.2, one wide head": Shape("5.2", heads=1, head_dim=128, layers=2, seed=5),
    "5.2, small heads": Shape("5.2", heads=9, head_dim=8, layers=2, seed=6),
}


def ids(shape: Shape) -> Array:
    return np.random.default_rng(7).integers(0, shape.vocab, LENGTH)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns (file, logits of the package) of a shape."""

    @cache
    def make(name: str) -> tuple[Path, Array]:
        path = write_pth(tmp_path_factory.mktemp("rwkv5") / "m.pth", SHAPES[name])
        # A few at a time: for many the package takes powers of the decay, which round away.
        theirs, pieces = reference(path), np.split(ids(SHAPES[name]), LENGTH // 10)
        return path, np.concatenate([theirs(piece.tolist()) for piece in pieces])

    return make


def worst(got: Array, want: Array) -> float:
    """Largest difference, in units of the logits' spread."""
    return float(np.abs(got - want).max() / want.std())


@pytest.mark.parametrize("name", SHAPES)
def test_float_logits_equal_the_package_in_pieces_of_any_size(name: str, model: Any) -> None:
    path, want = model(name)
    with load(path) as own:
        whole = in_pieces(own, ids(SHAPES[name]), 1000)
        assert worst(whole, want) < 1e-4
        for size in (1, 7, 64):
            np.testing.assert_array_equal(in_pieces(own, ids(SHAPES[name]), size), whole)


@pytest.mark.parametrize("name", ["5.0", "5.2"])
def test_greedy_text_equals_the_package(name: str, model: Any) -> None:
    path, _ = model(name)
    prompt = ids(SHAPES[name])[:20].tolist()
    with load(path) as own:
        assert likeliest(own, prompt, 64) == reference(path).greedy(prompt, 64)


@pytest.mark.parametrize("name", ["5.0", "5.1", "5.2, odd sizes"])
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


@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.2), ("int4", 1.0)])
@pytest.mark.parametrize("name", ["5.0", "5.2"])
def test_packed_forms_stay_close_to_float(
    name: str, precision: str, limit: float, model: Any
) -> None:
    path, want = model(name)
    with load(path, precision=precision, threads=2) as own:
        got = in_pieces(own, ids(SHAPES[name]), 64)
        assert np.sqrt(((got - want) ** 2).mean()) / want.std() < limit
        np.testing.assert_array_equal(in_pieces(own, ids(SHAPES[name]), 1), got)
