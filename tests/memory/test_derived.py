"""Forgetting memories takes what the store made of them alone along, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory import derived
from ryzanstein.memory.records import Memory
from ryzanstein.memory.schema import JournalRow, MemoryLinkRow, MemoryRow
from ryzanstein.memory.store import MemoryStore
from tests.memory.test_distil import FACT, say, semantic


@pytest.fixture
def said(store: MemoryStore) -> list[Memory]:
    """Episodes of which one fact was distilled."""
    made = [say(store, f"Hello! {FACT}", session, turn=int(session)) for session in "123"]
    assert store.consolidate(seconds=10).distilled == 1
    return made


def left(store: MemoryStore) -> tuple[int, int, int]:
    with store._database.read() as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (MemoryRow, MemoryLinkRow, JournalRow)
        ]
    return counts[0], counts[1], counts[2]


def test_a_distilled_fact_goes_with_the_last_of_its_sources(
    store: MemoryStore, said: list[Memory]
) -> None:
    [made] = semantic(store)
    for episode in said[:2]:
        assert store.forget(episode.id)
    assert semantic(store) == [made]
    assert store.forget(said[2].id)
    assert store.get(made.id) is None
    assert left(store) == (0, 0, 0)
    assert store.recall("what does Caroline paint?") == []
    assert len(store._facts.searcher.synced.index) == 0


def test_its_words_are_not_in_the_file_any_more(sqlite_url: str, tmp_path: Path) -> None:
    with MemoryStore(sqlite_url) as store:
        for session in "123":
            say(store, FACT.replace("oil", "zyxwvut"), session, turn=int(session))
        store.consolidate(seconds=10)
        for memory in store.list(tier="episodic").memories:
            store.forget(memory.id)
    assert not any(
        b"zyxwvut" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()
    )


def test_archived_episodes_take_their_fact_along(
    store: MemoryStore, said: list[Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.memory.facts._FORGETTING", 2)
    with store._database.write() as (connection, _):
        now = datetime.now(UTC)
        table = MemoryRow.__table__
        connection.execute(table.update().where(MemoryRow.tier == "episodic").values(archived=now))
    assert store.forget_archived() == 3
    assert left(store) == (0, 0, 0)


def test_what_somebody_remembered_stays_without_sources(store: MemoryStore) -> None:
    own = store.remember(FACT)
    said = [say(store, f"Hello! {FACT}", session, turn=int(session)) for session in "123"]
    store.consolidate(seconds=10)
    assert {link.kind for link in store.links(own.id)} == {"distilled_from"}
    for episode in said:
        store.forget(episode.id)
    assert store.get(own.id) is not None


def test_a_distilled_fact_that_somebody_says_again_stays(
    store: MemoryStore, said: list[Memory]
) -> None:
    [made] = semantic(store)
    for _ in range(2):
        assert store.remember(FACT).id == made.id
    assert [entry.action for entry in store.journal(made.id)] == ["distilled", "stored"]
    for episode in said:
        store.forget(episode.id)
    assert [memory.id for memory in semantic(store)] == [made.id]


def test_a_correction_stays_and_the_distilled_text_goes(
    store: MemoryStore, said: list[Memory]
) -> None:
    [made] = semantic(store)
    corrected = store.correct(made.id, "Caroline gave up painting.")
    for episode in said:
        store.forget(episode.id)
    assert store.get(made.id) is None
    assert [memory.text for memory in store.history(corrected.id)] == [corrected.text]


def test_corrected_episodes_are_sources_through_their_history(
    store: MemoryStore, said: list[Memory]
) -> None:
    [made] = semantic(store)
    newer = [store.correct(episode.id, "Never mind.") for episode in said]
    assert store.get(made.id) is not None
    for id in {memory.id for memory in newer}:
        store.forget(id)
    assert store.get(made.id) is None


def test_a_merged_fact_goes_where_all_it_was_merged_from_goes(store: MemoryStore) -> None:
    for number, text in enumerate((FACT, "Caroline paints the landscapes in oil!")):
        store.remember(text, tier="semantic", tags=[str(number)])
    assert store.consolidate(seconds=10).merged == 1
    [merged] = semantic(store)
    sources = [link.memory.id for link in store.links(merged.id)]
    with store._database.write() as (connection, revision):
        rows = connection.execute(select(MemoryRow.row).where(MemoryRow.id.in_(sources)))
        first, second = rows.scalars().all()
        assert derived.remove_derived_too(connection, [first], revision) == [first]
        assert len(derived.remove_derived_too(connection, [second], revision)) == 2
    assert left(store) == (0, 0, 0)


def test_an_episode_that_was_merged_is_forgotten_through_what_stands_for_it(
    store: MemoryStore,
) -> None:
    texts = ("The quay has seven berths in all", "The quay has seven berths in all.")
    kept = [store.remember(text) for text in texts]
    store.consolidate(seconds=10)
    [merged] = store.list().memories
    with pytest.raises(InvalidRequest, match=merged.id):
        store.forget(kept[0].id)
    assert store.forget(merged.id)
    assert left(store) == (0, 0, 0)
