"""The choice of a form: the cheapest that keeps the recall on a sample of the store's vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.bench import vectors as bench
from ryzanstein.memory.vectors.choice import choose

RANDOM = np.random.default_rng(3)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


NOISE = unit(RANDOM.standard_normal((6_000, 64)))


def test_the_cheapest_form_that_keeps_the_recall_is_chosen() -> None:
    choice = choose(NOISE, names=("float32", "int8", "bits"), least=0.96)
    assert [one.name for one in choice.table] == ["bits", "int8", "float32"]
    kept = [one for one in choice.table if one.needed is not None and one.needed <= 400]
    assert choice.form.name == kept[0].name != "float32"
    assert choice.form.candidates(10) >= (kept[0].needed or 0)
    assert choice.recall >= 0.96
    assert choice.form.name in choice.why and "96%" in choice.why


def test_of_forms_that_cost_the_same_the_quickest_is_chosen() -> None:
    choice = choose(NOISE, names=("int8", "matryoshka-64"), least=0.9)
    table = {one.name: one for one in choice.table}
    quicker = min(table.values(), key=lambda one: one.milliseconds)
    assert choice.form.name == quicker.name and choice.form.factor == 1


def test_more_recall_costs_more_bytes() -> None:
    names = ("float32", "int8", "matryoshka-64", "bits")
    sizes = [
        choose(NOISE, names=names, least=least).form.bytes_per_vector for least in (0.3, 0.96, 1.0)
    ]
    assert sizes[0] == 9 < sizes[1] <= sizes[2] <= 256


def test_float32_is_kept_where_nothing_else_is_good_enough() -> None:
    choice = choose(NOISE, names=("bits",), least=1.0)
    assert choice.form.name == "float32" and choice.recall == 1
    assert choice.why == "float32: no form keeps 100%"
    assert choice.table[0].name == "bits"


def test_few_vectors_stay_as_they_are() -> None:
    choice = choose(NOISE[:500])
    assert choice.form.name == "float32" and "500 vectors are too few" in choice.why


def test_a_larger_store_rescores_more() -> None:
    small = choose(NOISE, names=("bits",), least=0.9, rows=6_000)
    large = choose(NOISE, names=("bits",), least=0.9, rows=9_000)
    assert large.form.candidates(10) > small.form.candidates(10)
    beyond = choose(NOISE, names=("bits",), least=0.9, rows=1_000_000)
    assert beyond.form.name == "float32"


def test_the_choice_is_the_same_again() -> None:
    first, second = (choose(NOISE, names=("int8", "bits")) for _ in range(2))
    assert first.why == second.why
    first_needed, second_needed = (
        {one.name: (one.recall, one.needed) for one in choice.table} for choice in (first, second)
    )
    assert first_needed == second_needed


@pytest.mark.parametrize(
    ("vectors", "options", "message"),
    [
        (NOISE, {"least": 0}, "a recall of 0 at 10"),
        (NOISE, {"least": 1.5}, "a recall of 1.5"),
        (NOISE, {"k": 0}, "at 0 cannot"),
        (NOISE, {"names": ("int3",)}, "no form of vectors 'int3'"),
        (NOISE[0], {}, "not a matrix with a row"),
        (NOISE[:0], {}, "not a matrix with a row"),
        (np.full((2_000, 8), np.nan, np.float32), {}, "not finite"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(
    vectors: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        choose(vectors, **options)


def test_the_benchmark_measures_every_form(tmp_path: Path) -> None:
    words = RANDOM.choice(["river", "engine", "music", "king", "cell", "law", "bread"], 3_000)
    numbered = (f"{word}{number % 211}" for number, word in enumerate(words))
    data = tmp_path / "text.txt"
    data.write_text(" ".join(numbered), encoding="utf-8")
    told: list[str] = []
    result = bench.run(
        data=data, sizes=(1_500,), queries=10, forms=("float32", "bits"), progress=told.append
    )
    (size,) = result["sizes"]
    assert [form["form"] for form in size["forms"]] == ["float32", "bits"]
    exact, bits = size["forms"]
    assert exact["recall_at_10"] == {"0": 1.0, "100": 1.0, "400": 1.0}
    assert exact["bytes_per_vector"] == 1024 and bits["bytes_per_vector"] == 33
    recall = list(bits["recall_at_10"].values())
    assert recall == sorted(recall) and recall[-1] > 0.9
    assert size["choice"]["recall_at_10"] > 0.9
    assert len(told) == 2 and "| bits | 33 |" in bench.table(result)
    assert result["isa"] and result["dimension"] == 256


def test_a_benchmark_without_a_text_or_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        bench.run(data=tmp_path / "missing.txt", sizes=(1_000,))
    (tmp_path / "short.txt").write_text("too short", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="has 2 words"):
        bench.run(data=tmp_path / "short.txt", sizes=(1_000,))
    with pytest.raises(InvalidRequest, match="at least 1,000"):
        bench.run(data=tmp_path / "short.txt", sizes=(10,))
