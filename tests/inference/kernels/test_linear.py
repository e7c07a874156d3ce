"""The linear kernels against the NumPy reference, on every instruction set this CPU runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ConfigError, QuantizationError
from ryzanstein.inference.kernels import _linear, reference
from ryzanstein.inference.kernels._linear import PackedMatrix

ISAS = _linear.available_isas()
LAYOUTS = [
    ("int8", "group"),
    ("int4", "group"),
    ("int4", "min"),
    ("int5", "group"),
    ("int5", "min"),
    ("int6", "group"),
    ("int6", "half"),
    ("f32", "none"),
]
SHAPES = [(1, 1), (31, 33), (32, 32), (65, 96), (40, 1056), (97, 2080)]
TOKENS = [1, 2, 3, 4, 5, 6, 7, 8, 13, 33, 300]


def random_matrix(form: str, scale: str, rows: int, cols: int, seed: int = 0) -> PackedMatrix:
    """Codes of every value and scales that are powers of two, so that float sums are exact."""
    rng = np.random.default_rng(seed)
    packed = PackedMatrix(form, scale, rows, cols)
    if form == "f32":
        values = rng.integers(-8, 9, packed.codes.view(np.float32).shape)
        packed.codes.view(np.float32)[:] = values / np.float32(8)
        return packed
    scale_bytes = 64 if scale == "group" else 128
    codes = packed.codes[..., :-scale_bytes]
    codes[:] = rng.integers(0, 256, codes.shape, np.uint8)
    exponents = rng.integers(-3, 1, (*packed.codes.shape[:2], scale_bytes // 2))
    packed.codes[..., -scale_bytes:] = np.exp2(exponents).astype(np.float16).view(np.uint8)
    return packed


def exact_activations(tokens: int, cols: int, seed: int = 1) -> np.ndarray:
    """Activations that quantise to any code with scales that are powers of two."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-127, 128, (tokens, cols)).astype(np.float32)
    values[:, ::32] = 127.0
    return values * np.float32(0.25)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("form", "scale"), LAYOUTS)
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_a_product_equals_the_reference_exactly_where_floats_are_exact(
    isa: str, form: str, scale: str, rows: int, cols: int
) -> None:
    """Powers of two keep every float sum exact, so integer dots show to the last bit."""
    packed = random_matrix(form, scale, rows, cols)
    for tokens in (1, 2, 7):
        x = exact_activations(tokens, cols)
        got = _linear.linear(packed, x, isa)
        np.testing.assert_array_equal(got, reference.linear(packed, x).astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("form", "scale"), LAYOUTS)
