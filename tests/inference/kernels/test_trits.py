"""Ternary weights out of every source, against NumPy's reading and transformers' own arithmetic."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import QuantizationError
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.raw import RawTensor, stored_bytes
from ryzanstein.inference.kernels import _linear, reference
from ryzanstein.inference.kernels._linear import PackedMatrix
from ryzanstein.inference.kernels.pack import TRITS, pack, pack_absmean, pack_ternary
from tests.inference import tiny, tiny_bitnet

FLOATS = ("F32", "F16", "BF16")
SCALE = 0.375  # exact in every float type
TORCH = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def random_trits(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (rows, cols)).astype(np.int8)


def stored(dtype: str, trits: np.ndarray, scale: float = SCALE) -> np.ndarray:
    """Trits as a file of that type holds them."""
    if dtype == "B158":
        return tiny_bitnet.pack(trits).reshape(-1)
    if dtype == "I2_S":
        return np.frombuffer(tiny_bitnet.i2_s(trits, scale)[:-32], np.uint8)
    if dtype == "I8":
        return trits.reshape(-1).view(np.uint8)
    values = trits * np.float32(scale)
    if dtype in FLOATS:
        return np.frombuffer(tiny.stored(values, dtype), np.uint8)
    return gguf.quants.quantize(values, gguf.GGMLQuantizationType[dtype]).reshape(-1)


def rows_of(packed: PackedMatrix) -> np.ndarray:
    return np.stack([_linear.dequantize_row(packed, row) for row in range(packed.rows)])


@pytest.mark.parametrize("dtype", TRITS)
@pytest.mark.parametrize(("rows", "cols"), [(4, 256), (36, 512), (100, 1280)])
def test_every_source_gives_its_trits_and_its_scale(dtype: str, rows: int, cols: int) -> None:
    trits = random_trits(rows, cols)
    data = stored(dtype, trits)
    packed = pack_ternary(dtype, data, rows, cols, 2.0)
    assert packed is not None
    inside = 1.0 if dtype in ("B158", "I2_S", "I8") else SCALE
    assert packed.tensor_scale == 2.0 * inside
    read = dequantize(RawTensor("t", dtype, (rows, cols), data, 2.0))
    np.testing.assert_array_equal(rows_of(packed), read)
    np.testing.assert_array_equal(read, trits * np.float32(2.0 * inside))


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["B158", "I8", *FLOATS]),
    rows=st.integers(1, 9),
    cols=st.integers(1, 600),
    seed=st.integers(0, 2**32 - 1),
)
def test_sources_without_blocks_take_any_number_of_columns(
    dtype: str, rows: int, cols: int, seed: int
) -> None:
    trits = random_trits(4 * rows, cols, seed)
    packed = pack_ternary(dtype, stored(dtype, trits), 4 * rows, cols)
    assert packed is not None
    np.testing.assert_array_equal(np.sign(rows_of(packed)), trits)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["TQ1_0", "TQ2_0", "I2_S", "B158", "I8"]),
    seed=st.integers(0, 2**32 - 1),
    faults=st.integers(0, 2),
)
def test_any_bytes_are_read_as_numpy_reads_them_or_refused_by_both(
    dtype: str, seed: int, faults: int
) -> None:
    rng = np.random.default_rng(seed)
    data = stored(dtype, random_trits(8, 512, seed)).copy()
    for at in rng.integers(0, len(data), faults):
        data[at] = rng.integers(0, 256)
    raw = RawTensor("t", dtype, (8, 512), data)
    try:
        packed = pack_ternary(dtype, data, 8, 512)
    except QuantizationError as error:
        packed = None
        refused = str(error)
        if "scale" in refused:
            return  # the reference reads any scale
        with pytest.raises(Exception, match="is damaged"):
            dequantize(raw)
    if packed is not None:
        np.testing.assert_array_equal(rows_of(packed), dequantize(raw))


@pytest.mark.parametrize("dtype", ["TQ1_0", "TQ2_0"])
def test_a_block_without_a_scale_holds_zeros_and_has_no_say(dtype: str) -> None:
    values = random_trits(8, 512) * np.float32(SCALE)
    values[3, :256] = 0
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[dtype]).reshape(-1)
    packed = pack_ternary(dtype, data, 8, 512)
    assert packed is not None
    np.testing.assert_array_equal(rows_of(packed), values)
    zeros = pack_ternary(dtype, np.zeros(stored_bytes(dtype, (8, 512)), np.uint8), 8, 512)
    assert zeros is not None
    assert not rows_of(zeros).any()


@pytest.mark.parametrize("dtype", ["TQ1_0", "TQ2_0", *FLOATS])
def test_different_scales_are_noticed(dtype: str) -> None:
    values = random_trits(8, 512) * np.float32(SCALE)
    values[5, 256:] *= 2
    kind = gguf.GGMLQuantizationType[dtype]
    data = gguf.quants.quantize(values, kind).reshape(-1).view(np.uint8)
    assert pack_ternary(dtype, data, 8, 512) is None


@pytest.mark.parametrize("dtype", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("precision", ["auto", "int4", "float"])
def test_blocks_of_different_scales_become_groups_exactly(dtype: str, precision: str) -> None:
    rng = np.random.default_rng(5)
    values = random_trits(40, 768) * rng.choice([0.25, 0.3, 0.0, 7.0], (40, 1)).astype(np.float32)
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[dtype])
    packed = pack(dtype, data, 40, 768, precision)  # type: ignore[arg-type]
    wanted = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[dtype])
    np.testing.assert_array_equal(reference.unpack(packed), wanted)
    data[7, 3] = {"TQ1_0": 20, "TQ2_0": 3}[dtype]
    with pytest.raises(QuantizationError, match="none of -1, 0 and 1"):
        pack(dtype, data, 40, 768, precision)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["TQ1_0", "TQ2_0", *FLOATS])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scales_and_weights_that_are_not_finite_are_refused(dtype: str, value: float) -> None:
    data = stored(dtype, random_trits(8, 512)).copy()
    if dtype in FLOATS:
        wrong = np.frombuffer(tiny.stored(np.array([value], np.float32), dtype), np.uint8)
        data[16 : 16 + len(wrong)] = wrong
    else:
        data[-2:] = np.array([value], np.float16).view(np.uint8)
    with pytest.raises(QuantizationError, match="not finite"):
        pack_ternary(dtype, data, 8, 512)
    if dtype in FLOATS:
        with pytest.raises(QuantizationError, match="not finite"):
            pack_absmean(dtype, data, 8, 512)
    else:
        with pytest.raises(QuantizationError, match="not finite"):
            pack(dtype, data, 8, 512, "float")


def test_a_negative_scale_is_refused() -> None:
    data = stored("TQ2_0", random_trits(8, 512)).copy()
    data[-2:] = np.array([-1], np.float16).view(np.uint8)
    with pytest.raises(QuantizationError, match="negative"):
        pack_ternary("TQ2_0", data, 8, 512)


@pytest.mark.parametrize(
    ("dtype", "rows", "cols"),
    [("TQ1_0", 4, 128), ("TQ2_0", 4, 300), ("I2_S", 4, 64), ("B158", 6, 64), ("I8", 4, 65)],
)
def test_bytes_that_do_not_fit_the_shape_are_refused(dtype: str, rows: int, cols: int) -> None:
    with pytest.raises(QuantizationError, match=f"no matrix of {rows} x {cols}"):
        pack_ternary(dtype, np.zeros(256, np.uint8), rows, cols)


# Absmean


def weight_quant(values: np.ndarray) -> np.ndarray:
    """transformers' WeightQuant without its compiler."""
    import torch
    from transformers.integrations.bitnet import WeightQuant

    compiled = WeightQuant.forward
    plain = getattr(compiled, "_torchdynamo_orig_callable", compiled)
    return np.asarray(plain(None, torch.tensor(values)).numpy())


