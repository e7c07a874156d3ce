from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.model import Model, State, build_model
from ryzanstein.inference.prefix import PrefixCache, PrefixCaches
from ryzanstein.subject import Subject, acting
from tests.inference import tiny
from tests.inference.recurrence import recurrent_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tiny.write_safetensors(tmp_path_factory.mktemp("hub"), tiny.Shape(vocab=64))
    with build_model(open_checkpoint(path), threads=1, precision="float") as made:
        yield made


def filled(model: Model, ids: list[int]) -> State:
    state = model.new_state()
    model.forward(ids, state)
    return state


def test_a_longer_prompt_takes_over_the_whole_state(model: Model) -> None:
    cache = PrefixCache(1 << 30)
    ids = list(range(20))
    state = filled(model, ids)
    cache.put(ids, state)
    assert cache.take([*ids, 5]) is state
    assert cache.entries() == []
    assert (cache.hits, cache.cached_tokens, cache.prompt_tokens) == (1, 20, 21)


def test_a_branch_leaves_the_old_state_as_it_was(model: Model) -> None:
    cache = PrefixCache(1 << 30)
    ids = list(range(20))
    cache.put(ids, filled(model, ids))
    branch = cache.take([*ids[:12], 50, 51])
    assert branch is not None
    assert branch.length == 12
    model.forward([50, 51], branch)
    assert [len(entry.ids) for entry in cache.entries()] == [20]
    again = cache.take([*ids, 1])
    assert again is not None
    expected = model.forward([*ids, 1], model.new_state())
    assert np.allclose(model.forward([1], again), expected, atol=1e-4)


def test_the_same_prompt_again_leaves_one_token_to_compute(model: Model) -> None:
    cache = PrefixCache(1 << 30)
    ids = list(range(20))
    cache.put(ids, filled(model, ids))
    state = cache.take(ids)
    assert state is not None
    assert state.length == 19


def test_what_has_little_in_common_is_a_miss(model: Model) -> None:
    cache = PrefixCache(1 << 30)
    ids = list(range(20))
    cache.put(ids, filled(model, ids))
    assert cache.take([0, 1, 2, 60]) is None
    assert cache.misses == 1


def test_bounds_on_number_and_bytes_drop_the_oldest(model: Model) -> None:
    states = [filled(model, [first, *range(20)]) for first in range(30, 35)]
    cache = PrefixCache(1 << 30, max_states=3)
    for first, state in zip(range(30, 35), states, strict=True):
        cache.put([first, *range(20)], state)
    assert [int(entry.ids[0]) for entry in cache.entries()] == [32, 33, 34]
    small = PrefixCache(2 * states[0].nbytes)
    for first, state in zip(range(30, 35), states, strict=True):
        small.put([first, *range(20)], state)
    assert [int(entry.ids[0]) for entry in small.entries()] == [33, 34]
    none = PrefixCache(states[0].nbytes - 1)
    none.put([30, *range(20)], states[0])
    assert none.entries() == []
    assert small.clear() == 2
    assert small.nbytes == 0


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=8)
)
def test_logits_are_the_same_with_and_without_the_cache(
    model: Model, prompts: list[list[int]], tmp_path: Path
) -> None:
    cache = PrefixCache(1 << 30, max_states=4)
    for prompt in prompts:
        state = cache.take(prompt) or model.new_state()
        got = model.forward(prompt[state.length :], state)
        cache.put(prompt, state)
        assert np.allclose(got, model.forward(prompt, model.new_state()), atol=2e-4)


@pytest.fixture(scope="module")
def recurrent() -> Model:
    return recurrent_model(64)


def test_a_recurrent_state_is_used_only_where_all_of_it_begins_the_prompt(recurrent: Model) -> None:
    cache = PrefixCache(1 << 30)
    ids = list(range(20))
    cache.put(ids, filled(recurrent, ids))
    assert cache.take([*ids[:19], 50, 51]) is None
    assert cache.take(ids) is None  # not a token would be left whose logits could be had
    assert (cache.hits, cache.misses) == (0, 2)
    found = cache.take([*ids, 1])
    assert found is not None and found.length == 20


def test_a_recurrent_state_stays_beside_one_that_continues_it(recurrent: Model) -> None:
    cache = PrefixCache(1 << 30)
    persona, longer = list(range(20)), list(range(40))
    cache.put(persona, filled(recurrent, persona))
    cache.put(longer, filled(recurrent, longer))
    cache.put(longer, filled(recurrent, longer))
    assert sorted(len(entry.ids) for entry in cache.entries()) == [20, 40]
    for prompt, length in (([*longer, 1], 40), ([*persona, 63, 63], 20), ([*longer[:39], 63], 20)):
        assert cache.usable(prompt) == length
        state = cache.take(prompt)
        assert state is not None and state.length == length
        recurrent.forward(prompt[length:], state)
    again = cache.take([*persona, 9, 9])
    assert again is not None
    want = recurrent.forward([*persona, 9, 9], recurrent.new_state())
    np.testing.assert_array_equal(recurrent.forward([9, 9], again), want)


def test_what_can_be_cut_to_just_some_tokens_is_found(model: Model, recurrent: Model) -> None:
    ids = list(range(20))
    for made, cut in ((model, 12), (recurrent, None)):
        cache = PrefixCache(1 << 30)
        cache.put(ids, filled(made, ids))
        whole, part = cache.holding(ids), cache.holding(ids[:12])
        assert whole is not None and len(whole.ids) == 20
        assert (part is not None) == (cut is not None)
        assert cache.holding([*ids, 1]) is None
        assert cache.drop(whole) and not cache.drop(whole)
        assert (cache.entries(), cache.hits, cache.misses) == ([], 0, 0)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prompts=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=30), min_size=1, max_size=9)
)
def test_recurrent_logits_are_the_same_with_and_without_the_cache(
    recurrent: Model, prompts: list[list[int]]
) -> None:
    cache = PrefixCache(1 << 30, max_states=4)
    for prompt in prompts:
        state = cache.take(prompt) or recurrent.new_state()
        middle = (state.length + len(prompt)) // 2
        if middle > state.length:
            recurrent.feed(prompt[state.length : middle], state)
            cache.put(prompt, state.copy())
        got = recurrent.forward(prompt[state.length :], state)
        cache.put(prompt, state)
        want = recurrent.forward(prompt, recurrent.new_state())
        np.testing.assert_array_equal(got, want)


def test_every_subject_finds_its_own_states_only(model: Model) -> None:
    caches = PrefixCaches(1 << 30)
    ids = list(range(20))
    with acting(Subject("ada")):
        caches.put(ids, filled(model, ids))
    for subject in (Subject("bob"), Subject("")):
        with acting(subject):
            assert caches.own().usable([*ids, 1]) == 0
            assert caches.own().take([*ids, 1]) is None
            assert caches.own().holding(ids) is None
            assert caches.own().entries() == []
            caches.own().clear()
    with acting(Subject("ada")):
        assert caches.own().usable([*ids, 1]) == 20
    caches.clear()
    with acting(Subject("ada")):
        assert caches.own().entries() == []


def test_the_bound_holds_for_all_subjects_together_and_the_latest_keeps_its_states(
    model: Model,
) -> None:
    ids = list(range(20))
    caches = PrefixCaches(2 * filled(model, ids).nbytes)
    for name in ("a", "b", "c"):
        with acting(Subject(name)):
            caches.put(ids, filled(model, ids))
    kept = []
    for name in ("a", "b", "c"):
        with acting(Subject(name)):
            kept.append(len(caches.own().entries()))
    assert kept == [0, 1, 1]
