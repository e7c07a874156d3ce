from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.store import MemoryStore
from ryzanstein.memory.text import overlap_scores, terms


class Halved:
    """Another model: the first half of wordllama's dimensions."""

    model_id = "wordllama-first-128"
    dimension = 128

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        cut = get_embedder().embed(texts)[:, :128]
        return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-9)


FACTS = [
    "The build server is called heron",
    "Invoices are due after thirty days",
    "Ada prefers tabs over spaces",
    "The office cat sleeps in the server room",
]


def test_without_fts5_words_are_still_searched(sqlite_url: str) -> None:
    MemoryStore(sqlite_url).close()
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        for table in ("memories", "experiences"):
            for trigger in ("insert", "delete", "update"):
                connection.execute(text(f"DROP TRIGGER {table}_fts_{trigger}"))
            connection.execute(text(f"DROP TABLE {table}_fts"))
    engine.dispose()
    with MemoryStore(sqlite_url) as store:
        assert store.stats().full_text == "like"
        for fact in FACTS:
            store.remember(fact)
        kept = store.remember("Ticket QX-7042 is about 100 % load")
        assert store.recall("QX-7042")[0].memory.id == kept.id
        assert store.recall("who likes tabs")[0].memory.text == FACTS[2]
        assert store.forget(kept.id)


def test_another_embedding_model_makes_its_own_vectors_and_keeps_the_old_ones(url: str) -> None:
    with MemoryStore(url) as store:
        for fact in FACTS:
            store.remember(fact)
    with MemoryStore(url, embedder=Halved()) as store:
        assert store.recall("when are invoices due")[0].memory.text == FACTS[1]
        store.remember("Bills go to the finance team")
    with MemoryStore(url) as store:
        best = store.recall("who gets the bills")[0]
        assert best.memory.text == "Bills go to the finance team"
        assert best.similarity == pytest.approx(
            float(np.dot(*store.embedder.embed(["who gets the bills", best.memory.text]))), abs=1e-5
        )


def test_two_stores_with_two_models_share_a_database(url: str) -> None:
    with MemoryStore(url) as one, MemoryStore(url, embedder=Halved()) as other:
        one.remember(FACTS[0])
        assert other.recall("build server")[0].memory.text == FACTS[0]
        gone = other.remember(FACTS[1])
        assert one.recall("invoices due")[0].memory.text == FACTS[1]
        one.forget(gone.id)
        assert [hit.memory.text for hit in other.recall("invoices due")] != [FACTS[1]]


def test_a_store_above_the_threshold_finds_the_same(url: str) -> None:
    subjects = "heron otter badger lynx marten stoat raven ibis crane finch".split()
    with MemoryStore(url, graph_from=100) as store:
        for number in range(150):
            store.remember(f"Server {number} is called {subjects[number % 10]}-{number}")
        store.recall("server")
        store._facts.searcher.synced.index.wait()
        assert store.stats().index["memories"].startswith("hnsw")
        fresh = store.remember("Server 900 is called wolverine")
        assert store.recall("wolverine")[0].memory.id == fresh.id
        assert store.recall("Server 77 is called ibis-77")[0].memory.text.endswith("-77")
        store.forget(fresh.id)
        assert all(hit.memory.id != fresh.id for hit in store.recall("wolverine", limit=50))


def test_terms_leave_stop_words_out_unless_there_is_nothing_else() -> None:
    assert terms("What is the name of the Server?") == ["name", "server"]
    assert terms("who is it") == ["who", "is", "it"]
    assert terms("?!") == [] and len(terms(" ".join(map(str, range(500))))) == 32


def test_overlap_scores_prefer_rare_words_and_short_texts() -> None:
    documents = {1: "cat mouse", 2: "cat dog", 3: "cat", 4: "mouse " + "filler " * 50}
    scores = overlap_scores(["mouse", "cat"], documents)
    assert max(scores, key=scores.__getitem__) == 1
    assert scores[4] < scores[1]
