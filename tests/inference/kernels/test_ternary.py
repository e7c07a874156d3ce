"""Ternary matrices: every form, kernel and instruction set gives the reference's bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import QuantizationError
from ryzanstein.inference.kernels import _linear, reference
from ryzanstein.inference.kernels._linear import PackedMatrix

ISAS = _linear.available_isas()
FORMS = _linear.TERNARY
INT8 = 24
NEVER = 0

SHAPES = [(1, 1), (1, 3), (31, 33), (33, 20), (32, 32), (40, 1056), (97, 2080), (70, 6912)]
"""No multiple of anything, whole groups, several strips of decoded columns, several table parts."""


def random_trits(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (rows, cols)).astype(np.int8)


def packed_trits(trits: np.ndarray, form: str, scale: float = 0.037) -> PackedMatrix:
    packed = PackedMatrix(form, "tensor", *trits.shape, tensor_scale=scale)
    packed.pack_trits(INT8, np.ascontiguousarray(trits).reshape(-1).view(np.uint8))
    return packed


def activations(tokens: int, cols: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tokens, cols)).astype(np.float32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_packing_loses_nothing(form: str, rows: int, cols: int) -> None:
    trits = random_trits(rows, cols)
    packed = packed_trits(trits, form)
    np.testing.assert_array_equal(reference.unpack_trits(packed), trits)
    row = _linear.dequantize_row(packed, rows - 1)
    np.testing.assert_array_equal(row, trits[-1] * np.float32(0.037))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
@pytest.mark.parametrize("lookup", [NEVER, 1])
def test_products_equal_the_reference_to_the_last_bit(
    isa: str, form: str, rows: int, cols: int, lookup: int
) -> None:
    packed = packed_trits(random_trits(rows, cols), form)
    packed.tune(lookup=lookup)
    for tokens in (1, 2, 3, 9, 35):
        x = activations(tokens, cols)
        np.testing.assert_array_equal(_linear.linear(packed, x, isa), reference.linear(packed, x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lookup", [NEVER, 1])
@pytest.mark.parametrize(("rows", "tokens"), [(33, 300), (4200, 5)])
def test_many_tokens_and_many_panels_cross_every_chunk(
    isa: str, form: str, lookup: int, rows: int, tokens: int
) -> None:
    packed = packed_trits(random_trits(rows, 75), form)
    packed.tune(lookup=lookup)
    x = activations(tokens, 75)
    np.testing.assert_array_equal(_linear.linear(packed, x, isa), reference.linear(packed, x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sums_do_not_overflow(isa: str, form: str, sign: int) -> None:
    """40,000 columns of 1 and 127: 1.6-bit sums wrap inside, 16-bit table sums are widened."""
    trits = np.full((2, 40_000), sign, np.int8)
    packed = packed_trits(trits, form, 1.0)
    x = np.ones((9, 40_000), np.float32)
    for lookup in (NEVER, 1):
        packed.tune(lookup=lookup)
        for tokens in (1, 9):
            got = _linear.linear(packed, x[:tokens], isa)
            np.testing.assert_array_equal(got, reference.linear(packed, x[:tokens]))


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=30, deadline=None)
@given(
    form=st.sampled_from(FORMS),
    rows=st.integers(1, 100),
    cols=st.integers(1, 900),
    tokens=st.integers(1, 12),
    lookup=st.sampled_from([NEVER, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_is_exact(
    isa: str, form: str, rows: int, cols: int, tokens: int, lookup: int, seed: int
) -> None:
    packed = packed_trits(random_trits(rows, cols, seed), form)
    packed.tune(lookup=lookup, prefetch=64)
    x = activations(tokens, cols, seed)
    np.testing.assert_array_equal(_linear.linear(packed, x, isa), reference.linear(packed, x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [1, 12])
def test_bias_and_what_was_there_are_added_once(isa: str, form: str, tokens: int) -> None:
    packed = packed_trits(random_trits(45, 64), form, 1.0)
    x = np.sign(activations(tokens, 64)) * np.float32(127)
    bias = np.arange(45, dtype=np.float32)
    out = np.full((tokens, 45), 1000.0, np.float32)
    want = reference.linear(packed, x) + bias + 1000
    np.testing.assert_array_equal(_linear.linear(packed, x, isa, bias, out), want)


@pytest.mark.parametrize("isa", ISAS)
def test_tokens_quantise_to_the_same_codes_everywhere(isa: str) -> None:
    x = activations(6, 199)
    x *= np.float32(10.0) ** np.array([[-20], [-6], [-5], [0], [3], [20]], np.float32)
    x[3, :3] = [0.5, 127.0, -63.5]
    codes, scales, sums = _linear.quantize_activations(x, isa, per_token=True)
    want, factors = reference.quantize_token(x)
    np.testing.assert_array_equal(codes[:, :199], want)
    assert (codes[:, 199:] == 0).all()
    np.testing.assert_array_equal(scales, np.repeat(factors[:, None], scales.shape[1], axis=1))
    halves = codes.astype(np.int32).reshape(6, -1, 16).sum(axis=2)
    np.testing.assert_array_equal(sums, halves)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tokens", [1, 12])
def test_an_activation_that_is_not_finite_shows_in_the_output(
    isa: str, bad: float, tokens: int
) -> None:
    for form in FORMS:
        packed = packed_trits(random_trits(40, 96), form)
        packed.tune(lookup=1)
        x = np.vstack([activations(tokens, 96), activations(1, 96)])
        x[-1, 50] = bad
        out = _linear.linear(packed, x, isa)
        assert np.isnan(out[-1]).all()
        assert np.isfinite(out[:-1]).all()


def test_grouped_matrices_work_on_token_scales_too() -> None:
    """An int8 matrix beside ternary ones takes the same activations."""
    codes, scales, sums = _linear.quantize_activations(activations(2, 70), per_token=True)
    assert (scales == scales[:, :1]).all()
    assert (sums.sum(axis=1) == codes.sum(axis=1, dtype=np.int32)).all()


def test_what_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(QuantizationError, match="no form ternary2/group"):
        PackedMatrix("ternary2", "group", 4, 4)
    with pytest.raises(QuantizationError, match="no form int8/tensor"):
        PackedMatrix("int8", "tensor", 4, 4)
    with pytest.raises(QuantizationError, match="too many for tables"):
        PackedMatrix("ternary3", "tensor", 4, 100_000)
    for scale in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(QuantizationError, match="makes no weights"):
            PackedMatrix("ternary2", "tensor", 4, 4, tensor_scale=scale)
    packed = PackedMatrix("ternary5", "tensor", 4, 4)
    with pytest.raises(QuantizationError, match="none of -1, 0 and 1"):
        packed.pack_trits(INT8, np.full(16, 2, np.int8).view(np.uint8))
    with pytest.raises(QuantizationError, match="no matrix of 4 x 4"):
        packed.pack_trits(INT8, np.zeros(15, np.uint8))
    with pytest.raises(QuantizationError, match="holds no trits"):
        PackedMatrix("int8", "group", 4, 32).pack_trits(INT8, np.zeros(128, np.uint8))


def test_a_matrix_over_foreign_memory_is_the_same_and_read_only() -> None:
    packed = packed_trits(random_trits(40, 100), "ternary5")
    raw = np.zeros(packed.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    view = raw[start : start + packed.nbytes]
    view[:] = packed.codes.reshape(-1)
    view.setflags(write=False)
    mapped = PackedMatrix("ternary5", "tensor", 40, 100, tensor_scale=0.037, codes=view)
    x = activations(3, 100)
    np.testing.assert_array_equal(_linear.linear(mapped, x), _linear.linear(packed, x))
    with pytest.raises(QuantizationError, match="no ternary5 of 40 x 100"):
        PackedMatrix("ternary5", "tensor", 40, 100, codes=view[:-64])
    with pytest.raises(QuantizationError, match="no ternary5 of 40 x 100"):
        PackedMatrix(
            "ternary5", "tensor", 40, 100, codes=raw[start + 1 : start + 1 + packed.nbytes]
        )
