"""RWKV-4 against BlinkDL's package and transformers, on small random checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from tests.inference.models.random_rwkv4 import Shape, tensors, write_pth
from tests.inference.models.running import in_pieces, likeliest, load
from tests.inference.models.rwkv_package import one_thread, reference

Array = np.ndarray
LENGTH = 100
SHAPES = {
    "usual": Shape(),
    "odd sizes": Shape(heads=5, head_dim=20, inner=97, vocab=97, layers=2, seed=1),
    "deep and narrow": Shape(heads=1, head_dim=32, inner=128, layers=8, seed=2),
}


def ids(shape: Shape) -> Array:
    return np.random.default_rng(7).integers(0, shape.vocab, LENGTH)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns (file, logits of the package) of a shape."""

    @cache
    def make(name: str) -> tuple[Path, Array]:
        path = write_pth(tmp_path_factory.mktemp("rwkv4") / "m.pth", SHAPES[name])
        return path, reference(path)(ids(SHAPES[name]))

    return make


def worst(got: Array, want: Array) -> float:
    """Largest difference, in units of the logits' spread."""
    return float(np.abs(got - want).max() / want.std())


@pytest.mark.parametrize("name", SHAPES)
def test_float_logits_equal_the_package_in_pieces_of_any_size(name: str, model: Any) -> None:
    path, want = model(name)
    with load(path) as own:
        whole = in_pieces(own, ids(SHAPES[name]), 1000)
        assert worst(whole, want) < 1e-4
        for size in (1, 7, 64):
            np.testing.assert_array_equal(in_pieces(own, ids(SHAPES[name]), size), whole)


def test_greedy_text_equals_the_package(model: Any) -> None:
    path, _ = model("usual")
    prompt = ids(SHAPES["usual"])[:20].tolist()
    with load(path) as own:
        assert likeliest(own, prompt, 64) == reference(path).greedy(prompt, 64)


def test_instruction_sets_and_threads_do_not_change_a_bit(model: Any) -> None:
    for name in ("usual", "odd sizes"):
        path, _ = model(name)
        tokens = ids(SHAPES[name])
        with load(path) as own:
            first = in_pieces(own, tokens, LENGTH)
        for isa in available_isas():
            for threads in (1, 2, 4):
                with load(path, isa=isa, threads=threads) as own:
                    for size in (LENGTH, 1):
                        np.testing.assert_array_equal(in_pieces(own, tokens, size), first)


@pytest.mark.parametrize(("precision", "limit"), [("int8", 0.1), ("int4", 1.0)])
def test_packed_forms_stay_close_to_float(precision: str, limit: float, model: Any) -> None:
    path, want = model("usual")
    with load(path, precision=precision, threads=2) as own:
        got = in_pieces(own, ids(SHAPES["usual"]), 64)
        assert np.sqrt(((got - want) ** 2).mean()) / want.std() < limit
        np.testing.assert_array_equal(in_pieces(own, ids(SHAPES["usual"]), 1), got)


def test_keys_of_any_size_neither_overflow_nor_vanish(tmp_path: Path) -> None:
    import torch

    made = tensors(Shape(seed=4))
    for name, value in made.items():
        if name.endswith("att.key.weight"):
            value *= 300.0  # keys of some hundreds: exp of them is no float
    path = tmp_path / "m.pth"
    torch.save({name: torch.from_numpy(value) for name, value in made.items()}, path)
    tokens = ids(Shape())
    with load(path) as own:
        got = in_pieces(own, tokens, 64)
    # Which of two values wins hangs on the last bits of their keys.
    assert worst(got, reference(path)(tokens)) < 2e-3


def write_hub(path: Path, **changes: Any) -> Path:
    """A directory as transformers writes RwkvForCausalLM."""
    import torch
    from transformers import RwkvConfig, RwkvForCausalLM

    config: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "num_hidden_layers": 5,
        "intermediate_size": 160,
        "rescale_every": 2,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    torch.manual_seed(3)
    made = RwkvForCausalLM(RwkvConfig(**(config | changes)))
    made.eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if "embeddings" in name or last == "time_first":
                torch.nn.init.normal_(value, std=0.7)
            elif last == "time_decay":
                torch.nn.init.uniform_(value, -5.0, 1.0)
            elif "time_mix" in last:
                torch.nn.init.uniform_(value)
            elif value.ndim == 2:
                torch.nn.init.normal_(value, std=1.5 * value.shape[1] ** -0.5)
    made.save_pretrained(path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": True, "hidden_size": 80, "vocab_size": 97, "intermediate_size": 99},
        {"attention_hidden_size": 96, "rescale_every": 0},
    ],
    ids=["rescaled", "tied, odd sizes", "wider attention"],
)
def test_logits_and_text_equal_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    import torch
    from transformers import RwkvForCausalLM

    path = write_hub(tmp_path / "hub", **changes)
    tokens = ids(Shape())
    prompt = torch.from_numpy(tokens[:20])[None]
    theirs = RwkvForCausalLM.from_pretrained(path, dtype=torch.float32)
    theirs.eval()
    with torch.no_grad(), one_thread():
        want = theirs(torch.from_numpy(tokens)[None], use_cache=False).logits[0].numpy()
        # Its own state has a place for hidden_size channels only.
        steps = 0 if "attention_hidden_size" in changes else 64
        text = theirs.generate(prompt, max_new_tokens=64, do_sample=False) if steps else prompt
    with load(path) as own:
        for size in (1000, 1, 7):
            assert worst(in_pieces(own, tokens, size), want) < 1e-4
        assert likeliest(own, tokens[:20].tolist(), steps) == text[0, 20:].tolist()
