"""RWKV 4 to 7 against BlinkDL's package, on small random checkpoints: one set of tests for all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from tests.inference.models import random_rwkv, random_rwkv4, running
from tests.inference.models.running import in_pieces, likeliest, load, worst
from tests.inference.models.rwkv_package import Reference, reference

Array = np.ndarray
Shape, Shape4 = random_rwkv.Shape, random_rwkv4.Shape
LENGTH = 150


@dataclass(frozen=True)
class Case:
    """A shape, and which of the longer tests it is for besides its logits."""

    shape: Any
    tests: str = ""  # g: greedy text, b: the same bits everywhere, p: packed forms

    @property
    def version(self) -> str:
        return str(self.shape.version)

    @property
    def write(self) -> Callable[[Path, Any], Path]:
        return (random_rwkv4 if isinstance(self.shape, Shape4) else random_rwkv).write_pth

    def reference(self, path: Path) -> Reference:
        return reference(path, seven=self.version == "7")

    @property
    def ids(self) -> Array:
        return running.ids(self.shape.vocab, LENGTH)

    @property
    def expected(self) -> Callable[[Path], Array]:
        """The package's logits of `ids`."""
        # Of many tokens it takes powers of RWKV-5's decay, which round away.
        size = 10 if self.version.startswith("5") else LENGTH

        def logits(path: Path) -> Array:
            theirs = self.reference(path)
            pieces = np.split(self.ids, LENGTH // size)
            return np.concatenate([theirs(piece.tolist()) for piece in pieces])

        return logits


CASES = {
    "4": Case(Shape4(), "gbp"),
    "4, odd sizes": Case(Shape4(heads=5, head_dim=20, inner=97, vocab=97, layers=2, seed=1), "b"),
    "4, deep and narrow": Case(Shape4(heads=1, head_dim=32, inner=128, layers=8, seed=2)),
    "5": Case(Shape4("5"), "gbp"),
    "5 of old": Case(Shape4("5", heads=3, head_dim=32, old=True, seed=1)),
    "5.1": Case(Shape4("5.1", heads=3, head_dim=32, seed=2), "b"),
    "5.1 of old": Case(Shape4("5.1", old=True, seed=3)),
    "5.2": Case(Shape4("5.2"), "gp"),
    "5.2, odd sizes": Case(
        Shape4("5.2", heads=5, head_dim=20, inner=97, vocab=97, layers=2, seed=4), "b"
    ),
    "5.2, one wide head": Case(Shape4("5.2", heads=1, head_dim=128, layers=2, seed=5)),
    "5.2, small heads": Case(Shape4("5.2", heads=9, head_dim=8, layers=2, seed=6)),
    "6": Case(Shape(6), "gbp"),
    "6, small heads": Case(Shape(6, heads=6, head_dim=16, inner=100, seed=1), "g"),
    "6, odd heads and ranks": Case(
        Shape(6, heads=5, head_dim=24, inner=77, vocab=97, decay_rank=40, mix_rank=5, seed=2), "gb"
    ),
    "6, one wide head": Case(Shape(6, layers=2, heads=1, head_dim=128, seed=3), "g"),
    "7": Case(Shape(), "gbp"),
    "7, small heads": Case(Shape(heads=6, head_dim=16, inner=100, seed=1), "g"),
    "7, odd heads and ranks": Case(
        Shape(
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
        "gb",
    ),
    "7, one wide head": Case(Shape(layers=2, heads=1, head_dim=128, seed=3), "g"),
    "7, one layer": Case(Shape(layers=1, heads=3, head_dim=32, seed=4), "g"),
}


def names(test: str) -> list[str]:
    return [name for name, case in CASES.items() if test in case.tests]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a case's file, once."""

    @cache
    def make(name: str) -> Path:
        case = CASES[name]
        return case.write(tmp_path_factory.mktemp("rwkv") / "m.pth", case.shape)

    return make


@pytest.mark.parametrize("name", CASES)
def test_float_logits_equal_the_package_in_pieces_of_any_size(
    name: str, checkpoint: Callable[[str], Path]
) -> None:
    case, path = CASES[name], checkpoint(name)
    want = case.expected(path)
    with load(path) as own:
        whole = in_pieces(own, case.ids, 1000)
        assert worst(whole, want) < 1e-4
        for size in (1, 7, 64):
            np.testing.assert_array_equal(in_pieces(own, case.ids, size), whole)


@pytest.mark.parametrize("name", names("g"))
def test_greedy_text_equals_the_package(name: str, checkpoint: Callable[[str], Path]) -> None:
    case, path = CASES[name], checkpoint(name)
    prompt = case.ids[:20].tolist()
    with load(path) as own:
        assert likeliest(own, prompt, 64) == case.reference(path).greedy(prompt, 64)


@pytest.mark.parametrize("name", names("b"))
def test_instruction_sets_and_threads_do_not_change_a_bit(
    name: str, checkpoint: Callable[[str], Path]
) -> None:
    case, path = CASES[name], checkpoint(name)
    with load(path) as own:
        first = in_pieces(own, case.ids, LENGTH)
    for isa in available_isas():
        for threads in (1, 2, 4):
            with load(path, isa=isa, threads=threads) as own:
                for size in (LENGTH, 1):
                    np.testing.assert_array_equal(in_pieces(own, case.ids, size), first)


@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.2), ("int4", 1.0)])
@pytest.mark.parametrize("name", names("p"))
def test_packed_forms_stay_close_to_float(
    name: str, precision: str, limit: float, checkpoint: Callable[[str], Path]
) -> None:
    case, path = CASES[name], checkpoint(name)
    with load(path) as own:
        want = in_pieces(own, case.ids, 64)
    with load(path, precision=precision, threads=2) as own:
        got = in_pieces(own, case.ids, 64)
        assert np.sqrt(((got - want) ** 2).mean()) / want.std() < limit
        np.testing.assert_array_equal(in_pieces(own, case.ids, 1), got)
