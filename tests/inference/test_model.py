"""Model and State: checked input, cancelling, and states that are cut, copied, saved and loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.kernels._program import PAGE
from ryzanstein.inference.model import ForwardCancelled, Model, build_model
from tests.inference import tiny

SHAPE = tiny.Shape(model_type="qwen2", hidden=96, heads=6, kv_heads=2, context=1200)
TOKENS = np.random.default_rng(0).integers(0, SHAPE.vocab, 300)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_safetensors(tmp_path_factory.mktemp("model") / "m", SHAPE)


@pytest.fixture
def model(path: Path) -> Iterator[Model]:
    with build_model(open_checkpoint(path), threads=2) as built:
        yield built


def test_one_row_of_logits_unless_all_are_asked_for(model: Model) -> None:
    every = model.forward(TOKENS, model.new_state(), all_logits=True)
    last = model.forward(TOKENS.tolist(), model.new_state())
    assert every.shape == (300, SHAPE.vocab)
    assert (last.shape, last.dtype) == ((1, SHAPE.vocab), np.float32)
    np.testing.assert_allclose(last[0], every[-1], atol=1e-4)


def test_long_inputs_run_in_chunks_with_the_same_result(model: Model) -> None:
    long = np.random.default_rng(1).integers(0, SHAPE.vocab, 1100)
    whole, cut = model.new_state(), model.new_state()
    want = model.forward(long, whole, all_logits=True)
    got = [model.forward(long[at : at + 100], cut, all_logits=True) for at in range(0, 1100, 100)]
    np.testing.assert_allclose(np.concatenate(got), want, atol=0.02)
    assert whole.length == cut.length == 1100


@pytest.mark.parametrize(
    "tokens",
    [[], [-1], [SHAPE.vocab], [[1, 2]], [1.5], ["a"], [2**40]],
    ids=str,
)
def test_bad_tokens_are_refused_and_leave_the_state_alone(model: Model, tokens: list[int]) -> None:
    state = model.new_state()
    with pytest.raises(ValidationError, match="Token ids"):
        model.forward(tokens, state)
    assert state.length == 0


def test_a_full_context_is_refused(model: Model) -> None:
    state = model.new_state(capacity=10)
    model.forward(TOKENS[:10], state)
    with pytest.raises(ValidationError, match="11 tokens do not fit a context of 10"):
        model.forward([1], state)
    assert state.length == 10


@pytest.mark.parametrize("capacity", [0, -5, 1201])
def test_a_capacity_outside_the_context_is_refused(model: Model, capacity: int) -> None:
    with pytest.raises(ValidationError, match="outside 1 to 1200"):
        model.new_state(capacity)


def test_a_shorter_context_can_be_asked_for(path: Path) -> None:
    with build_model(open_checkpoint(path), threads=1, context_tokens=100) as model:
        assert model.new_state().capacity == 100


def test_cancelling_keeps_the_state_usable(model: Model) -> None:
    state, flag = model.new_state(), threading.Event()
    model.forward(TOKENS[:20], state)
    flag.set()
    with pytest.raises(ForwardCancelled):
        model.forward(TOKENS[20:], state, cancel=flag)
    assert state.length == 20
    flag.clear()
    got = model.forward(TOKENS[20:], state, cancel=flag)
    want = model.forward(TOKENS, model.new_state())
    np.testing.assert_allclose(got, want, atol=0.02)


def test_a_cut_state_continues_as_if_the_rest_had_never_been(model: Model) -> None:
    state = model.new_state()
    model.forward(TOKENS, state)
    for length in (200, PAGE, 1):
        state.truncate(length)
        fresh = model.new_state()
        model.forward(TOKENS[:length], fresh)
        assert state.nbytes == fresh.nbytes
        np.testing.assert_allclose(
            model.forward([5, 6], state), model.forward([5, 6], fresh), atol=0.02
        )


@pytest.mark.parametrize("length", [-1, 301])
def test_a_state_cannot_be_cut_to_a_length_it_has_not(model: Model, length: int) -> None:
    state = model.new_state()
    model.forward(TOKENS, state)
    with pytest.raises(ValidationError, match="cannot be cut"):
        state.truncate(length)


def test_copies_go_separate_ways(model: Model) -> None:
    state = model.new_state()
    model.forward(TOKENS[:100], state)
    copy = state.copy()
    first = model.forward([7, 8, 9], state)
    other = model.forward([10, 11, 12], copy)
    state.truncate(100)
    copy.truncate(100)
    np.testing.assert_array_equal(model.forward([7, 8, 9], copy), first)
    np.testing.assert_array_equal(model.forward([10, 11, 12], state), other)


def test_a_closed_model_says_so(path: Path) -> None:
    model = build_model(open_checkpoint(path), threads=2)
    model.close()
    with pytest.raises(InferenceError, match="closed"):
        model.forward([1], model.new_state())


def test_it_knows_its_bytes(model: Model) -> None:
    # Untied: a token reads everything but the embedding table.
    assert 0 < model.weight_bytes_per_token < model.nbytes
    state = model.new_state()
    model.forward(TOKENS[: PAGE + 1], state)
    assert state.nbytes == 2 * PAGE * SHAPE.layers * 2 * SHAPE.kv_heads * SHAPE.dim * 2


def test_operators_can_be_timed(model: Model) -> None:
    model.time_operators(True)
    model.forward(TOKENS, model.new_state())
    names = [name for name, _, _ in model.timings()]
    assert names == ["embed", *["linear", "append", "attend", *["linear"] * 3] * 2, "head"]
    assert sum(seconds for _, _, seconds in model.timings()) > 0
    model.time_operators(False)
    assert not any(seconds for _, _, seconds in model.timings())