def test_the_extreme_codes_never_saturate(isa: str, form: str, scale: str) -> None:
    """All-largest and all-smallest weights meet activations of 127 and -127."""
    for byte in (0, 255):
        packed = PackedMatrix(form, scale, 33, 64)
        if form == "f32":
            packed.codes.view(np.float32)[:] = 3.0
        else:
            packed.codes[:] = byte
            size = 64 if scale == "group" else 128
            packed.codes[..., -size:] = np.full(size // 2, 1, np.float16).view(np.uint8)
        signs = np.where(np.arange(64) < 32, 127.0, -127.0).astype(np.float32)
        x = np.stack([signs, -signs, np.full(64, 127, np.float32)])
        np.testing.assert_array_equal(_linear.linear(packed, x, isa), reference.linear(packed, x))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("form", "scale"), LAYOUTS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_every_number_of_tokens_gives_each_token_the_same_bits(
    isa: str, form: str, scale: str, tokens: int
) -> None:
    """A token is the same alone and among others: prefill and decode agree exactly."""
    packed = random_matrix(form, scale, 70, 1100)
    x = np.random.default_rng(2).normal(size=(tokens, 1100)).astype(np.float32)
    together = _linear.linear(packed, x, isa)
    for token in {0, tokens // 2, tokens - 1}:
        alone = _linear.linear(packed, x[token : token + 1], isa)
        np.testing.assert_array_equal(together[token], alone[0])


@pytest.mark.parametrize("isa", ISAS)
@settings(max_examples=25, deadline=None)
@given(
    layout=st.sampled_from(LAYOUTS),
    rows=st.integers(1, 80),
    cols=st.integers(1, 1200),
    tokens=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_is_within_float_rounding_of_the_reference(
    isa: str, layout: tuple[str, str], rows: int, cols: int, tokens: int, seed: int
) -> None:
    """Tolerance: 1e-5 of the sum of magnitudes, above float32's rounding, far below a code."""
    packed = random_matrix(*layout, rows, cols, seed)
    x = np.random.default_rng(seed).normal(size=(tokens, cols)).astype(np.float32)
    magnitude = np.abs(x) @ np.abs(reference.unpack(packed)).T + 1e-6
    error = np.abs(_linear.linear(packed, x, isa) - reference.linear(packed, x))
    assert (error <= 1e-5 * magnitude).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cols", [44_000, 262_144])
def test_rows_too_long_for_whole_tiles_are_multiplied_in_fewer_tokens(isa: str, cols: int) -> None:
    packed = random_matrix("int6", "half", 3, cols)
    x = exact_activations(9, cols)
    together = _linear.linear(packed, x, isa)
    np.testing.assert_array_equal(together, reference.linear(packed, x).astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
def test_instruction_sets_agree_to_the_last_bit(isa: str) -> None:
    for layout in LAYOUTS:
        packed = random_matrix(*layout, 64, 900)
        x = np.random.default_rng(3).normal(size=(3, 900)).astype(np.float32)
        want = _linear.linear(packed, x, ISAS[-1])
        np.testing.assert_array_equal(_linear.linear(packed, x, isa), want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [1, 8])
def test_bias_and_accumulation_are_added_once(isa: str, tokens: int) -> None:
    packed = random_matrix("int8", "group", 45, 64)
    x = exact_activations(tokens, 64)
    bias = np.arange(45, dtype=np.float32)
    out = np.full((tokens, 45), 1000.0, np.float32)
    _linear.linear(packed, x, isa, bias, out)
    np.testing.assert_array_equal(out, reference.linear(packed, x) + bias + 1000)


@pytest.mark.parametrize("isa", ISAS)
def test_activations_quantise_to_the_same_bytes_everywhere(isa: str) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(5, 199)).astype(np.float32) * 10.0 ** rng.integers(-20, 20, (5, 199))
    x[1, :40] = 0.0
    x[2, :32] = 1e-38
    x[3, 64:96] = np.arange(32) + 0.5
    x = x.astype(np.float32)
    for got, want in zip(_linear.quantize_activations(x, isa), reference.quantize(x), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tokens", [1, 4])
def test_an_activation_that_is_not_finite_shows_in_the_output(
    isa: str, bad: float, tokens: int
) -> None:
    packed = random_matrix("int4", "min", 40, 96)
    x = exact_activations(tokens, 96)
    x[-1, 50] = bad
    out = _linear.linear(packed, x, isa)
    assert np.isnan(out[-1]).all()
    assert np.isfinite(out[:-1]).all()


@pytest.mark.parametrize(("form", "scale"), LAYOUTS)
def test_a_row_is_dequantised_as_the_reference_unpacks_it(form: str, scale: str) -> None:
    packed = random_matrix(form, scale, 50, 70)
    weights = reference.unpack(packed)
    for row in (0, 15, 16, 31, 32, 49):
        np.testing.assert_array_equal(_linear.dequantize_row(packed, row), weights[row])
    with pytest.raises(IndexError):
        _linear.dequantize_row(packed, 50)


@pytest.mark.parametrize("isa", ISAS)
def test_the_bandwidth_probe_reads_every_byte(isa: str) -> None:
    data = np.zeros(1000, np.uint8)
    clean = _linear.read_bytes(data, isa)
    for place in (0, 500, 999):
        data[:] = 0
        data[place] = 1
        assert _linear.read_bytes(data, isa) != clean


def test_shapes_that_do_not_fit_are_refused() -> None:
    packed = random_matrix("int8", "group", 32, 64)
    with pytest.raises(QuantizationError, match="65 columns do not fit 64"):
        _linear.linear(packed, np.zeros((1, 65), np.float32))
    with pytest.raises(QuantizationError, match="0 x 5"):
        PackedMatrix("int8", "group", 0, 5)
    with pytest.raises(QuantizationError, match="262145 columns are more than 262144"):
        PackedMatrix("int8", "group", 32, 262_145)
    with pytest.raises(ConfigError, match="avx9"):
        _linear.linear(packed, np.zeros((1, 64), np.float32), "avx9")
