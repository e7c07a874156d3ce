"""The output matrix in other forms than the rest of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ryzanstein.errors import InferenceError, ValidationError
from ryzanstein.inference.load import load_model
from ryzanstein.inference.model import Next
from tests.inference import tiny, tiny_bitnet

SHAPE = tiny.Shape("bitnet", hidden=96, layers=1, inner=128, tied=True, context=2048)
PROMPT = [5, 17, 200, 31, 8]
Logits = npt.NDArray[np.float32]
Layouts = dict[str, tuple[int, int]]
LAYOUTS = {
    "int8": "int8/group",
    "scan": "split8/group",
    "int4": "int4/min",
    "float": "f32/none",
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A BitNet whose output matrix is its embedding, and one where it is not."""
    folder = tmp_path_factory.mktemp("heads")
    return {
        tied: tiny_bitnet.write_hub(folder / str(tied), replace(SHAPE, tied=tied), "packed", "BF16")
        for tied in (True, False)
    }


def logits(path: Path, **options: Any) -> tuple[Logits, Layouts]:
    """All logits of PROMPT, and the model's layouts."""
    with load_model(path, 1, **options) as model:
        return model.forward(PROMPT, model.new_state(), all_logits=True), model.layouts


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("head", LAYOUTS)
def test_the_head_has_the_form_that_was_asked_for(
    head: str, tied: bool, checkpoints: dict[bool, Path]
) -> None:
    _, layouts = logits(checkpoints[tied], head=head)
    assert layouts.keys() == {"ternary2/tensor", LAYOUTS[head]}
    assert layouts[LAYOUTS[head]][0] == SHAPE.vocab * SHAPE.hidden


@pytest.mark.parametrize(("head", "error"), [("int8", 0.02), ("int4", 0.3)])
def test_a_packed_head_is_near_the_dense_one(
    head: str, error: float, checkpoints: dict[bool, Path]
) -> None:
    # Untied, since a coarser embedding would change what the layers see.
    want, _ = logits(checkpoints[False], head="float")
    found, _ = logits(checkpoints[False], head=head)
    assert np.abs(found - want).std() < error * want.std()


@pytest.mark.parametrize(
    ("precision", "head"),
    [("auto", "scan"), ("int8", "scan"), ("int4", "int4"), ("float", "float")],
)
def test_an_automatic_head_follows_the_precision(
    precision: str, head: str, checkpoints: dict[bool, Path]
) -> None:
    follows, layouts = logits(checkpoints[True], precision=precision)
    said, _ = logits(checkpoints[True], precision=precision, head=head)
    assert LAYOUTS[head] in layouts
    np.testing.assert_array_equal(follows, said)


def test_a_scanned_head_counts_half_for_a_token(checkpoints: dict[bool, Path]) -> None:
    whole, half = (load_model(checkpoints[True], 1, head=head) for head in ("int8", "scan"))
    assert whole.nbytes == half.nbytes
    head = whole.layouts["int8/group"][1]
    assert whole.weight_bytes_per_token - half.weight_bytes_per_token == head * 512 // 1088


def test_every_model_has_its_int8_head_scanned_unless_told_otherwise(tmp_path: Path) -> None:
    path = tiny.write_safetensors(tmp_path / "hf", tiny.Shape(tied=True))
    assert logits(path)[1].keys() == {"int8/group", "split8/group"}
    assert logits(path, head="int8")[1].keys() == {"int8/group"}


def test_a_quantised_embedding_keeps_its_form(tmp_path: Path) -> None:
    shape = replace(SHAPE, hidden=256, inner=256)
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", shape, "TQ2_0", head="Q5_0")
    assert "int5/group" in logits(path)[1]
    assert "int8/group" in logits(path, head="int8")[1]


@pytest.mark.parametrize("tied", [True, False])
def test_a_scanned_head_has_the_logits_of_int8(tied: bool, checkpoints: dict[bool, Path]) -> None:
    want, _ = logits(checkpoints[tied], head="int8")
    found, _ = logits(checkpoints[tied], head="scan")
    np.testing.assert_array_equal(found, want)


def greedy(path: Path, prompt: list[int], tokens: int, **options: Any) -> list[Next]:
    """The likeliest tokens after a prompt."""
    with load_model(path, **options) as model:
        state, found = model.new_state(len(prompt) + tokens), [Next(0, 0.0, 0)]
        for _ in range(tokens):
            found.append(model.next_token(prompt, state))
            prompt = [found[-1].token]
        return found[1:]


def test_greedy_text_is_unchanged_by_scanning(checkpoints: dict[bool, Path]) -> None:
    want = greedy(checkpoints[False], PROMPT, 100, threads=1, head="int8")
    for threads in (1, 2):
        found = greedy(checkpoints[False], PROMPT, 100, threads=threads, head="scan")
        assert [next[:2] for next in found] == [next[:2] for next in want]


def test_greedy_text_of_a_real_model_is_unchanged_by_scanning(smollm2: Path) -> None:
    prompt = [504, 3575, 282, 4649, 314]  # "The capital of France is"
    want = greedy(smollm2, prompt, 60, threads=2, head="int8")
    found = greedy(smollm2, prompt, 60, threads=2, head="scan")
    assert [next[:2] for next in found] == [next[:2] for next in want]
    assert np.median([next.computed for next in found]) < want[0].computed / 20


def test_a_prompt_of_several_chunks_leads_to_one_token(checkpoints: dict[bool, Path]) -> None:
    prompt = np.random.default_rng(0).integers(0, SHAPE.vocab, 1100).tolist()
    with load_model(checkpoints[True], 2, head="scan") as model:
        state, other = model.new_state(), model.new_state()
        row = model.forward(prompt, state)[0]
        assert model.next_token(prompt, other).token == row.argmax()
        assert other.length == state.length == len(prompt)


def test_only_ids_below_a_limit_are_chosen(checkpoints: dict[bool, Path]) -> None:
    for head in ("int8", "scan"):
        with load_model(checkpoints[True], 1, head=head) as model:
            row = model.forward(PROMPT, model.new_state())[0]
            for below in (1, 40, SHAPE.vocab):
                found = model.next_token(PROMPT, model.new_state(), below=below)
                assert found.token == row[:below].argmax()
            with pytest.raises(ValidationError, match="limit of 0"):
                model.next_token(PROMPT, model.new_state(), below=0)


def test_logits_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    path = tiny_bitnet.write_hub(tmp_path / "hf", replace(SHAPE, tied=False), "packed")
    with load_model(path, 1, head="scan") as model:
        state = model.new_state()
        model.forward(PROMPT, state)
        for page in state._pages:
            page.view(np.uint16)[:] = 0x7E00  # fp16's NaN
        with pytest.raises(InferenceError, match="not finite"):
            model.next_token([1], state)


def test_an_unknown_head_is_refused(checkpoints: dict[bool, Path]) -> None:
    with pytest.raises(ValidationError, match="head 'int3'"):
        load_model(checkpoints[True], 1, head="int3")
