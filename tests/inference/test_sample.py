from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import InferenceError
from ryzanstein.inference.sample import Sampler, Sampling

Floats = np.ndarray


def logits(seed: int, size: int = 5000, spread: float = 3.0) -> Floats:
    return (np.random.default_rng(seed).normal(size=size) * spread).astype(np.float32)


def reference(values: Floats, options: Sampling) -> Floats:
    """Probabilities after all cuts, computed the plain way in float64."""
    scaled = values.astype(np.float64) / options.temperature
    order = np.argsort(-scaled, kind="stable")
    if options.top_k:
        scaled[order[options.top_k :]] = -np.inf
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    if options.top_p < 1:
        sums = np.cumsum(shares[order])
        shares[order[int(np.searchsorted(sums, options.top_p)) + 1 :]] = 0
    shares[shares < options.min_p * shares.max()] = 0
    return shares / shares.sum()


@given(seed=st.integers(0, 10**6), size=st.integers(1, 9000))
@settings(max_examples=60, deadline=None)
def test_greedy_takes_the_largest(seed: int, size: int) -> None:
    values = logits(seed, size)
    assert Sampler(Sampling()).choose(values) == values.argmax()


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 9000),
    temperature=st.floats(0.1, 3),
    top_k=st.integers(0, 300),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.5),
)
@settings(max_examples=200, deadline=None)
def test_a_draw_stays_within_every_cut(
    seed: int, size: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    values = logits(seed, size)
    options = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    # A little slack where float32 decides on which side of a cut a token falls.
    loose = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=min(top_p + 1e-4, 1.0),
        min_p=max(min_p - 1e-4, 0.0),
    )
    allowed = reference(values, loose) > 0
    sampler = Sampler(options)
    assert all(allowed[sampler.choose(values)] for _ in range(5))


@pytest.mark.parametrize(
    "options",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.7, top_k=20),
        Sampling(temperature=1.5, top_p=0.8),
        Sampling(temperature=1.0, min_p=0.1),
        Sampling(temperature=0.9, top_k=50, top_p=0.9, min_p=0.02),
    ],
)
def test_draws_have_the_right_frequencies(options: Sampling) -> None:
    values = logits(7, 6000, spread=2.5)
    expected = reference(values, options)
    sampler = Sampler(Sampling(**{**_fields(options), "seed": 5}))
    count = 4000
    drawn = np.bincount([sampler.choose(values) for _ in range(count)], minlength=6000) / count
    assert not drawn[expected == 0].any()
    likely = expected > 0.02
    assert np.abs(drawn - expected)[likely].max(initial=0) < 0.03
    assert abs(drawn[~likely].sum() - expected[~likely].sum()) < 0.03


def _fields(options: Sampling) -> dict[str, object]:
    return {name: getattr(options, name) for name in Sampling.__dataclass_fields__}


def test_the_same_seed_gives_the_same_tokens_and_another_gives_others() -> None:
    values = logits(1)
    first, again, other = (
        [sampler.choose(values) for _ in range(20)]
        for sampler in (Sampler(Sampling(temperature=1, seed=seed)) for seed in (3, 3, 4))
    )
    assert first == again != other


def test_the_mask_holds_for_every_way_of_choosing() -> None:
    values = logits(2)
    allowed = np.zeros(5000, np.bool_)
    allowed[[17, 4999]] = True
    for options in (
        Sampling(),
        Sampling(temperature=2, seed=0),
        Sampling(temperature=1, top_k=5, top_p=0.5, min_p=0.1, seed=0),
        Sampling(logit_bias={3: 1000.0}, repetition_penalty=1.3),
    ):
        assert Sampler(options).choose(values, allowed) in (17, 4999)


def test_a_mask_may_be_shorter_than_the_logits() -> None:
    values = np.array([0, 1, 2, 9, 9], np.float32)
    assert Sampler(Sampling()).choose(values, np.array([True, True, True])) == 2


def test_logit_bias_moves_and_forbids() -> None:
    values = np.array([1, 2, 3], np.float32)
    assert Sampler(Sampling(logit_bias={0: 10.0})).choose(values) == 0
    assert Sampler(Sampling(logit_bias={2: -np.inf})).choose(values) == 1
    assert values.tolist() == [1, 2, 3]


def test_repetition_penalty_counts_prompt_and_answer_whatever_the_sign() -> None:
    values = np.array([2.0, 1.9, -1.0, -1.05], np.float32)
    assert Sampler(Sampling(repetition_penalty=1.2), prompt=[0]).choose(values) == 1
    sampler = Sampler(Sampling(repetition_penalty=1.2, logit_bias={0: -9.0, 1: -9.0}))
    assert sampler.choose(values) == 2
    sampler.accept(2)
    assert sampler.choose(values) == 3


def test_frequency_penalty_grows_and_presence_penalty_does_not() -> None:
    values = np.array([2.0, 1.0], np.float32)
    frequency, presence = Sampling(frequency_penalty=0.4), Sampling(presence_penalty=0.4)
    for options, expected in ((frequency, [0, 0, 0, 1]), (presence, [0, 0, 0, 0])):
        sampler = Sampler(options, prompt=[0] * 50)
        chosen = []
        for _ in expected:
            chosen.append(sampler.choose(values))
            sampler.accept(0)
        assert chosen == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float) -> None:
    values = logits(3)
    values[100] = bad
    with pytest.raises(InferenceError, match="not finite"):
        Sampler(Sampling()).choose(values)


def test_forbidding_everything_is_an_error() -> None:
    with pytest.raises(InferenceError, match="No token is allowed"):
        Sampler(Sampling()).choose(logits(4), np.zeros(5000, np.bool_))
    with pytest.raises(InferenceError, match="No token is allowed"):
        Sampler(Sampling()).choose(np.full(5, -np.inf, np.float32))


def test_a_large_vocabulary_is_chosen_from_quickly() -> None:
    values = logits(5, 151_936, spread=6.0)
    sampler = Sampler(Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=1))
    sampler.choose(values)
    best = np.inf
    for _ in range(20):
        started = time.thread_time()
        sampler.choose(values)
        best = min(best, time.thread_time() - started)
    # A millisecond is what it takes; four leave room for a slow processor.
    assert best < 4e-3
