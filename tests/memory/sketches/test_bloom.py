from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.memory.sketches.bloom import BloomFilter
from ryzanstein.memory.sketches.payload import BrokenSketch


def filled(items: list[str], capacity: int = 100, error: float = 0.01) -> BloomFilter:
    made = BloomFilter(capacity, error)
    made.add(*items)
    return made


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), max_size=300))
def test_what_was_added_never_looks_new_even_above_the_capacity(items: list[str]) -> None:
    made = filled(items)
    assert all(item in made for item in items)


@pytest.mark.parametrize("error", [0.004, 0.01, 0.05, 0.5])
def test_at_capacity_the_share_of_new_items_that_look_known_is_within_the_bound(
    error: float,
) -> None:
    made = filled([f"in {number}" for number in range(2_000)], 2_000, error)
    probes = 20_000
    wrong = sum(f"out {number}" in made for number in range(probes))
    assert wrong / probes <= error + 4 * math.sqrt(error * (1 - error) / probes)


def test_the_number_of_items_is_estimated() -> None:
    made = filled([f"item {number % 1_500}" for number in range(3_000)], 2_000)
    assert made.count == pytest.approx(1_500, rel=0.03)
    assert BloomFilter(10).count == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), max_size=40), st.lists(st.text(), max_size=40))
def test_merged_filters_are_the_filter_of_both(one: list[str], other: list[str]) -> None:
    merged = filled(one)
    merged.merge(filled(other))
    assert merged.to_bytes() == filled(one + other).to_bytes()


def test_a_filter_survives_being_stored_and_a_damaged_one_is_noticed() -> None:
    made = filled(["a", "b"])
    payload = made.to_bytes()
    assert BloomFilter.from_bytes(payload).to_bytes() == payload
    for at in range(0, len(payload), 7):
        broken = bytearray(payload)
        broken[at] ^= 1
        with pytest.raises(BrokenSketch):
            BloomFilter.from_bytes(bytes(broken))
    for cut in (b"", payload[:4], payload[:-1]):
        with pytest.raises(BrokenSketch):
            BloomFilter.from_bytes(cut)


def test_forms_that_cannot_hold_their_promise_are_refused() -> None:
    for capacity, error in ((0, 0.01), (10, 0.0), (10, 0.001), (10, 1.0)):
        with pytest.raises(ValueError, match="no Bloom filter"):
            BloomFilter(capacity, error)
    with pytest.raises(ValueError, match="two forms"):
        BloomFilter(10).merge(BloomFilter(20))
