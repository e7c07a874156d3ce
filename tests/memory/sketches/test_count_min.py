from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.memory.sketches.bloom import BloomFilter
from ryzanstein.memory.sketches.count_min import CountMin
from ryzanstein.memory.sketches.payload import BrokenSketch


def counted(items: list[str], error: float = 0.05, doubt: float = 0.1) -> CountMin:
    made = CountMin(error, doubt)
    made.add(*items)
    return made


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([f"w{number}" for number in range(200)]), max_size=400))
def test_an_estimate_is_never_below_the_truth(items: list[str]) -> None:
    made = counted(items)
    assert all(made[item] >= times for item, times in Counter(items).items())
    assert made.total == len(items)


@pytest.mark.parametrize("doubt", [0.3, 0.1, 0.02])
def test_estimates_above_the_bound_are_as_rare_as_promised(doubt: float) -> None:
    # Words of a text: a few occur very often, most of them once.
    often = np.random.default_rng(7).zipf(1.3, size=8_000) % 5_000
    made = counted([f"w{number}" for number in often], 0.002, doubt)
    truth = Counter(often.tolist())
    above = sum(made[f"w{number}"] - truth[number] > made.bound for number in range(5_000))
    assert above / 5_000 <= doubt + 4 * math.sqrt(doubt / 5_000)


def test_a_frequent_word_is_counted_nearly_exactly() -> None:
    made = counted(["the"] * 500 + [f"w{number}" for number in range(500)], 0.01, 0.01)
    assert 500 <= made["the"] <= 500 + made.bound
    assert made["never"] <= made.bound


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), max_size=40), st.lists(st.text(), max_size=40))
def test_merged_sketches_count_both(one: list[str], other: list[str]) -> None:
    merged = counted(one)
    merged.merge(counted(other))
    assert merged.to_bytes() == counted(one + other).to_bytes()


def test_a_sketch_survives_being_stored_and_a_damaged_one_is_noticed() -> None:
    payload = counted(["a", "a", "b"]).to_bytes()
    assert CountMin.from_bytes(payload)["a"] == 2
    with pytest.raises(BrokenSketch):
        CountMin.from_bytes(payload[:-9] + b"x" + payload[-8:])
    with pytest.raises(BrokenSketch, match="another kind"):
        CountMin.from_bytes(BloomFilter(10).to_bytes())


def test_forms_that_cannot_hold_their_promise_are_refused() -> None:
    for error, doubt in ((0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0)):
        with pytest.raises(ValueError, match="no count-min"):
            CountMin(error, doubt)
    with pytest.raises(ValueError, match="two forms"):
        CountMin().merge(CountMin(0.5))
