from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ryzanstein.memory.novelty import _RECENT, Novelty
from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore


def units(count: int, seed: int = 1) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, 256), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


@pytest.fixture
def novelty(store: MemoryStore) -> Novelty:
    return Novelty(store._database, store._facts.searcher.synced, 256)


def test_a_batch_is_compared_with_itself_in_order(novelty: Novelty) -> None:
    vectors = units(700)
    vectors[699] = vectors[3]
    found = novelty.of(vectors)
    nearest = np.tril(vectors @ vectors.T, -1).max(axis=1)
    np.testing.assert_allclose(found, 1 - np.maximum(nearest, 0), atol=1e-5)
    assert found[3] > 0.5 and found[699] == pytest.approx(0, abs=1e-6)


def test_what_came_lately_is_known_and_what_came_before_that_is_forgotten(
    novelty: Novelty,
) -> None:
    vectors = units(_RECENT + 1)
    novelty.of(vectors)
    assert novelty.of(vectors[1:2])[0] == pytest.approx(0, abs=1e-6)
    assert novelty.of(vectors[:1])[0] > 0.5


def test_what_was_forgotten_is_new_again(store: MemoryStore) -> None:
    store.remember("Tea is at five")
    first = store.remember("The staging database is called orion")
    assert store.remember("The staging database is named orion").novelty < 0.5 < first.novelty
    for memory in store.list().memories[:2]:
        assert store.forget(memory.id)
    assert store.remember(first.text).novelty == first.novelty


def test_a_text_without_a_vector_is_new(novelty: Novelty) -> None:
    assert novelty.of(np.zeros((2, 256), dtype=np.float32)).tolist() == [1.0, 1.0]
    assert novelty.of(np.zeros((0, 256), dtype=np.float32)).tolist() == []


def test_what_other_processes_stored_is_known_after_a_while(url: str, store: MemoryStore) -> None:
    with MemoryStore(url) as other:
        store.remember("warm up")
        other.remember("The staging database is called orion")
        store.remember_many([Draft(f"number {number} of a list") for number in range(16)])
        for number in range(64):
            store.remember(f"{number} birds sat on the wire")
        assert store.remember("The staging database is named orion").novelty < 0.4
