"""50,000 tokens through Mambas that forget slowly: no drift from float64, and no more memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.inference.models.mamba_reference import logits
from tests.inference.models.running import in_pieces, load
from tests.inference.tiny_mamba import Shape, Weights, module, rewrite, weights, write_hf

COUNT = 50_000
SHAPES = [
    Shape("mamba", hidden=16, layers=1, state=4, vocab=50, rank=4),
    Shape("falcon_mamba", hidden=16, layers=1, state=8, vocab=50, rank=4),
    Shape("mamba2", hidden=16, layers=1, state=8, heads=4, groups=2, vocab=50),
]


def forget_slowly(tensors: Weights) -> None:
    """Spreads the decays: some states remember ten tokens, some the whole sequence."""
    random = np.random.default_rng(1)
    for name, values in tensors.items():
        if name.endswith("A_log"):
            values[...] = random.uniform(-10, 2, values.shape)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
def test_fifty_thousand_tokens_do_not_drift_from_float64(shape: Shape, tmp_path: Path) -> None:
    path = write_hf(tmp_path / "m", shape)
    rewrite(path, forget_slowly)
    changed = weights(shape)
    forget_slowly(changed)
    tokens = np.random.default_rng(2).integers(0, shape.vocab, COUNT)
    want = logits(changed, shape, tokens)
    with load(path, threads=2) as model:
        state, short = model.new_state(), model.new_state()
        got = model.forward(tokens, state, all_logits=True)
        model.forward(tokens[:1], short)
        assert state.nbytes == short.nbytes > 0
    error = np.abs(got - want).max(1) / want.std()
    assert error.max() < 1e-3
    assert error[-5000:].mean() < 1e-4


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.family)
def test_the_reference_agrees_with_transformers(shape: Shape, tmp_path: Path) -> None:
    import torch

    tokens = np.random.default_rng(3).integers(0, shape.vocab, 60)
    with torch.no_grad():
        want = module(shape)(torch.tensor(tokens)[None], use_cache=False).logits[0].numpy()
    np.testing.assert_allclose(logits(weights(shape), shape, tokens), want, atol=3e-5)
    with load(write_hf(tmp_path / "m", shape)) as model:
        np.testing.assert_allclose(in_pieces(model, tokens, 60), want, atol=3e-5)
