"""Forms of vectors: what they keep, what they find, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.vectors.forms import FORMS, fit_form, load_form, nearest

BYTES = {
    "float32": 1024,
    "int8": 256,
    "matryoshka-128": 128,
    "matryoshka-64": 64,
    "sparse-32": 64,
    "product": 32,
    "bits": 33,
}
# Of the ten nearest among 3,000, with as many candidates as the form asks for.
LEAST = {"matryoshka-64": 0.85, "sparse-32": 0.95, "product": 0.95}


def like_embeddings(rows: int, dimension: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors with topics and with first dimensions that say most, as models' vectors are."""
    random = np.random.default_rng(seed)
    weights = np.linspace(1.5, 0.5, dimension)
    topics = np.random.default_rng(99).standard_normal((50, dimension))
    vectors = topics[random.integers(0, 50, rows)] + random.standard_normal((rows, dimension)) + 0.3
    vectors *= weights
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = like_embeddings(3_000, 256)
QUERIES = like_embeddings(30, 256, seed=1)
TRUTH = np.argsort(-(QUERIES @ VECTORS.T), axis=1)[:, :10]


@pytest.fixture(scope="module", params=FORMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(name: str) -> tuple[object, ...]:
    form = fit_form(name, VECTORS[:2_000])
    return form, form.encode(VECTORS)


def test_codes_take_the_bytes_that_are_said(name, fitted) -> None:
    form, codes = fitted
    assert codes.shape == (3_000, form.width) and codes.dtype == form.dtype
    assert codes.flags.c_contiguous
    assert codes.nbytes == 3_000 * form.bytes_per_vector == 3_000 * BYTES[name]


def test_rescored_candidates_hold_the_nearest(name, fitted) -> None:
    form, codes = fitted
    found = []
    for query, exact in zip(QUERIES, TRUTH, strict=True):
        positions, cosines = nearest(form, codes, VECTORS, query, 10)
        np.testing.assert_allclose(cosines, VECTORS[positions] @ query, atol=1e-6)
        assert (np.diff(cosines) <= 0).all()
        found.append(np.isin(exact, positions).mean())
    assert np.mean(found) >= LEAST.get(name, 0.97)


def test_estimates_are_near_the_cosines(name, fitted) -> None:
    form, codes = fitted
    positions, scores = form.scan(codes, QUERIES[0], 3_000)
    assert sorted(positions.tolist()) == list(range(3_000))
    exact = VECTORS[positions] @ QUERIES[0]
    assert np.corrcoef(scores, exact)[0, 1] > 0.8
    if name in ("float32", "int8"):
        np.testing.assert_allclose(scores, exact, atol=0.01)


def test_several_queries_are_scanned_as_each_alone(fitted) -> None:
    form, codes = fitted
    positions, scores = form.scan(codes, QUERIES[:4], 7, threads=2)
    for number in range(4):
        alone = form.scan(codes, QUERIES[number], 7)
        np.testing.assert_array_equal(positions[number], alone[0])
        np.testing.assert_allclose(scores[number], alone[1], rtol=1e-6)


def test_positions_limit_a_scan_and_blocks_add_up(fitted) -> None:
    form, codes = fitted
    listed = np.arange(0, 3_000, 3)[::-1]
    positions, scores = form.scan(codes, QUERIES[0], 5, listed)
    part = form.scan(np.ascontiguousarray(codes[::3]), QUERIES[0], 5)
    np.testing.assert_array_equal(positions, 3 * part[0])
    np.testing.assert_array_equal(scores, part[1])
    blocks = [form.scan(codes[start : start + 1_000], QUERIES[0], 5) for start in (0, 1_000, 2_000)]
    best = sorted((score for _, some in blocks for score in some.tolist()), reverse=True)[:5]
    np.testing.assert_array_equal(form.scan(codes, QUERIES[0], 5)[1], np.float32(best))


def test_a_form_comes_back_from_its_state(name, fitted) -> None:
    form, codes = fitted
    again = load_form(name, 256, form.state)
    np.testing.assert_array_equal(again.encode(VECTORS), codes)
    assert again.bytes_per_vector == form.bytes_per_vector
    pairs = zip(again.scan(codes, QUERIES[1], 9), form.scan(codes, QUERIES[1], 9), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dimension", [20, 100, 384])
def test_other_dimensions_work(name: str, dimension: int) -> None:
    vectors = like_embeddings(600, dimension)
    form = fit_form(name, vectors)
    codes = form.encode(vectors)
    positions, cosines = nearest(form, codes, vectors, vectors[7], 3)
    assert positions[0] == 7 and cosines[0] == pytest.approx(1, abs=1e-5)


def test_zeros_and_no_rows_are_vectors_too(name, fitted) -> None:
    form, codes = fitted
    nothing = np.zeros(256, np.float32)
    assert np.isfinite(form.scan(codes, nothing, 3)[1]).all()
    assert len(form.encode(nothing[None])) == 1
    assert len(form.scan(form.encode(VECTORS[:0]), QUERIES[0], 3)[0]) == 0
    assert len(nearest(form, codes[:2], VECTORS[:2], QUERIES[0], 10)[0]) == 2
    one = fit_form(name, VECTORS[:1])
    assert len(one.encode(VECTORS[:5])) == 5


def test_signs_of_vectors_that_all_point_one_way_are_taken_from_their_mean() -> None:
    shifted = VECTORS + np.float32(0.4)
    shifted /= np.linalg.norm(shifted, axis=1, keepdims=True)
    form = fit_form("bits", shifted)
    assert 0.4 < np.unpackbits(form.encode(shifted)).mean() < 0.6


def damaged(value: float) -> NDArray[np.float32]:
    vectors = VECTORS[:3].copy()
    vectors[1, 5] = value
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (VECTORS[:3, :255], "not of 256 dimensions. They come from another embedding model"),
        (damaged(np.nan), "not finite"),
        (damaged(np.inf), "not finite"),
        (np.zeros((3, 256), np.int8), "vectors are int8, not float32"),
        (VECTORS[0], "vectors are .256,., not a matrix"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(fitted, vectors: NDArray, message: str) -> None:
    form, codes = fitted
    with pytest.raises(InvalidRequest, match=message):
        form.encode(vectors)
    if vectors.ndim == 2:
        with pytest.raises(InvalidRequest, match=message):
            form.scan(codes, vectors[1], 3)


def test_unknown_forms_and_empty_samples_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"'int3'\. Choose one of float32, int8"):
        fit_form("int3", VECTORS)
    with pytest.raises(InvalidRequest, match="no form"):
        load_form("int3", 256, {})
    for sample in (VECTORS[:0], VECTORS[0]):
        with pytest.raises(InvalidRequest, match="not a matrix with a row"):
            fit_form("int8", sample)
