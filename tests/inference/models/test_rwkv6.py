"""RWKV-6 against float64; test_rwkv.py has it against BlinkDL's package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ryzanstein.inference.kernels.reference_wkv import Rwkv6
from tests.inference.models.random_rwkv import Shape, tensors, write_pth
from tests.inference.models.running import ids, load

Array = np.ndarray


def test_fifty_thousand_tokens_do_not_drift_from_float64(tmp_path: Path) -> None:
    shape = Shape(6, layers=1, heads=2, head_dim=32, inner=96, seed=5)
    tokens = ids(shape.vocab, 50_000)
    want = Rwkv6(tensors(shape), shape.head_dim)(tokens)
    with load(write_pth(tmp_path / "m.pth", shape)) as own:
        got = own.forward(tokens, own.new_state(), all_logits=True)
    errors = np.abs(got - want).max(1) / want.std()
    assert errors[-5000:].max() < 3e-5
    assert errors[-5000:].mean() < 1.2 * errors[:5000].mean()
