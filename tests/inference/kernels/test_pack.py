"""Packing every source type, against the gguf package's own dequantisation."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from ryzanstein.errors import QuantizationError
from ryzanstein.inference.kernels import _linear, reference
from ryzanstein.inference.kernels.pack import SOURCES, pack

QUANTISED = [name for name in SOURCES if name.startswith("Q")]
DENSE = ["F32", "F16", "BF16"]


def random_source(dtype: str, rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """Bytes of a random tensor: any code, any packed scale, fp16 scales small and finite."""
    rng = np.random.default_rng(seed)
    if dtype in DENSE:
        values = rng.normal(size=(rows, cols)).astype(np.float32)
        return np.ascontiguousarray(gguf.quants.quantize(values, gguf.GGMLQuantizationType[dtype]))
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[dtype]]
    blocks = rng.integers(0, 256, (rows, cols // weights, size), np.uint8)
    halves = {"Q6_K": [208]}.get(dtype, [0, 2] if dtype.endswith(("_1", "4_K", "5_K")) else [0])
    for at in halves:
        scales = rng.normal(size=blocks.shape[:2]).astype(np.float16) / 64
        blocks[..., at : at + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(rows, -1)


def dequantised(dtype: str, data: np.ndarray) -> np.ndarray:
    """The gguf package's reading of the bytes."""
    kind = gguf.GGMLQuantizationType[dtype]
    view = {"F32": np.float32, "F16": np.float16}.get(dtype, np.uint8)
    return gguf.quants.dequantize(data.view(view), kind).astype(np.float32)


@pytest.mark.parametrize("dtype", QUANTISED)
@pytest.mark.parametrize("rows", [1, 33, 64])
def test_auto_keeps_every_quantised_type(dtype: str, rows: int) -> None:
    """Codes exactly; K types' scales within fp16's rounding, 2^-11 of the weight's largest part."""
    data = random_source(dtype, rows, 512)
    packed = pack(dtype, data, rows, 512)
    got, want = reference.unpack(packed), dequantised(dtype, data)
    if dtype.endswith("K"):
        assert np.abs(got - want).max() <= np.abs(want).max() * 2**-10
    else:
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [*QUANTISED, *DENSE])
def test_float_holds_the_dequantised_weights(dtype: str) -> None:
    data = random_source(dtype, 37, 256)
    packed = pack(dtype, data, 37, 256, "float")
    assert packed.form == "f32"
    np.testing.assert_allclose(
        reference.unpack(packed), dequantised(dtype, data), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("dtype", [*QUANTISED, *DENSE])
@pytest.mark.parametrize(("precision", "steps"), [("int8", 254), ("int4", 15)])
def test_forced_precision_stays_within_half_a_step(dtype: str, precision: str, steps: int) -> None:
    data = random_source(dtype, 40, 256)
    want = dequantised(dtype, data)
    packed = pack(dtype, data, 40, 256, precision)  # type: ignore[arg-type]
    assert packed.form == precision
    groups = want.reshape(40, -1, 32)
    span = np.ptp(groups, axis=2) if precision == "int4" else 2 * np.abs(groups).max(axis=2)
    error = np.abs(reference.unpack(packed) - want).reshape(groups.shape).max(axis=2)
    assert (error <= span / steps * 0.5 + np.abs(groups).max(axis=2) * 2**-9).all()


@pytest.mark.parametrize("dtype", DENSE)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (5, 7), (33, 45)])
@pytest.mark.parametrize("precision", ["auto", "int4", "float"])
def test_odd_shapes_are_padded_without_a_trace(
    dtype: str, rows: int, cols: int, precision: str
) -> None:
    data = random_source(dtype, rows, cols)
    packed = pack(dtype, data, rows, cols, precision)  # type: ignore[arg-type]
    assert reference.unpack(packed).shape == (rows, cols)
    x = np.random.default_rng(1).normal(size=(3, cols)).astype(np.float32)
    np.testing.assert_allclose(
        _linear.linear(packed, x), reference.linear(packed, x), rtol=1e-4, atol=1e-4
    )


def test_packed_bytes_stay_near_the_file() -> None:
    """Bytes a weight decide the speed of decoding."""
    for dtype, most in {
        "Q4_0": 1.0,
        "Q4_1": 1.0,
        "Q5_0": 1.0,
        "Q8_0": 1.0,
        "Q6_K": 1.07,
        "Q4_K": 1.12,
    }.items():
        data = random_source(dtype, 64, 512)
        assert pack(dtype, data, 64, 512).nbytes <= data.nbytes * most


def test_what_cannot_be_packed_is_refused_by_name() -> None:
    data = random_source("Q8_0", 4, 64)
    with pytest.raises(QuantizationError, match="Q9_9 is not supported"):
        pack("Q9_9", data, 4, 64)
    with pytest.raises(QuantizationError, match="int3"):
        pack("Q8_0", data, 4, 64, "int3")  # type: ignore[arg-type]
    with pytest.raises(QuantizationError, match="not a matrix of 5 x 64"):
        pack("Q8_0", data, 5, 64)
    with pytest.raises(QuantizationError, match="not a matrix of 4 x 60"):
        pack("Q8_0", data, 4, 60)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_weights_that_are_not_finite_are_refused(bad: float) -> None:
    values = np.ones((2, 64), np.float32)
    values[1, 40] = bad
    with pytest.raises(QuantizationError, match="not finite"):
        pack("F32", values.view(np.uint8), 2, 64)
    blocks = random_source("Q8_0", 2, 64)
    blocks[1, 34:36] = np.array([np.nan], np.float16).view(np.uint8)
    with pytest.raises(QuantizationError, match="not finite"):
        pack("Q8_0", blocks, 2, 64)
