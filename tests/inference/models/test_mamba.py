"""Logits and greedy text of Mamba, Falcon-Mamba and Mamba-2 against transformers' own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference import tiny as shipped
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.model import Model, build_model
from tests.inference.models.running import in_pieces, load
from tests.inference.tiny_mamba import Shape, module, write_gguf, write_hf

Array = np.ndarray
LENGTH = 150
ISAS = available_isas()
SHAPES = {
    "mamba": Shape(hidden=48),
    "mamba, odd sizes, biases, own head": Shape(
        hidden=36, state=5, kernel=3, rank=7, bias=True, tied=False, seed=1
    ),
    "mamba without a bias of the convolution": Shape(
        state=24, kernel=5, rank=1, conv_bias=False, layers=3, seed=2
    ),
    "mamba of one tap": Shape(kernel=1, rank=40, expand=3, seed=3),
    "falcon_mamba": Shape("falcon_mamba", hidden=48, tied=False),
    "falcon_mamba, odd sizes, biases": Shape(
        "falcon_mamba", hidden=20, state=9, kernel=7, rank=3, bias=True, seed=1
    ),
    "mamba2": Shape("mamba2", groups=1, state=32),
    "mamba2 in groups": Shape("mamba2", groups=4, tied=False, seed=1),
    "mamba2, odd sizes, biases": Shape(
        "mamba2", hidden=36, heads=6, groups=3, state=21, kernel=5, bias=True, seed=2
    ),
    "mamba2 with heads of two vectors": Shape(
        "mamba2", hidden=64, heads=4, groups=2, state=16, kernel=2, conv_bias=False, seed=3
    ),
}
FAMILIES = ("mamba", "falcon_mamba", "mamba2")


def ids(count: int = LENGTH) -> Array:
    return np.random.default_rng(7).integers(0, 100, count)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns (directory, transformers' model in float32) of a shape."""

    @cache
    def make(name: str) -> tuple[Path, Any]:
        path = tmp_path_factory.mktemp("model") / "m"
        return write_hf(path, SHAPES[name]), module(SHAPES[name])

    return make


def logits(model: Any, tokens: Array) -> Array:
    import torch

    with torch.no_grad():
        found: Array = model(torch.tensor(tokens)[None], use_cache=False).logits[0].numpy()
    return found


def worst(got: Array, want: Array) -> float:
    """Largest difference, in units of the logits' spread."""
    return float(np.abs(got - want).max() / want.std())


def typical(got: Array, want: Array) -> float:
    return float(np.sqrt(((got - want) ** 2).mean()) / want.std())


@pytest.mark.parametrize("name", SHAPES)
def test_float_logits_equal_transformers(name: str, reference: Any) -> None:
    path, original = reference(name)
    want = logits(original, ids())
    with load(path) as model:
        assert worst(in_pieces(model, ids(), LENGTH), want) < 2e-5


@pytest.mark.parametrize("name", SHAPES)
def test_a_token_gets_the_same_bits_alone_and_among_others(name: str, reference: Any) -> None:
    path, _ = reference(name)
    with load(path, threads=2) as model:
        want = in_pieces(model, ids(), LENGTH)
        for size in (1, 2, 7, 64):
            np.testing.assert_array_equal(in_pieces(model, ids(), size), want)


@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_of_a_thousand_equal_transformers(family: str, reference: Any) -> None:
    path, original = reference(family)
    tokens = ids(1100)
    want = logits(original, tokens)
    with load(path, threads=2) as model:
        assert worst(in_pieces(model, tokens, 1000), want) < 2e-5


@pytest.mark.parametrize(
    "name", ["mamba, odd sizes, biases, own head", "falcon_mamba", "mamba2 in groups"]
)
def test_greedy_text_equals_transformers(name: str, reference: Any) -> None:
    import torch

    path, original = reference(name)
    prompt = torch.tensor(ids(20))[None]
    original.generation_config.eos_token_id = None  # 64 tokens, whatever they are
    want = original.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=64,
        do_sample=False,
        pad_token_id=0,
    )[0, 20:]
    with load(path) as model:
        made = greedy(model, ids(20), 64)
    assert made == want.tolist()
    assert len(set(made)) > 10


def greedy(model: Model, prompt: Array, count: int) -> list[int]:
    state, tokens = model.new_state(), list(map(int, prompt))
    made: list[int] = []
    for _ in range(count):
        made.append(model.next_token(tokens, state).token)
        tokens = made[-1:]
    return made


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", ["mamba, odd sizes, biases, own head", "falcon_mamba", "mamba2"])
def test_instruction_sets_and_threads_agree_to_the_last_bit(
    isa: str, threads: int, name: str, reference: Any
) -> None:
    path, _ = reference(name)
    for precision in ("float", "int8"):
        with load(path, precision=precision) as first:
            want = in_pieces(first, ids(), LENGTH)
        with load(path, isa=isa, threads=threads, precision=precision) as model:
            assert (model.isa, model.threads) == (isa, threads)
            for size in (LENGTH, 1, 7):
                np.testing.assert_array_equal(in_pieces(model, ids(), size), want)


@pytest.mark.parametrize(("precision", "limit"), [("auto", 0.05), ("int8", 0.05), ("int4", 0.4)])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_forms_stay_close_to_float(
    family: str, precision: str, limit: float, tmp_path: Path
) -> None:
    # Root mean square over the spread; random weights, unlike trained ones, have no slack at all.
    shape = Shape(family, hidden=128, layers=1, heads=8, seed=5)
    path, want = write_hf(tmp_path / "m", shape), logits(module(shape), ids())
    with load(path, precision=precision) as model:
        assert typical(in_pieces(model, ids(), LENGTH), want) < limit
        assert typical(in_pieces(model, ids(), 1), want) < limit


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_computes_what_its_weights_say(kind: str, family: str, tmp_path: Path) -> None:
    # The same quantised weights: dequantised by the float form, packed by the other.
    shape = Shape(family, hidden=64, layers=1, rank=32 if family != "mamba2" else None, seed=2)
    path = write_gguf(tmp_path / "m.gguf", shape, kind)
    original = logits(module(shape), ids())
    with load(path) as dense, load(path, precision="auto") as packed:
        want = in_pieces(dense, ids(), LENGTH)
        assert typical(in_pieces(packed, ids(), LENGTH), want) < 0.05
        assert typical(want, original) < {"F32": 1e-4, "F16": 5e-3, "Q8_0": 0.03}.get(kind, 0.5)


def test_limits_of_step_sizes_are_those_of_transformers(tmp_path: Path) -> None:
    shape = Shape("mamba2")
    path, original = write_hf(tmp_path / "m", shape), module(shape)
    original.config.time_step_limit = limits = (0.1, 0.4)
    for layer in original.backbone.layers:
        layer.mixer.time_step_limit = limits
    original.config.save_pretrained(path)
    with load(path) as model:
        got = in_pieces(model, ids(), LENGTH)
        assert worst(got, logits(original, ids())) < 2e-5
    assert worst(got, logits(module(shape), ids())) > 0.1


@pytest.mark.parametrize("threads", [1, 2])
def test_tiny_mamba_finds_the_bits_per_byte_of_its_card(threads: int) -> None:
    checkpoint = open_checkpoint(Path(shipped.__file__).parent / "mamba")
    card = shipped.card("mamba")
    with build_model(
        checkpoint, threads=threads, precision="float", context_tokens=card["context"]
    ) as model:
        found = shipped.bits_per_byte(model, shipped.held_out())
    assert found == pytest.approx(card["bits_per_byte_excerpt"], abs=0.0005)
