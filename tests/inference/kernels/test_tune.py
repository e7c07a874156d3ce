"""The tuner: what it measures, keeps, refuses to believe, and that no choice changes a result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels import choices, tune
from ryzanstein.inference.kernels._linear import TERNARY, PackedMatrix, available_isas, linear
from ryzanstein.inference.kernels.choices import FormChoice, Machine, Plan, ShapeChoice, Tuning

SHAPES = {(256, 320): 3, (96, 64): 2}
SMALL = {"seconds": 0.2, "stream_bytes": 2 << 20}


def quick(*args: Any, **options: Any) -> Tuning:
    """The tuner with little time and memory."""
    return tune.tune(*args, **{**options, **SMALL})


def packed(form: str, rows: int, cols: int) -> PackedMatrix:
    trits = np.random.default_rng(3).integers(-1, 2, rows * cols, np.int8)
    matrix = PackedMatrix(form, "tensor", rows, cols, tensor_scale=0.5)
    matrix.pack_trits(24, trits.view(np.uint8))
    return matrix


def choice(form: str, *costs: tuple[str, float], shape: tuple[int, int] = (64, 64)) -> ShapeChoice:
    forms = tuple(FormChoice(name, 0, 0, 1.0, 1.0, cost) for name, cost in costs)
    return ShapeChoice(*shape, form, 1, forms)


@pytest.fixture(scope="module")
def tuned() -> Tuning:
    return quick(SHAPES, 2)


def test_every_form_of_every_shape_is_measured(tuned: Tuning) -> None:
    assert tuned.machine == Machine.here(2)
    assert set(tuned.shapes) == set(SHAPES)
    for (rows, cols), one in tuned.shapes.items():
        assert (one.rows, one.cols) == (rows, cols)
        assert [form.form for form in one.forms] == list(tune._candidates())
        assert one.of(one.form) is not None and one.threads in (1, 2)
        assert all(form.decode > 0 and form.prefill > 0 and form.cost > 0 for form in one.forms)
        assert one.forms[0].cost == 1.0


def test_a_form_that_is_given_is_not_chosen_again() -> None:
    forms = {(256, 320): "ternary5", (96, 64): "ternary2"}
    found = quick(SHAPES, 1, forms=forms).shapes
    assert {shape: one.form for shape, one in found.items()} == forms
    assert all([form.form for form in found[shape].forms] == [forms[shape]] for shape in forms)


@pytest.mark.parametrize("isa", available_isas())
def test_no_choice_changes_a_result(isa: str) -> None:
    x = np.random.default_rng(4).normal(size=(40, 333)).astype(np.float32)
    want = linear(packed(TERNARY[0], 100, 333), x, "portable")
    for form in TERNARY:
        matrix = packed(form, 100, 333)
        for prefetch in (0, *tune.PREFETCH):
            for lookup in (0, 1, *tune.LOOKUP):
                matrix.tune(prefetch=prefetch, lookup=lookup)
                assert (matrix.prefetch, matrix.lookup) == (prefetch, lookup)
                for tokens in (1, 5, 40):
                    assert np.array_equal(linear(matrix, x[:tokens], isa), want[:tokens])


def test_all_shapes_take_the_form_that_is_best_for_them_together() -> None:
    shapes = {(64, 64): 1, (640, 64): 1}
    measured = {
        (64, 64): choice("ternary2", ("ternary2", 1.0), ("ternary5", 1.02)),
        (640, 64): choice("ternary2", ("ternary2", 1.0), ("ternary5", 0.9), shape=(640, 64)),
    }
    assert {one.form for one in tune._settle(measured, shapes).values()} == {"ternary5"}


def test_a_small_gain_changes_nothing() -> None:
    measured = {(64, 64): choice("x", ("ternary2", 1.0), ("ternary5", 0.98), ("ternary3", 0.93))}
    assert tune._settle(measured, {(64, 64): 1})[64, 64].form == "ternary2"


def test_one_shape_may_differ_where_it_gains_much() -> None:
    shapes = {(64, 64): 1, (640, 64): 1}
    measured = {
        (64, 64): choice("x", ("ternary2", 1.0), ("ternary5", 0.7)),
        (640, 64): choice("x", ("ternary2", 1.0), ("ternary5", 1.1), shape=(640, 64)),
    }
    found = tune._settle(measured, shapes)
    assert (found[64, 64].form, found[640, 64].form) == ("ternary5", "ternary2")


@pytest.mark.parametrize(
    ("gains", "want"),
    [
        ({7: -0.2, 18: 0.3, 128: 0.3}, 18),
        ({7: 0.2, 18: 0.2, 128: 0.3}, 7),
        ({7: -0.2, 18: -0.2, 128: -0.3}, 0),
        ({7: 0.0, 18: 0.02, 28: 0.0, 128: -0.05}, 28),
    ],
)
def test_tables_are_used_from_where_they_gain_most(gains: dict[int, float], want: int) -> None:
    assert tune._threshold(gains, 28) == want


def test_what_was_written_is_read_again(tuned: Tuning, tmp_path: Path) -> None:
    path = tmp_path / "new" / "kernels.json"
    other = replace(tuned, machine=replace(tuned.machine, cpu="Another"))
    choices.write(path, [tuned, other])
    assert choices.read(path) == {tuned.machine: tuned, other.machine: other}
    assert [file.name for file in path.parent.iterdir()] == ["kernels.json"]


def test_a_file_that_cannot_be_replaced_is_left_whole(tuned: Tuning, tmp_path: Path) -> None:
    (tmp_path / "kernels.json").mkdir()
    with pytest.raises(OSError):
        choices.write(tmp_path / "kernels.json", [tuned])
    assert [file.name for file in tmp_path.iterdir()] == ["kernels.json"]


def damaged(tuned: Tuning) -> list[bytes]:
    whole = {"version": 1, "tunings": [choices.to_json(tuned)]}
    text = json.dumps(whole)
    return [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b"null",
        text[: len(text) // 2].encode(),
        json.dumps({**whole, "version": 2}).encode(),
        json.dumps({**whole, "tunings": 3}).encode(),
        json.dumps({**whole, "tunings": [3]}).encode(),
        *(
            text.replace(old, new).encode()
            for old, new in [
                ('"form": "ternary2"', '"form": "ternary9"'),
                ('"rows": 256', '"rows": 0'),
                ('"rows": 256', '"rows": true'),
                ('"prefetch": ', '"prefetch": -1, "x": '),
                ('"lookup": ', '"lookup": 1e9, "x": '),
                ('"lookup": ', '"lookup": 99999999999, "x": '),
                ('"cost": ', '"cost": NaN, "x": '),
                ('"threads": 2', '"threads": "two"'),
                ('"shapes": ', '"sapes": '),
            ]
        ),
    ]


@pytest.mark.parametrize("case", range(18))
def test_a_damaged_file_counts_as_empty(tuned: Tuning, tmp_path: Path, case: int) -> None:
    cases = damaged(tuned)
    assert len(cases) == 18
    (tmp_path / "kernels.json").write_bytes(cases[case])
    assert choices.read(tmp_path / "kernels.json") == {}


def test_a_plan_names_the_form_of_all_matrices() -> None:
    one = choice("ternary5", ("ternary2", 1.0), ("ternary5", 0.9))
    two = choice("ternary2", ("ternary2", 1.0), ("ternary5", 0.9))
    assert Plan().name == "ternary2"
    assert Plan("ternary5", choices={(1, 1): one}).name == "ternary5"
    assert Plan("ternary5", choices={(1, 1): one, (2, 2): two}).name == "mixed"
    assert Plan("ternary3", choices={(1, 1): one, (2, 2): two}, fixed=True).name == "ternary3"


def test_a_matrix_gets_what_was_chosen_for_its_form() -> None:
    forms = (FormChoice("ternary2", 512, 9, 1, 1, 1), FormChoice("ternary5", 0, 3, 1, 1, 1))
    plan = Plan(choices={(40, 50): ShapeChoice(40, 50, "ternary5", 1, forms)})
    for form, want in (("ternary2", (512, 9)), ("ternary5", (0, 3))):
        matrix = packed(form, 40, 50)
        plan.apply(matrix)
        assert (matrix.prefetch, matrix.lookup) == want
    untouched, other = packed("ternary2", 41, 50), packed("ternary2", 41, 50)
    plan.apply(untouched)
    assert untouched.lookup == other.lookup
