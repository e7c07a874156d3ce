from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.memory.sketches.hyperloglog import HyperLogLog
from ryzanstein.memory.sketches.payload import BrokenSketch

TRIALS = 30


def counted(items: list[str], precision: int = 8) -> HyperLogLog:
    made = HyperLogLog(precision)
    made.add(*items)
    return made


@pytest.mark.parametrize("distinct", [10, 100, 300, 700, 3_000])
def test_the_error_is_that_of_the_paper_and_without_a_bias(distinct: int) -> None:
    estimates = [
        counted([f"{trial} {number}" for number in range(distinct)]).estimate
        for trial in range(TRIALS)
    ]
    errors = np.array(estimates) / distinct - 1
    allowed = HyperLogLog(8).standard_error
    # Root mean square of 30 trials: chi-squared, 1.45 times the deviation once in 10,000.
    assert math.sqrt(float((errors**2).mean())) <= 1.45 * allowed
    assert abs(float(errors.mean())) <= 4 * allowed / math.sqrt(TRIALS)


def test_an_empty_sketch_counts_none_and_small_numbers_are_right() -> None:
    assert HyperLogLog().estimate == 0
    for distinct in (1, 2, 5, 20):
        assert len(counted([f"task {number}" for number in range(distinct)], 12)) == distinct


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), max_size=60), st.lists(st.text(), max_size=60))
def test_repeats_and_order_change_nothing_and_merging_is_the_union(
    one: list[str], other: list[str]
) -> None:
    merged = counted(one)
    merged.merge(counted(other))
    assert merged.to_bytes() == counted([*other, *one, *one[::-1]]).to_bytes()


def test_a_sketch_survives_being_stored_and_a_damaged_one_is_noticed() -> None:
    payload = counted(["a", "b"]).to_bytes()
    assert HyperLogLog.from_bytes(payload).to_bytes() == payload
    with pytest.raises(BrokenSketch):
        HyperLogLog.from_bytes(payload[:-1])


def test_precisions_out_of_range_are_refused() -> None:
    for precision in (3, 17):
        with pytest.raises(ValueError, match="precision"):
            HyperLogLog(precision)
    with pytest.raises(ValueError, match="two precisions"):
        HyperLogLog(8).merge(HyperLogLog(9))
