"""BitNets against transformers' own modules: logits and greedy text, every layout and option.

`rounding.py` says why codes at the edge of rounding may be turned before logits are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._linear import available_isas
from ryzanstein.inference.model import Model
from tests.inference import tiny, tiny_bitnet
from tests.inference.models.running import in_pieces, load

Array = np.ndarray
LENGTH = 40


@dataclass(frozen=True)
class Case:
    """A shape, how its weights are stored, and what quantization_config says besides."""

    shape: tiny.Shape
    stored: str = "packed"
    dtype: str = "F32"
    quantization: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def ids(self) -> Array:
        return np.random.default_rng(7).integers(0, self.shape.vocab, LENGTH)


def bitnet(**given: Any) -> tiny.Shape:
    return tiny.Shape("bitnet", **({"inner": 160} | given))


INNER = {"use_rms_norm": True, "rms_norm_eps": 1e-5}
CASES = {
    "as Microsoft packs it": Case(bitnet(hidden=128, heads=8, kv_heads=2)),
    "tied": Case(bitnet(tied=True, seed=1)),
    "no multiple of 32": Case(bitnet(hidden=100, heads=5, kv_heads=1, inner=92, vocab=97)),
    "one key/value head a head": Case(bitnet(hidden=320, heads=5, kv_heads=5, inner=700, layers=1)),
    "wide": Case(bitnet(hidden=768, heads=12, kv_heads=3, inner=512, layers=1)),
    "attention biases": Case(bitnet(bias=True, seed=2)),
    "bytes of -1, 0 and 1": Case(bitnet(seed=3), "int8"),
    "floats of -1, 0 and 1": Case(bitnet(seed=4), "floats", "BF16"),
    "master weights": Case(bitnet(hidden=192, heads=6), "master"),
    "master weights in bf16, tied": Case(bitnet(tied=True, seed=5), "master", "BF16"),
    "a ternary output matrix": Case(bitnet(), "master", "F32", {"modules_to_not_convert": []}),
    "a dense projection": Case(
        bitnet(seed=6),
        "master",
        "F32",
        {"modules_to_not_convert": ["lm_head", "model.layers.0.mlp.down_proj"]},
    ),
    "1bitLLM": Case(bitnet(hidden=96, heads=6, kv_heads=6), "1bitllm"),
    "1bitLLM in fp16, tied": Case(bitnet(tied=True, seed=7), "1bitllm", "F16"),
    "llama": Case(tiny.Shape(), "bitlinear"),
    "llama, scale multiplied": Case(tiny.Shape(hidden=192, heads=6, inner=256), "packed", "BF16"),
    "llama, biases, scale divides": Case(tiny.Shape(bias=True, seed=3), "bitlinear"),
    "llama, biases, scale multiplies": Case(tiny.Shape(bias=True, seed=3), "packed"),
    "llama, biases, master weights": Case(tiny.Shape(bias=True, seed=4), "master"),
    "llama, norms inside": Case(tiny.Shape(tied=True), "bitlinear", "F32", INNER),
    "llama, norms inside, odd": Case(
        tiny.Shape(hidden=100, heads=5, kv_heads=1, inner=92, bias=True), "packed", "F32", INNER
    ),
    "llama, norms inside, master": Case(tiny.Shape(), "master", "F32", INNER),
    "norms inside and between": Case(bitnet(seed=8), "packed", "F32", INNER),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns the directory of a case."""

    @cache
    def write(name: str) -> Path:
        case, path = CASES[name], tmp_path_factory.mktemp("bitnet") / "m"
        return tiny_bitnet.write_hub(path, case.shape, case.stored, case.dtype, **case.quantization)

    return write


def greedy(model: Model, prompt: Array, count: int) -> tuple[list[int], Array]:
    """The likeliest tokens one after the other, and the logits after prompt and each of them."""
    state = model.new_state()
    logits = [model.forward(prompt, state, all_logits=True)]
    tokens = [int(logits[-1][-1].argmax())]
    while len(tokens) < count:
        logits.append(model.forward(tokens[-1:], state))
        tokens.append(int(logits[-1][-1].argmax()))
    return tokens, np.concatenate(logits)


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_transformers(name: str, written: Any) -> None:
    from tests.inference.models.rounding import resolve
    from tests.inference.models.transformers_bitnet import load_reference, logits

    path, ids = written(name), CASES[name].ids
    with load(path) as model:
        got = in_pieces(model, ids, LENGTH)
    reference = load_reference(path)
    want = resolve(reference, ids, got)
    spread = want.logits.std()
    assert np.abs(got - want.logits).max() < 1e-4 * spread
    before = want.clean  # up to there nothing was turned
    assert np.abs(got - logits(reference, ids))[:before].max(initial=0) < 1e-4 * spread


@pytest.mark.parametrize(
    "name",
    [
        "as Microsoft packs it",
        "tied",
        "master weights",
        "1bitLLM",
        "llama",
        "llama, biases, scale multiplies",
        "llama, norms inside",
    ],
)
def test_64_greedy_tokens_equal_transformers(name: str, written: Any) -> None:
    from tests.inference.models.rounding import resolve
    from tests.inference.models.transformers_bitnet import load_reference

    path, prompt = written(name), CASES[name].ids[:8]
    with load(path) as model:
        ours, logits = greedy(model, prompt, 64)
    # Each is the likeliest after all before it. Not by generate(), whose cached steps add up in
    # another order than transformers' own whole pass, and so turn codes of their own.
    want = resolve(load_reference(path), [*prompt, *ours[:-1]], logits)
    assert want.logits[len(prompt) - 1 :].argmax(1).tolist() == ours


@pytest.mark.parametrize("precision", ["float", "auto"])
@pytest.mark.parametrize(
    "name", ["as Microsoft packs it", "no multiple of 32", "llama, norms inside, odd"]
)
def test_every_instruction_set_thread_count_and_chunk_gives_the_same_bits(
    name: str, precision: str, written: Any
) -> None:
    path, best = written(name), available_isas()[-1]
    tokens = np.random.default_rng(8).integers(0, CASES[name].shape.vocab, 300)
    with load(path, precision=precision, isa=best) as model:
        want = in_pieces(model, tokens, 300)
    for isa, threads in [*((isa, 1) for isa in available_isas()), (best, 2), (best, 4)]:
        with load(path, precision=precision, isa=isa, threads=threads) as model:
            assert (model.isa, model.threads) == (isa, threads)
            for size in (300, 64, 7, 1):
                np.testing.assert_array_equal(in_pieces(model, tokens, size), want)


@pytest.mark.parametrize("form", ["ternary5", "ternary3"])
def test_every_ternary_form_gives_the_same_bits(form: str, written: Any) -> None:
    for name in ("as Microsoft packs it", "no multiple of 32", "llama, norms inside"):
        with load(written(name)) as model, load(written(name), ternary=form) as other:
            for size in (LENGTH, 1):
                ids = CASES[name].ids
                np.testing.assert_array_equal(
                    in_pieces(other, ids, size), in_pieces(model, ids, size)
                )


def test_dense_parts_in_int8_change_little(written: Any) -> None:
    name = "as Microsoft packs it"
    with load(written(name)) as model, load(written(name), precision="auto") as packed:
        want = in_pieces(model, CASES[name].ids, LENGTH)
        got = in_pieces(packed, CASES[name].ids, LENGTH)
    # Root mean square over the spread; the embedding is rounded too.
    assert np.sqrt(((got - want) ** 2).mean()) / want.std() < 0.05
