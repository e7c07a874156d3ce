from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, delete, func, select, update

from ryzanstein.errors import InvalidRequest, TimedOut
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.records import Draft
from ryzanstein.memory.schema import EmbeddingRow, MemoryRow
from ryzanstein.memory.store import MemoryStore
from ryzanstein.memory.vectors import upkeep
from ryzanstein.memory.vectors.index import VectorIndex
from ryzanstein.memory.vectors.sync import SyncedIndex

COUNT = 240
DIMENSION = 32


class Small:
    """A quick embedder: each word has a random direction."""

    dimension = DIMENSION

    def __init__(self, model_id: str = "small-1") -> None:
        self.model_id = model_id
        self.calls: list[int] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(texts))
        vectors = np.array([self._of(text) for text in texts], dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)

    def _of(self, text: str) -> np.ndarray:
        seeds = [sum(word.encode()) * 31 + len(self.model_id) for word in text.split()]
        return sum((np.random.default_rng(seed).standard_normal(DIMENSION) for seed in seeds),
                   np.zeros(DIMENSION))  # fmt: skip


def texts(count: int = COUNT, start: int = 0) -> list[str]:
    return [f"note {number} about thing {number * 7919 % 1009}" for number in range(start, count)]


def opened(url: str, model: Small | None = None, graph_from: int = 100) -> MemoryStore:
    return MemoryStore(url, embedder=model or Small(), graph_from=graph_from)


def synced(store: MemoryStore) -> SyncedIndex:
    return store._facts.searcher.synced


def filled(store: MemoryStore, start: int = 0, count: int = COUNT) -> None:
    store.remember_many([Draft(text, tier="semantic") for text in texts(count, start)])
    store.recall("note")
    synced(store).wait()


def assert_as_the_database(store: MemoryStore) -> None:
    """The index holds exactly the vectors of the table and finds what a scan of them finds."""
    one = synced(store)
    one.catch_up()
    with store._database.read() as connection:
        query = select(EmbeddingRow.memory_row, EmbeddingRow.vector).where(
            EmbeddingRow.model_id == store.embedder.model_id, EmbeddingRow.memory_row.is_not(None)
        )
        known = {row: np.frombuffer(bytes(blob), "<f4") for row, blob in connection.execute(query)}
    rows, vectors = one.index.snapshot()
    assert rows.tolist() == sorted(known)
    assert all(np.array_equal(known[row], vectors[at]) for at, row in enumerate(rows.tolist()))
    query_vector = store.embedder.embed(["note 17 thing"])[0]
    _, cosines = one.index.search(query_vector, 5)
    best = np.sort(vectors @ query_vector)[::-1][:5]
    assert np.allclose(cosines, best, atol=1e-5)


def index_file(url: str) -> Path:
    (path,) = Path(f"{url.removeprefix('sqlite:///')}.index").glob("*.index")
    return path


def test_a_second_start_reads_the_file_and_only_what_is_later(sqlite_url: str) -> None:
    with opened(sqlite_url) as store:
        filled(store)
        assert synced(store).index.form == "hnsw"
    with opened(sqlite_url, graph_from=400) as store:  # would not build by itself
        store.remember("something later about whales")
        gone = store.recall("note 5 about thing", limit=1)[0].memory
        store.forget(gone.id)
        assert_as_the_database(store)
        synced(store).wait()
        assert synced(store).index.form.startswith("hnsw")
        assert_as_the_database(store)


def test_a_process_that_ends_at_once_leaves_the_vectors_for_the_next(sqlite_url: str) -> None:
    with opened(sqlite_url, graph_from=10_000) as store:
        store.remember_many([Draft(text, tier="semantic") for text in texts()])
    with opened(sqlite_url) as store:
        assert store.recall("note 30 about thing")
    with opened(sqlite_url, graph_from=10_000) as store:
        index = synced(store)._new_index()
        assert index.open() and len(index) == COUNT
        index.close()
        assert_as_the_database(store)


def test_an_older_file_is_brought_up_to_date(sqlite_url: str, tmp_path: Path) -> None:
    with opened(sqlite_url) as store:
        filled(store)
        shutil.copytree(index_file(sqlite_url).parent, tmp_path / "older")
        for memory in store.list(limit=60).memories:
            store.forget(memory.id)
        filled(store, 1000, 1200)
    shutil.rmtree(index_file(sqlite_url).parent)
    shutil.copytree(tmp_path / "older", tmp_path / "memory.db.index")
    with opened(sqlite_url) as store:
        assert_as_the_database(store)
        synced(store).wait()
        assert_as_the_database(store)


