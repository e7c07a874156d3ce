"""The split int8 head: the same numbers as int8, and bounds from its high plane."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ryzanstein.errors import QuantizationError
from ryzanstein.inference.kernels import _linear, reference
from ryzanstein.inference.kernels._program import Program
from ryzanstein.inference.kernels.pack import PackedMatrix, pack

ISAS = _linear.available_isas()
SHAPES = [(1, 1), (31, 33), (32, 32), (65, 96), (97, 2080)]
DEVIATIONS = 8.0  # RZ_SCAN_DEVIATIONS
Floats = npt.NDArray[np.float32]


def random_heads(rows: int, cols: int, seed: int = 0) -> tuple[PackedMatrix, PackedMatrix]:
    """The same weights as int8 and as split8."""
    weights = np.random.default_rng(seed).normal(size=(rows, cols)).astype(np.float32)
    data = weights.reshape(-1).view(np.uint8)
    return pack("F32", data, rows, cols, "int8"), pack("F32", data, rows, cols, "scan")


def panel_maxima(logits: Floats) -> Floats:
    padded = np.pad(logits, (0, -logits.size % 32), constant_values=-np.inf)
    return padded.reshape(-1, 32).max(axis=1)


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_two_planes_hold_the_codes_and_scales_of_one(rows: int, cols: int) -> None:
    whole, split = random_heads(rows, cols)
    assert split.form == "split8"
    assert split.nbytes == whole.nbytes == split.codes.nbytes
    np.testing.assert_array_equal(reference.unpack(split), reference.unpack(whole))
    for row in {0, rows // 2, rows - 1}:
        np.testing.assert_array_equal(
            _linear.dequantize_row(split, row), _linear.dequantize_row(whole, row)
        )


def test_int8_of_a_file_moves_into_two_planes_unchanged() -> None:
    rng = np.random.default_rng(1)
    blocks = np.zeros((40 * 3, 34), np.uint8)
    blocks[:, :2] = rng.normal(size=(120, 1)).astype(np.float16).view(np.uint8)
    blocks[:, 2:] = rng.integers(-127, 128, (120, 32)).astype(np.int8).view(np.uint8)
    data = blocks.reshape(-1)
    whole, split = pack("Q8_0", data, 40, 96), pack("Q8_0", data, 40, 96, "scan")
    np.testing.assert_array_equal(reference.unpack(split), reference.unpack(whole))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_products_of_both_planes_are_those_of_int8(isa: str, rows: int, cols: int) -> None:
    whole, split = random_heads(rows, cols)
    for tokens in (1, 2, 7, 20):
        x = np.random.default_rng(tokens).normal(size=(tokens, cols)).astype(np.float32)
        np.testing.assert_array_equal(_linear.linear(split, x, isa), _linear.linear(whole, x, isa))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_bounds_are_what_the_description_says(isa: str, rows: int, cols: int) -> None:
    _, split = random_heads(rows, cols)
    x = np.random.default_rng(5).normal(size=(1, cols)).astype(np.float32)
    codes, scales, _ = reference.unpack_codes(split)
    acts, factors, _ = reference.quantize(x)
    scale = scales[:, :, 0].astype(np.float64)
    coarse = ((codes + 128) // 16 * 16 + 7.5 - 128).reshape(rows, -1, 32)
    grouped = acts.reshape(-1, 32).astype(np.float64)
    products = np.einsum("rgk,gk,rg,g->r", coarse, grouped, scale, factors[0].astype(float))
    squares = scale**2 @ (factors[0].astype(float) ** 2 * (grouped**2).sum(axis=1))
    want = panel_maxima((products + DEVIATIONS * np.sqrt(21.25 * squares)).astype(np.float32))
    got = _linear.scan(split, x[0], isa)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    np.testing.assert_array_equal(got, _linear.scan(split, x[0], "portable"))


@pytest.mark.parametrize("seed", range(4))
def test_no_product_exceeds_its_bound(seed: int) -> None:
    """Activations with a few large channels among many small ones, as trained models have them."""
    rows, cols = 4096, 576
    whole, split = random_heads(rows, cols, seed)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        x = rng.normal(size=cols) * np.exp(rng.normal(size=cols))
        x[rng.integers(0, cols, 2)] *= 30
        x = x.astype(np.float32)
        bounds, logits = _linear.scan(split, x), _linear.linear(whole, x)[0]
        assert (panel_maxima(logits) <= bounds).all()


def test_rows_past_a_limit_do_not_count() -> None:
    _, split = random_heads(96, 64)
    x = np.random.default_rng(0).normal(size=64).astype(np.float32)
    part, whole = _linear.scan(split, x, rows=40), _linear.scan(split, x)
    assert part[0] == whole[0]
    assert part[1] <= whole[1]
    assert part[2] == -np.inf


def test_an_activation_that_is_not_finite_bounds_nothing() -> None:
    _, split = random_heads(64, 64)
    x = np.zeros(64, np.float32)
    x[3] = np.nan
    assert np.isnan(_linear.scan(split, x)).all()


def test_only_a_split_matrix_has_a_high_plane() -> None:
    whole, split = random_heads(32, 64)
    with pytest.raises(QuantizationError, match="no high plane"):
        _linear.scan(whole, np.zeros(64, np.float32))
    with pytest.raises(QuantizationError, match="not one token"):
        _linear.scan(split, np.zeros(32, np.float32))


def head_program(head: PackedMatrix, embedding: PackedMatrix, threads: int, isa: str) -> Program:
    """A model that is no more than an embedding and a head."""
    program = Program(
        threads=threads, heads=1, kv_heads=1, head_dim=16, layers=1, half_cache=False, isa=isa
    )
    x = program.buffer(head.cols, whole=True)
    program.embed(embedding, x)
    program.finish(x, head)
    return program


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_best_token_is_the_argmax_of_the_logits(isa: str, threads: int) -> None:
    """Rows that occur twice tie; the first wins, as with argmax."""
    vocabulary, cols = 1200, 160
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(vocabulary, cols)).astype(np.float32)
    weights[rng.integers(0, vocabulary, 300)] = weights[rng.integers(0, vocabulary, 300)]
    data = weights.reshape(-1).view(np.uint8)
    head = pack("F32", data, vocabulary, cols, "scan")
    inputs = rng.normal(size=(vocabulary, cols)).astype(np.float32)
    inputs[0] = 0.0
    embedding = pack("F32", inputs.reshape(-1).view(np.uint8), vocabulary, cols, "float")
    program = head_program(head, embedding, threads, isa)
    pages, logits = np.zeros(1, np.uintp), np.empty((1, vocabulary), np.float32)
    computed = []
    for token in range(0, vocabulary, 40):
        ids = np.array([token], np.int32)
        program.run(ids, 0, pages, logits)
        for below in (vocabulary, 1000, 7):
            found = program.best(ids, 0, pages, below=below)
            assert found is not None
            assert found[0] == logits[0, :below].argmax()
            assert found[1] == logits[0, found[0]]
            assert 1 <= found[2] <= -(-below // 32)
            computed.append(found[2])
    assert np.median(computed[::3]) < vocabulary / 32
    program.close()


def test_another_head_is_not_scanned() -> None:
    whole, _ = random_heads(64, 64)
    with pytest.raises(ValueError, match="not one to scan"):
        program = head_program(whole, whole, 1, ISAS[0])
        program.best(np.zeros(1, np.int32), 0, np.zeros(1, np.uintp), below=64)
