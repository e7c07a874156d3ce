"""The output matrix in other forms than the rest of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ryzanstein.errors import ValidationError
from ryzanstein.inference.load import load_model
from tests.inference import tiny, tiny_bitnet

SHAPE = tiny.Shape("bitnet", hidden=96, layers=1, inner=128, tied=True)
PROMPT = [5, 17, 200, 31, 8]
Logits = npt.NDArray[np.float32]
Layouts = dict[str, tuple[int, int]]
LAYOUTS = {"int8": "int8/group", "int4": "int4/min", "float": "f32/none"}


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


def test_an_automatic_head_follows_the_precision(checkpoints: dict[bool, Path]) -> None:
    for precision, head in (("auto", "int8"), ("int4", "int4"), ("float", "float")):
        follows, _ = logits(checkpoints[True], precision=precision)
        said, _ = logits(checkpoints[True], precision=precision, head=head)
        assert (follows == said).all()


def test_a_quantised_embedding_keeps_its_form(tmp_path: Path) -> None:
    shape = replace(SHAPE, hidden=256, inner=256)
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", shape, "TQ2_0", head="Q5_0")
    assert "int5/group" in logits(path)[1]
    assert "int8/group" in logits(path, head="int8")[1]


def test_an_unknown_head_is_refused(checkpoints: dict[bool, Path]) -> None:
    with pytest.raises(ValidationError, match="head 'int3'"):
        load_model(checkpoints[True], 1, head="int3")
