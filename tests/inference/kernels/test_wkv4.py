"""RWKV-4's recurrence against NumPy in float64: every instruction set, tokens cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein.inference.kernels._program import Program
from tests.inference.kernels.test_wkv import TOKENS, compare, dense

Array = np.ndarray


def wkv4(r: Array, k: Array, v: Array, u: Array, decay: Array) -> Array:
    """Weights written out for all tokens at once, relative to the largest of each column."""
    out = np.empty_like(v)
    for t in range(len(k)):
        exponents = k[: t + 1] + decay * np.arange(t - 1, -2, -1)[:, None]
        exponents[t] = k[t] + u
        weights = np.exp(exponents - exponents.max(0))
        out[t] = r[t] * (weights * v[: t + 1]).sum(0) / weights.sum(0)
    return out


@pytest.mark.parametrize("width", [16, 40, 96])
@pytest.mark.parametrize("scale", [1.0, 30.0])  # exp(88.7) is no float any more
def test_each_column_is_a_weighted_mean_of_its_values(width: int, scale: float) -> None:
    draw = np.random.default_rng(width)
    u = (scale * draw.standard_normal(width)).astype(np.float32)
    decay = -np.exp(draw.uniform(-6, 1, width)).astype(np.float32)
    larger = dense(scale * np.eye(width))

    def add(program: Program, inputs: list[int], out: int) -> None:
        r, k, v = inputs
        large = program.buffer(width, whole=True)
        program.linear(k, [larger], large)
        program.operator(
            "wkv4",
            buffers=[r, large, v, out],
            vectors=[u, decay],
            state=3 * -(-width // 16) * 16,
        )

    def want(inputs: list[Array]) -> Array:
        r, k, v = inputs
        return wkv4(r, k * scale, v, u.astype(np.float64), decay.astype(np.float64))

    tokens = draw.integers(0, 64, TOKENS).astype(np.int32)
    # Exponents of a hundred are right to a hundred thousandth, and weights with them.
    compare([width] * 3, width, add, want, tokens, atol=2e-5 * scale)
