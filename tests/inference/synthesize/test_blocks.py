"""The bytes are those that the reference writers make."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from ryzanstein.inference.synthesize.blocks import (
    dense_bytes,
    encode_dense,
    encode_ternary,
    round_bf16,
    ternary_bytes,
)
from ryzanstein.inference.synthesize.shape import Tensor
from ryzanstein.inference.synthesize.weights import stored_bytes, stream

CODES = np.random.default_rng(0).integers(0, 3, (8, 768), np.uint8)
SCALE = 0.0242919921875  # exact in f16
VALUES = np.random.default_rng(1).standard_normal((6, 768), np.float32)


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
def test_ternary_blocks_are_ggmls(kind: str) -> None:
    floats = (CODES.astype(np.float32) - 1) * np.float32(SCALE)
    expected = gguf.quants.quantize(floats, gguf.GGMLQuantizationType[kind])
    encoded = encode_ternary(CODES, SCALE, kind)
    assert encoded.nbytes == ternary_bytes(CODES.shape, kind)
    np.testing.assert_array_equal(encoded, expected.reshape(-1))


def test_four_rows_to_a_byte_are_those_of_transformers() -> None:
    packed = encode_ternary(CODES, SCALE, "B158").reshape(2, 768)
    for place in range(4):
        np.testing.assert_array_equal(
            packed >> 2 * place & 3, CODES[2 * place : 2 * place + 2], strict=True
        )


def test_i2_s_holds_runs_of_128_and_the_scale_at_the_tail() -> None:
    encoded = encode_ternary(CODES, SCALE, "I2_S")
    assert encoded.nbytes == ternary_bytes(CODES.shape, "I2_S") == CODES.size // 4 + 32
    weights = CODES.reshape(-1)
    for place in (0, 31, 32, 127, 128, 1000, CODES.size - 1):
        run, within = divmod(place, 128)
        byte = int(encoded[32 * run + within % 32])
        assert byte >> (6 - 2 * (within // 32)) & 3 == weights[place]
    assert encoded[-32:-28].view(np.float32)[0] == SCALE


@pytest.mark.parametrize(
    ("kind", "error"),
    [("Q8_0", 0.006), ("Q6_K", 0.02), ("Q4_0", 0.09), ("F16", 3e-4), ("BF16", 2e-3), ("F32", 0)],
)
def test_dense_blocks_read_back_by_gguf_are_near(kind: str, error: float) -> None:
    encoded = encode_dense(VALUES, kind)
    assert encoded.nbytes == dense_bytes(VALUES.shape, kind)
    if kind in ("F16", "F32"):
        decoded = encoded.view(np.dtype(f"f{(kind[1:] == '32' and 4) or 2}")).reshape(VALUES.shape)
    else:
        rows = encoded.reshape(len(VALUES), -1)
        decoded = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[kind])
    assert np.sqrt(((decoded - VALUES) ** 2).mean()) <= error


def test_what_does_not_fit_a_layout_is_refused() -> None:
    for shape, kind in (((6, 256), "B158"), ((4, 128), "TQ2_0"), ((1, 64), "I2_S")):
        with pytest.raises(ValueError, match="no multiple"):
            ternary_bytes(shape, kind)
    with pytest.raises(ValueError, match="no multiple"):
        dense_bytes((4, 128), "Q6_K")


def test_master_weights_quantise_to_the_codes_of_the_packed_forms() -> None:
    scale = round_bf16(0.05)
    tensor = Tensor("w", "w", (512, 1024), "ternary", scale)
    parts = list(stream(tensor, "F16", 7))
    assert sum(part.nbytes for part in parts) == stored_bytes(tensor, "F16")
    masters = np.frombuffer(b"".join(parts), np.float16).astype(np.float32).reshape(tensor.shape)
    mean = np.abs(masters).mean()
    packed = np.frombuffer(b"".join(stream(tensor, "B158", 7)), np.uint8).reshape(128, 1024)
    codes = np.concatenate([packed >> 2 * place & 3 for place in range(4)])
    np.testing.assert_array_equal(np.clip(np.rint(masters / mean), -1, 1) + 1, codes)
    assert mean == pytest.approx(scale, rel=0.005)


def test_values_depend_on_the_name_and_the_seed_only() -> None:
    one = Tensor("a", "x", (4, 256), "table", 1.0)
    same = Tensor("b", "x", (4, 256), "table", 1.0)
    other = Tensor("a", "y", (4, 256), "table", 1.0)
    bytes_of = [b"".join(stream(t, "F32", seed)) for t, seed in ((one, 0), (same, 0))]
    assert bytes_of[0] == bytes_of[1]
    assert bytes_of[0] != b"".join(stream(other, "F32", 0))
    assert bytes_of[0] != b"".join(stream(one, "F32", 1))