@TORCH
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (3, 7), (64, 256), (100, 1000)])
def test_master_weights_quantise_as_transformers_quantises_them(
    dtype: str, rows: int, cols: int
) -> None:
    values = np.random.default_rng(6).standard_normal((rows, cols)).astype(np.float32)
    data = np.frombuffer(tiny.stored(values, dtype), np.uint8)
    held = dequantize(RawTensor("t", dtype, (rows, cols), data))
    packed = pack_absmean(dtype, data, rows, cols)
    wanted = weight_quant(held)
    np.testing.assert_array_equal(np.sign(rows_of(packed)), np.sign(wanted))
    # torch adds in float32, so that its mean may be another in the last bits.
    np.testing.assert_allclose(rows_of(packed), wanted, rtol=1e-6)


def test_halves_round_to_even() -> None:
    values = np.array([[1.5, 0.5, -0.5, -1.5, 0.75, -0.75, 1.25, 1.25]], np.float32)
    assert np.abs(values).mean() == 1.0
    packed = pack_absmean("F32", values.view(np.uint8), 1, 8)
    assert rows_of(packed).tolist() == [[1, 0, 0, -1, 1, -1, 1, 1]]


def test_weights_of_zero_have_the_smallest_scale() -> None:
    packed = pack_absmean("F32", np.zeros(64, np.uint8), 1, 16)
    assert packed.tensor_scale == pytest.approx(1e-5)
    assert not rows_of(packed).any()


def test_the_mean_is_exact_where_float32_would_lose_it() -> None:
    values = np.full(1 << 20, 1e-3, np.float32)
    values[0] = 1e4
    mean = _linear.absmean(TRITS["F32"], values.view(np.uint8))
    assert np.float32(mean) == np.float32(np.abs(values.astype(np.float64)).mean())