def test_a_file_from_a_later_or_another_database_is_not_used(
    sqlite_url: str, tmp_path: Path
) -> None:
    with opened(sqlite_url) as store:
        filled(store, 0, 150)
    shutil.copy(tmp_path / "memory.db", tmp_path / "backup.db")
    with opened(sqlite_url) as store:
        filled(store, 1000, 1300)
    shutil.copy(tmp_path / "backup.db", tmp_path / "memory.db")
    with opened(sqlite_url) as store:
        assert_as_the_database(store)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with opened(other, graph_from=10_000) as store:
        filled(store, 2000, 2120)
    shutil.copytree(index_file(sqlite_url).parent, tmp_path / "other.db.index")
    with opened(other, graph_from=10_000) as store:
        assert_as_the_database(store)
    assert not list((tmp_path / "other.db.index").glob("*.index"))


@pytest.mark.parametrize("part", ["*.index", "*.graph"])
def test_a_damaged_file_costs_no_answer(sqlite_url: str, part: str) -> None:
    with opened(sqlite_url) as store:
        filled(store)
    (path,) = index_file(sqlite_url).parent.glob(part)
    content = bytearray(path.read_bytes())
    # A byte of a vector, in an index file behind as much padding as makes pages of its parts.
    content[-len(content) // 8] ^= 1
    path.write_bytes(content)
    with opened(sqlite_url) as store:
        assert store.recall("note 30 about thing")[0].memory.text.startswith("note 30 ")
        assert_as_the_database(store)
        synced(store).wait()
        assert synced(store).index.form == "hnsw"
        assert_as_the_database(store)


def test_a_file_is_written_only_when_it_is_known_what_it_holds(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = SyncedIndex._same

    def late(self: SyncedIndex, connection: Connection, index: VectorIndex) -> bool:
        index.wait()  # the graph is built before the revision is known
        return same(self, connection, index)

    with monkeypatch.context() as slow:
        slow.setattr(SyncedIndex, "_same", late)
        with opened(sqlite_url) as store:
            filled(store)
    with opened(sqlite_url) as store:
        store.recall("note")
        synced(store).wait()
        assert synced(store).index.form == "hnsw"  # nothing had to be read again


def test_a_process_that_waits_for_anothers_graph_takes_it_over(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(sqlite_url) as first, opened(sqlite_url) as second:
        file = synced(first).index.file
        assert file is not None and file.hold()
        second.remember_many([Draft(text, tier="semantic") for text in texts()])
        second.recall("note")
        synced(second).wait()
        assert synced(second).index.form != "hnsw"
        first.recall("note")
        synced(first).wait()
        assert synced(first).index.form == "hnsw"
        index = synced(second).index
        monkeypatch.setattr(upkeep.Upkeep, "_build", lambda self: None)
        second.remember("and one more about whales")
        second.recall("note")
        synced(second).wait()
        assert synced(second).index is index and index.form.startswith("hnsw")
        assert_as_the_database(second)


def test_a_graph_that_could_not_be_taken_over_is_asked_for_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(sqlite_url) as first, opened(sqlite_url) as second:
        file = synced(first).index.file
        assert file is not None and file.hold()
        filled(second)
        first.recall("note")
        synced(first).wait()
        monkeypatch.setattr(upkeep.Upkeep, "_build", lambda self: None)
        follow = SyncedIndex._follow

        def busy(self: SyncedIndex, index: VectorIndex, *, first: bool = False) -> bool:
            if first:
                raise TimedOut("locked")
            return follow(self, index, first=first)

        with monkeypatch.context() as locked:
            locked.setattr(SyncedIndex, "_follow", busy)
            second.recall("note")
            synced(second).wait()
        second.recall("note")
        synced(second).wait()
        assert synced(second).index.form.startswith("hnsw")


def test_what_has_no_vector_is_found_while_others_write_and_gets_it_later(
    sqlite_url: str, tmp_path: Path
) -> None:
    with MemoryStore(sqlite_url, embedder=Small(), busy_seconds=0.1) as store:
        kept = store.remember("the staging database is called orion")
        store.recall("staging")
        with store._database.write() as (connection, revision):
            connection.execute(delete(EmbeddingRow))
            connection.execute(update(MemoryRow).values(revision=revision))
        other = sqlite3.connect(tmp_path / "memory.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store.recall("staging")[0].memory.id == kept.id
        other.execute("ROLLBACK")
        other.close()
        store.recall("staging")
        assert_as_the_database(store)
        assert len(synced(store).index) == 1


def test_another_model_is_embedded_in_slices_while_words_find(url: str) -> None:
    count = 700
    with opened(url) as store:
        store.remember_many([Draft(text, tier="semantic") for text in texts(count)])
        store.remember("The staging database is called orion")
    model = Small("another-model")
    with opened(url, model) as store:
        assert store.recall("staging database")[0].memory.text.endswith("orion")
        synced(store).wait()
        assert max(model.calls) <= 256 and sum(model.calls) >= count
        assert_as_the_database(store)
        assert len(synced(store).index) == count + 1
    again = Small("another-model")
    with opened(url, again) as store:
        store.recall("staging database")
        synced(store).wait()
        assert sum(again.calls) == 1


def test_embedding_that_was_broken_off_goes_on_at_the_next_start(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(url) as store:
        store.remember_many([Draft(text, tier="semantic") for text in texts(600)])
    with opened(url, Small("another-model")) as store:
        backfill = synced(store)._backfill
        embed = backfill.embed

        def once(items: Sequence[tuple[int, str]]) -> None:
            embed(items)
            backfill._stopping.set()

        monkeypatch.setattr(backfill, "embed", once)
        store.recall("note")
        synced(store).wait()
        with store._database.read() as connection:
            made = connection.execute(
                select(func.count()).where(EmbeddingRow.model_id == "another-model")
            ).scalar_one()
        assert made == 256
    with opened(url, Small("another-model")) as store:
        store.recall("note")
        synced(store).wait()
        assert_as_the_database(store)
        assert len(synced(store).index) == 600


class Broken(Small):
    """Gives what a model must not give."""

    def __init__(self, value: float, dimension: int = DIMENSION) -> None:
        super().__init__("broken")
        self._value, self._width = value, dimension

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        return np.full((len(texts), self._width), self._value, dtype=np.float32)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Broken(np.nan), "NaN or infinity"),
        (Broken(np.inf), "NaN or infinity"),
        (Broken(0.5, DIMENSION - 1), "not"),
    ],
)
def test_a_model_that_gives_no_vectors_is_told_and_nothing_is_stored(
    url: str, model: Broken, message: str
) -> None:
    with opened(url, model) as store:
        with pytest.raises(InvalidRequest, match=message):
            store.remember("something")
        assert store.stats().memories == 0


def test_a_vector_that_others_have_spoiled_costs_only_itself(
    sqlite_url: str, tmp_path: Path
) -> None:
    with opened(sqlite_url) as store:
        store.remember_many([Draft(text, tier="semantic") for text in texts(20)])
    connection = sqlite3.connect(tmp_path / "memory.db")
    nan = np.full(DIMENSION, np.nan, dtype="<f4").tobytes()
    connection.execute("UPDATE embeddings SET vector = ? WHERE memory_row = 3", (nan,))
    connection.execute("UPDATE embeddings SET vector = x'0102' WHERE memory_row = 4")
    connection.commit()
    connection.close()
    with opened(sqlite_url) as store:
        assert store.recall("note 3 about thing")[0].memory.text.startswith("note ")
        assert len(synced(store).index) == 18


def test_a_forgotten_record_leaves_no_trace_of_its_vector(sqlite_url: str, tmp_path: Path) -> None:
    model = get_embedder()
    with MemoryStore(sqlite_url, graph_from=100) as store:
        secret = store.remember("Her maiden name is Winterbottom")
        store.remember_many([Draft(text, tier="semantic") for text in texts()])
        store.recall("note")
        synced(store).wait()
    vector = model.embed([secret.text])[0]
    pieces = [vector[at : at + 8].tobytes() for at in range(0, len(vector), 8)]

    def traces() -> list[Path]:
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return [path for path in files if any(piece in path.read_bytes() for piece in pieces)]

    assert len(traces()) == 3  # the database, the index file and the graph
    with MemoryStore(sqlite_url, graph_from=100) as store:
        assert store.forget(secret.id)
        assert traces() == []
        store.recall("maiden name")
        synced(store).wait()
    assert traces() == []
