"""Measures of compressed vectors: the bits of the NumPy reference, on every instruction set."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.inference.kernels import _vectors, reference_vectors
from ryzanstein.inference.kernels._linear import available_isas

ISAS = available_isas()
# Bytes, or elements, of a row: below, at and above the widths of registers and of parts.
WIDTHS = (1, 3, 7, 8, 15, 16, 31, 32, 33, 64, 100, 128, 255, 256, 257, 600)
RANDOM = np.random.default_rng(5)


def integers(dtype: type, *shape: int) -> np.ndarray:
    """All values of a type, its extremes among them."""
    info = np.iinfo(dtype)
    return RANDOM.integers(info.min, info.max, shape, dtype, endpoint=True)


def case(measure: str, rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Random codes and a query for them."""
    if measure == "dot_f32":
        codes = RANDOM.standard_normal((rows, width), np.float32)
        return codes, RANDOM.standard_normal(width, np.float32)
    if measure == "dot_i8":
        return integers(np.int8, rows, width), integers(np.int8, width)
    if measure == "lookup":
        return integers(np.uint8, rows, width), integers(np.int16, width, 256)
    if measure == "sparse_dot":
        wide = width > 256
        places = np.sort(RANDOM.integers(0, width, (rows, 32)).astype("<u2" if wide else np.uint8))
        values = integers(np.int8, rows, 32).view(np.uint8)
        return np.hstack([places.view(np.uint8), values]), integers(np.int8, width)
    if measure == "bits_scaled":
        return integers(np.uint8, rows, width + 1), integers(np.int8, 8 * width)
    codes = integers(np.uint8, rows, width)
    return codes, integers(np.int8, 8 * width) if measure == "bits_dot" else codes[0] ^ codes[-1]


def reference(measure: str, codes: np.ndarray, query: np.ndarray) -> np.ndarray:
    return getattr(reference_vectors, measure)(codes, query)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("measure", _vectors.MEASURES)
def test_every_set_gives_the_bits_of_the_reference(measure: str, width: int, isa: str) -> None:
    for rows in (1, 2, 5, 67):
        codes, query = case(measure, rows, width)
        got = getattr(_vectors, measure)(codes, query, isa=isa)
        wanted = reference(measure, codes, query)
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got.view(np.int32), wanted.view(np.int32))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("measure", _vectors.MEASURES)
def test_a_list_of_positions_is_measured_in_its_order(measure: str, isa: str) -> None:
    codes, query = case(measure, 50, 48)
    positions = RANDOM.integers(0, 50, 33)
    got = getattr(_vectors, measure)(codes, query, positions, isa=isa)
    np.testing.assert_array_equal(got, reference(measure, codes, query)[positions])
    none = getattr(_vectors, measure)(codes, query, positions[:0], isa=isa)
    assert none.shape == (0,)


@pytest.mark.parametrize("isa", ISAS)
def test_extremes_do_not_overflow(isa: str) -> None:
    low = np.full((5, 4096), -128, np.int8)
    assert _vectors.dot_i8(low, low[0], isa=isa).tolist() == [4096 * 16384] * 5
    bits = np.full((5, 4096), 255, np.uint8)
    for value in (-128, 127):
        query = np.full(8 * 4096, value, np.int8)
        assert _vectors.bits_dot(bits, query, isa=isa).tolist() == [8 * 4096 * value] * 5
        whole = np.full((5, 8193), 255, np.uint8)
        query = np.full(65536, value, np.int8)
        assert _vectors.bits_scaled(whole, query, isa=isa).tolist() == [65536 * value * 255] * 5
    assert _vectors.hamming(bits, ~bits[0], isa=isa).tolist() == [8 * 4096] * 5


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("measure", _vectors.MEASURES)
@pytest.mark.parametrize("k", [1, 10, 3000])
def test_the_best_of_a_scan_are_the_best_of_all_values(measure: str, k: int, isa: str) -> None:
    codes, query = case(measure, 3000, 24)
    codes[::7] = codes[0]  # many equal values, which go by position
    values = reference(measure, codes, query)
    lowest = measure == "hamming"
    positions, found = _vectors.top(measure, codes, query, k, isa=isa)
    wanted = reference_vectors.top(values, k, lowest=lowest)
    np.testing.assert_array_equal(positions, wanted[0])
    np.testing.assert_array_equal(found, wanted[1])
    listed = RANDOM.permutation(3000)[:500]
    positions, found = _vectors.top(measure, codes, query, k, listed, isa=isa)
    wanted = reference_vectors.top(values[listed], k, listed, lowest=lowest)
    np.testing.assert_array_equal(positions, wanted[0])
    np.testing.assert_array_equal(found, wanted[1])


