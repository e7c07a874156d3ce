from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ryzanstein.errors import InferenceError
from ryzanstein.inference.constrain import Grammars
from ryzanstein.inference.generate import Generation, Plan
from ryzanstein.inference.load import load_model
from ryzanstein.inference.model import Model
from ryzanstein.inference.sample import Sampling
from tests.inference import tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tiny.write_safetensors(tmp_path_factory.mktemp("hub"), tiny.Shape(context=200))
    with load_model(path, threads=1, precision="float") as made:
        yield made


def generate(model: Model, plan: Plan, prompt: str = "Once upon", cached: int = 0) -> Generation:
    ids = model.tokenizer.encode(prompt)
    state = model.new_state()
    if cached:
        model.forward(ids[:cached], state)
    generation = Generation(model, model.tokenizer, state, ids)
    generation.run(plan)
    return generation


def greedy_ids(model: Model, prompt: str, count: int) -> list[int]:
    """The plain loop: a whole forward pass for every token."""
    ids = model.tokenizer.encode(prompt)
    for _ in range(count):
        logits = model.forward(ids, model.new_state())[0]
        ids.append(int(logits[: model.tokenizer.vocab_size].argmax()))
    return ids


def test_greedy_equals_the_plain_loop_with_and_without_a_state(model: Model) -> None:
    expected = greedy_ids(model, "Once upon", 30)
    assert not model.tokenizer.end_ids & set(expected)
    for cached in (0, 3):
        got = generate(model, Plan(30), cached=cached)
        assert got.ids == expected
        assert got.tokens == 30
        assert got.finish_reason == "length"
        assert 0 < got.prefill_seconds <= got.seconds


def test_pieces_join_to_the_text_which_is_the_decoded_answer(model: Model) -> None:
    pieces: list[str] = []
    got = generate(model, Plan(60, on_text=pieces.append))
    decoded = model.tokenizer.decode(got.ids[-got.tokens :])
    assert "".join(pieces) == got.text
    assert decoded.startswith(got.text)
    assert decoded[len(got.text) :].strip("�") == ""


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(model: Model) -> None:
    whole = generate(model, Plan(60)).text
    stop = whole[20:23]
    pieces: list[str] = []
    got = generate(model, Plan(60, stops=[stop, "never"], on_text=pieces.append))
    assert got.text == whole[: whole.index(stop)] == "".join(pieces)
    assert got.finish_reason == "stop"
    assert got.tokens < 60


def test_an_end_token_ends_the_answer(model: Model) -> None:
    end = model.tokenizer.specials["<|im_end|>"]
    got = generate(model, Plan(60, sampling=Sampling(logit_bias={end: 1000.0})))
    assert (got.text, got.tokens, got.finish_reason) == ("", 0, "stop")


def test_the_context_ends_the_answer(model: Model) -> None:
    got = generate(model, Plan(10_000))
    assert len(got.ids) == 200
    assert got.finish_reason == "length"


def test_cancelling_ends_between_two_tokens(model: Model) -> None:
    cancel = threading.Event()
    seen: list[str] = []

    def on_text(piece: str) -> None:
        seen.append(piece)
        if len(seen) == 5:
            cancel.set()

    got = generate(model, Plan(100, on_text=on_text, cancel=cancel))
    assert got.finish_reason == "cancelled"
    assert got.text == "".join(seen)
    assert 5 <= got.tokens < 15


def test_a_generation_cancelled_before_it_starts_computes_nothing(model: Model) -> None:
    cancel = threading.Event()
    cancel.set()
    state = model.new_state()
    generation = Generation(model, model.tokenizer, state, model.tokenizer.encode("Once upon"))
    generation.run(Plan(10, cancel=cancel))
    assert (generation.finish_reason, generation.tokens, state.length) == ("cancelled", 0, 0)


def test_the_callbacks_error_reaches_the_caller_and_leaves_a_usable_state(model: Model) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("the listener left")

    state = model.new_state()
    generation = Generation(model, model.tokenizer, state, model.tokenizer.encode("Once upon"))
    with pytest.raises(RuntimeError, match="listener left"):
        generation.run(Plan(10, on_text=fail))
    held = generation.ids[: state.length]
    expected = model.forward([*held, 7], model.new_state())
    assert np.allclose(model.forward([7], state), expected, atol=1e-4)


def test_a_grammar_is_followed_and_its_forced_tokens_count(model: Model) -> None:
    grammars = Grammars(model.tokenizer)
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": [True, False]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    matcher = grammars.matcher({"json_schema": schema})
    got = generate(model, Plan(60, matcher=matcher))
    assert got.text in ('{"answer": true}', '{"answer": false}')
    assert got.finish_reason == "stop"
    assert model.tokenizer.decode(got.ids[-got.tokens :]) == got.text


def test_a_grammar_stops_at_the_limit_even_inside_forced_tokens(model: Model) -> None:
    matcher = Grammars(model.tokenizer).matcher({"choices": ["a long answer without a choice"]})
    got = generate(model, Plan(4, matcher=matcher))
    assert (got.tokens, got.finish_reason) == (4, "length")
    assert "a long answer without a choice".startswith(got.text)


def test_the_seed_decides_the_text(model: Model) -> None:
    def sample(seed: int) -> str:
        return generate(model, Plan(20, sampling=Sampling(temperature=2, seed=seed))).text

    assert sample(1) == sample(1) != sample(2)


def test_unusable_logits_are_an_error(tmp_path: Path) -> None:
    shape = tiny.Shape()
    path = tiny.write_safetensors(tmp_path, shape)
    broken = tiny.weights(shape)
    # Finite weights, but their products are not.
    broken["model.norm.weight"][:] = 1e30
    broken["lm_head.weight"] *= 1e30
    tiny.write_shard(path / "model.safetensors", broken)
    with (
        load_model(path, threads=1, precision="float") as model,
        pytest.raises(InferenceError, match="not finite"),
    ):
        generate(model, Plan(3))
