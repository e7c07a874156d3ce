"""Element-wise operators against NumPy in float64, on every instruction set this machine runs."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein.inference.kernels import _ops
from ryzanstein.inference.kernels._linear import available_isas

ISAS = available_isas()
SIZES = (1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 576, 897)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
def test_rmsnorm_equals_the_formula(isa: str, size: int) -> None:
    x, weight = 10 * random(size), random(size, seed=1)
    wide = x.astype(np.float64)
    want = wide / np.sqrt((wide**2).mean() + 1e-5) * weight
    np.testing.assert_allclose(_ops.rmsnorm(x, weight, 1e-5, isa), want, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_rmsnorm_of_zeros_is_zero(isa: str) -> None:
    assert not _ops.rmsnorm(np.zeros(40), np.ones(40), 1e-6, isa).any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("biased", [True, False])
def test_layernorm_equals_the_formula(isa: str, size: int, biased: bool) -> None:
    x, weight, bias = 10 * random(size) + 3, random(size, seed=1), random(size, seed=2)
    wide = x.astype(np.float64)
    want = (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5) * weight + biased * bias
    got = _ops.layernorm(x, weight, bias if biased else None, 1e-5, isa)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


FUNCTIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "exp": np.exp,
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_maps_equal_the_formulas(isa: str, function: str) -> None:
    small = 10.0 ** np.arange(-7, 2)
    x = np.concatenate([20 * random(333), small, -small, [0, 80, -80]]).astype(np.float32)
    want = FUNCTIONS[function](x.astype(np.float64))
    np.testing.assert_allclose(_ops.mapped(function, x, isa), want, rtol=3e-6, atol=1e-30)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_maps_are_the_same_bits_everywhere(function: str) -> None:
    x = 5 * random(1001)
    bits = {_ops.mapped(function, x, isa).tobytes() for isa in ISAS}
    assert len(bits) == 1


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
def test_gate_equals_the_formula(isa: str, size: int) -> None:
    gate, up = 20 * random(size), random(size, seed=1)
    wide = gate.astype(np.float64)
    want = wide / (1 + np.exp(-wide)) * up
    np.testing.assert_allclose(_ops.silu_mul(gate, up, isa), want, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("isa", ISAS)
def test_gate_of_huge_values_stays_finite(isa: str) -> None:
    gate = np.array([-1e30, -1e4, -90, -0.0, 0, 90, 1e4, 1e30], np.float32)
    want = np.maximum(gate, 0)
    np.testing.assert_allclose(_ops.silu_mul(gate, np.ones(8), isa), want, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", SIZES)
def test_squared_gate_equals_the_formula_to_the_bit(isa: str, size: int) -> None:
    gate, up = 20 * random(size), random(size, seed=1)
    positive = np.maximum(gate, np.float32(0))
    np.testing.assert_array_equal(_ops.relu2_mul(gate, up, isa), positive * positive * up)


@pytest.mark.parametrize("isa", ISAS)
def test_squared_gate_of_what_is_no_number_is_none(isa: str) -> None:
    gate = np.array([np.nan, -np.inf, np.inf, -0.0], np.float32)
    got = _ops.relu2_mul(gate, np.ones(4), isa)
    np.testing.assert_array_equal(got, [np.nan, 0, np.inf, 0])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("dim", "half"), [(64, 32), (20, 10), (2, 1), (32, 8)])
def test_rotation_turns_pairs_as_complex_numbers(
    isa: str, interleaved: bool, dim: int, half: int
) -> None:
    x, angles = random(3, dim), random(half, seed=1)
    got = _ops.rotate(
        x, np.stack([np.cos(angles), np.sin(angles)]), isa, interleaved=interleaved, scale=0.5
    )
    first = slice(0, 2 * half, 2) if interleaved else slice(0, half)
    second = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
    turned = (x[:, first] + 1j * x[:, second]) * np.exp(1j * angles.astype(np.float64)) / 2
    np.testing.assert_allclose(got[:, first], turned.real, atol=1e-6)
    np.testing.assert_allclose(got[:, second], turned.imag, atol=1e-6)
    np.testing.assert_array_equal(got[:, 2 * half :], x[:, 2 * half :] / 2)


def test_instruction_sets_agree_to_the_last_bit() -> None:
    gate, up = 20 * random(4096), random(4096, seed=1)
    for isa in ISAS[1:]:
        for operator in (_ops.silu_mul, lambda *given: _ops.rmsnorm(*given[:2], 1e-5, given[2])):
            np.testing.assert_array_equal(operator(gate, up, isa), operator(gate, up, ISAS[0]))