@pytest.mark.parametrize("measure", _vectors.MEASURES)
def test_several_queries_and_threads_change_nothing(measure: str) -> None:
    codes, query = case(measure, 60_000, 96)
    queries = np.stack([query, query[::-1], np.roll(query, 3, 0)])
    together = _vectors.top(measure, codes, queries, 20, threads=3)
    every = getattr(_vectors, measure)(codes[:100], queries)
    for number, one in enumerate(queries):
        alone = _vectors.top(measure, codes, one, 20)
        np.testing.assert_array_equal(together[0][number], alone[0])
        np.testing.assert_array_equal(together[1][number], alone[1])
        np.testing.assert_array_equal(every[number], getattr(_vectors, measure)(codes[:100], one))


def test_scans_run_side_by_side() -> None:
    codes, query = case("dot_i8", 5_000, 64)
    wanted = _vectors.top("dot_i8", codes, query, 5)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(_vectors.top("dot_i8", codes, query, 5)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(one[0], wanted[0]) for one in found) and len(found) == 4


def test_no_rows_and_no_wishes_give_nothing() -> None:
    codes, query = case("bits_dot", 4, 8)
    assert _vectors.bits_dot(codes[:0], query).shape == (0,)
    for rows, k in ((codes[:0], 5), (codes, 0)):
        positions, values = _vectors.top("bits_dot", rows, query, k)
        assert positions.shape == values.shape == (0,)


def test_a_sparse_place_beyond_the_query_counts_nothing() -> None:
    codes = np.array([[3, 200, 5, 100]], np.uint8)
    assert _vectors.sparse_dot(codes, np.full(100, 2, np.int8)).tolist() == [10]


CODES = np.zeros((4, 16), np.int8)
QUERY = np.zeros(16, np.int8)
FLOATS = np.zeros((4, 16), np.float32)


@pytest.mark.parametrize(
    ("measure", "codes", "query", "options", "message"),
    [
        ("dot_i8", CODES.astype(np.int16), QUERY, {}, "codes are int16 .4, 16."),
        ("dot_i8", CODES.tolist(), QUERY, {}, "codes are list"),
        ("dot_i8", CODES[:, ::2], QUERY[::2], {}, "not a contiguous int8 matrix"),
        ("dot_i8", CODES[0], QUERY, {}, "codes are int8 .16,."),
        ("dot_i8", CODES[:, :0], QUERY[:0], {}, "rows of 0 codes"),
        ("dot_i8", CODES, QUERY[:15], {}, "a query is int8 .15,., not int8 .16,."),
        ("dot_i8", CODES, QUERY.astype(np.float32), {}, "a query is float32"),
        ("dot_f32", FLOATS, np.full(16, np.nan, np.float32), {}, "not finite"),
        ("dot_f32", FLOATS, np.full(16, np.inf, np.float32), {}, "not finite"),
        ("hamming", CODES, QUERY, {}, "codes are int8"),
        ("bits_dot", CODES.view(np.uint8), QUERY, {}, "not int8 .128,."),
        ("bits_scaled", CODES.view(np.uint8), np.zeros(128, np.int8), {}, "not int8 .120,."),
        ("bits_scaled", CODES[:, :1].copy().view(np.uint8), QUERY, {}, "signs of 0 elements"),
        ("lookup", CODES.view(np.uint8), np.zeros((16, 16), np.int16), {}, "not int16 .16, 256."),
        ("sparse_dot", CODES[:, :5].copy().view(np.uint8), QUERY, {}, "no places and values"),
        ("dot_i8", CODES, QUERY, {"positions": np.array([4])}, "not all among 4 rows"),
        ("dot_i8", CODES, QUERY, {"positions": np.array([-1])}, "not all among 4 rows"),
        ("dot_i8", CODES, QUERY, {"positions": np.array([0.0])}, "positions are float64"),
        ("dot_i8", CODES, QUERY, {"isa": "mmx"}, "instruction set 'mmx' is not available"),
    ],
)
def test_what_does_not_fit_is_refused(
    measure: str, codes: Any, query: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        getattr(_vectors, measure)(codes, query, **options)
    with pytest.raises(InvalidRequest, match=message):
        _vectors.top(measure, codes, query, 2, **options)


def test_unknown_measures_and_counts_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no measure 'cosine'"):
        _vectors.top("cosine", CODES, QUERY, 2)  # type: ignore[call-overload]
    with pytest.raises(InvalidRequest, match="the best -1"):
        _vectors.top("dot_i8", CODES, QUERY, -1)
    with pytest.raises(InvalidRequest, match="on 0 threads"):
        _vectors.top("dot_i8", CODES, QUERY, 2, threads=0)
