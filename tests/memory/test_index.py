from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.vectors import upkeep
from ryzanstein.memory.vectors.forms import fit_form
from ryzanstein.memory.vectors.index import VectorIndex
from ryzanstein.memory.vectors.slots import SlotSet
from ryzanstein.memory.vectors.table import VectorTable

DIMENSION = 16


def unit(count: int, seed: int, dimension: int = DIMENSION) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def exact(model: dict[int, np.ndarray], query: np.ndarray, k: int) -> list[float]:
    return sorted((float(vector @ query) for vector in model.values()), reverse=True)[:k]


def test_nearest_come_first_and_a_filter_is_exact() -> None:
    index = VectorIndex(DIMENSION)
    vectors = unit(100, 1)
    index.add(np.arange(100), vectors)
    found, scores = index.search(vectors[7], 5)
    assert found[0] == 7 and scores[0] == pytest.approx(1.0, abs=1e-5)
    assert list(scores) == sorted(scores, reverse=True)
    allowed, _ = index.search(vectors[7], 5, rows(3, 9, 1000))
    assert set(allowed.tolist()) == {3, 9}


def test_an_empty_index_and_too_many_wanted_are_fine() -> None:
    index = VectorIndex(DIMENSION)
    assert len(index.search(unit(1, 1)[0], 5)[0]) == 0
    assert len(index.search(unit(1, 1)[0], 5, rows(3, 9))[0]) == 0
    index.add(rows(4), unit(1, 2))
    assert index.search(unit(1, 1)[0], 50)[0].tolist() == [4]
    assert index.cosines(unit(1, 1)[0], rows(4, 5))[1] == 0


def test_vectors_of_another_shape_are_refused() -> None:
    index = VectorIndex(DIMENSION)
    with pytest.raises(InvalidRequest, match="not"):
        index.add(rows(1), unit(1, 1, 8))
    with pytest.raises(InvalidRequest, match="not"):
        index.search(unit(1, 1, 8)[0], 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_no_numbers_are_refused_and_change_nothing(value: float) -> None:
    index = VectorIndex(DIMENSION)
    vectors = unit(3, 1)
    index.add(rows(1), vectors[:1])
    vectors[1, 5] = value
    with pytest.raises(InvalidRequest, match="NaN or infinity"):
        index.add(rows(2, 3), vectors[1:])
    with pytest.raises(InvalidRequest, match="NaN or infinity"):
        index.search(vectors[1], 3)
    assert len(index) == 1


def test_above_the_threshold_a_graph_answers_nearly_as_the_scan_does() -> None:
    index = VectorIndex(DIMENSION, graph_from=1_000)
    vectors = unit(3_000, 3)
    index.add(np.arange(3_000), vectors)
    index.wait()
    assert index.form == "hnsw"
    queries = unit(50, 4)
    hits = 0
    for query in queries:
        best = np.argsort(-(vectors @ query))[:10]
        hits += len(set(best.tolist()) & set(index.search(query, 10)[0].tolist()))
    assert hits / 500 >= 0.97
    index.close()


def test_rows_added_while_a_graph_stands_are_found_at_once() -> None:
    index = VectorIndex(DIMENSION, graph_from=200, pending=50)
    index.add(np.arange(300), unit(300, 5))
    index.wait()
    fresh = unit(40, 6)
    for number, vector in enumerate(fresh):
        index.add(rows(1_000 + number), vector[None])
        assert index.search(vector, 1)[0].tolist() == [1_000 + number]
    assert "pending" in index.form
    index.add(np.arange(2_000, 2_100), unit(100, 7))
    index.wait()
    assert index.stats()["pending"] == 0
    assert index.search(fresh[3], 1)[0].tolist() == [1_003]
    index.close()


def test_removed_rows_never_come_back_and_their_vectors_are_overwritten() -> None:
    index = VectorIndex(DIMENSION, graph_from=200, pending=40)
    vectors = unit(400, 8)
    index.add(np.arange(400), vectors)
    index.wait()
    gone = np.arange(0, 400, 3)
    index.remove(gone)
    index.wait()
    for row in gone.tolist():
        assert row not in index.search(vectors[row], 20)[0].tolist()
    kept, matrix = index.snapshot()
    assert len(kept) == len(matrix) == 400 - len(gone)
    table = index._live.table
    freed = np.setdiff1d(np.arange(table.size), table.alive())
    assert len(freed) == len(gone) and not table.vectors(freed).any()
    index.close()


@pytest.mark.parametrize("name", ["int8", "bits", "matryoshka-64"])
def test_codes_follow_what_is_stored_changed_and_dropped(name: str) -> None:
    dimension = 64
    table = VectorTable(dimension)
    vectors = unit(600, 10, dimension)
    table.put(np.arange(600), vectors)
    form = fit_form(name, vectors)
    form.factor = 40
    table.encode_with(form)
    assert table.scanned == "exact"
    table.encode(500)
    table.encode(500)
    assert table.scanned == f"scan of {name}"
    expected = vectors.copy()
    for number, (start, end) in enumerate([(0, 30), (100, 300)]):
        gone = np.arange(start, end)
        table.drop(gone)
        expected[gone] = 0
        fresh = unit(10, 20 + number, dimension)
        table.put(gone[:10], fresh)
        expected[gone[:10]] = fresh
        for query in unit(5, 30, dimension):
            slots, scores = table.nearest(query, 5)
            best = np.argsort(-(expected @ query))[:5]
            assert sorted(table.rows(slots).tolist()) == sorted(best.tolist())
            assert np.allclose(np.sort(scores)[::-1], (expected @ query)[best], atol=1e-5)
            among = table.slots(np.arange(50, 550))
            few, _ = table.nearest(query, 5, among[among >= 0])
            best = 50 + np.argsort(-(expected[50:550] @ query))[:5]
            assert sorted(table.rows(few).tolist()) == sorted(best.tolist())


def test_a_graph_is_searched_as_widely_as_its_recall_needs() -> None:
    index = VectorIndex(128, graph_from=1_000)
    vectors = unit(4_000, 11, 128)  # noise of many dimensions, the hardest there is
    index.add(np.arange(4_000), vectors)
    index.wait()
    assert index.stats()["width"] > 128
    hits = 0
    for query in unit(50, 12, 128):
        best = np.argsort(-(vectors @ query))[:10]
        hits += len(set(best.tolist()) & set(index.search(query, 10)[0].tolist()))
    assert hits / 500 >= 0.95
    index.close()


def test_asking_a_set_of_slots_changes_nothing_since_searches_ask_at_once() -> None:
    slots = SlotSet()
    slots.add(rows(1, 3))
    before = slots._flags
    assert slots.holds(rows(0, 1, 3, 900)).tolist() == [False, True, True, False]
    assert slots._flags is before and len(slots) == 2


def test_searching_beside_adding_and_removing_is_safe() -> None:
    index = VectorIndex(DIMENSION, graph_from=300, pending=30)
    index.add(np.arange(400), unit(400, 9))
    stop = threading.Event()
    faults: list[str] = []

    def search(seed: int) -> None:
        for query in np.tile(unit(20, seed), (100, 1)):
            if stop.is_set():
                return
            found, scores = index.search(query, 5)
            if len(found) != 5 or not np.isfinite(scores).all():
                faults.append(str(found))

    readers = [threading.Thread(target=search, args=(seed,)) for seed in (1, 2)]
    for reader in readers:
        reader.start()
    for turn in range(30):
        index.add(np.arange(1_000 + 20 * turn, 1_020 + 20 * turn), unit(20, 100 + turn))
        index.remove(np.arange(1_000 + 20 * turn, 1_010 + 20 * turn))
    stop.set()
    for reader in readers:
        reader.join()
    index.wait()
    assert faults == []
    assert len(index) == 400 + 30 * 10
    index.close()


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 60), st.integers(1, 25)),
        st.tuples(st.just("remove"), st.integers(0, 60), st.integers(1, 25)),
    ),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(steps=_STEPS, seed=st.integers(0, 5))
def test_the_index_agrees_with_a_dictionary_below_and_above_the_threshold(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    index = VectorIndex(DIMENSION, graph_from=20, pending=4)
    model: dict[int, np.ndarray] = {}
    for number, (action, start, count) in enumerate(steps):
        touched = np.arange(start, start + count)
        if action == "add":
            vectors = unit(count, 1000 * seed + number)
            index.add(touched, vectors)
            model.update(zip(touched.tolist(), vectors, strict=True))
        else:
            index.remove(touched)
            for row in touched.tolist():
                model.pop(row, None)
        index.wait()
        assert len(index) == len(model)
        query = unit(1, 7 + number)[0]
        found, scores = index.search(query, 5)
        assert set(found.tolist()) <= set(model)
        # Among so few rows the graph, at its width of 256, sees all of them.
        assert np.allclose(scores, exact(model, query, 5), atol=1e-5)
    index.close()


def test_work_that_fails_is_told_and_done_later_while_searches_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = VectorIndex(DIMENSION, graph_from=100)
    vectors = unit(200, 5)

    def no_room(*_: object) -> None:
        raise MemoryError("no room for a graph")

    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "Graph", no_room)
        index.add(np.arange(200), vectors)
        index.wait()
    assert "no room for a graph" in index.stats()["trouble"] and "failed: build" in caplog.text
    assert index.search(vectors[7], 1)[0].tolist() == [7]
    index.add(rows(500), unit(1, 6))
    index.wait()
    assert index.stats()["graph"] == 0
    index._upkeep._retry_at = time.monotonic()
    index.retry()
    index.wait()
    assert index.stats()["graph"] == 201
    assert index.search(vectors[7], 1)[0].tolist() == [7]
