"""Words are found alike on every database."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import ColumnElement

from ryzanstein.memory import fulltext
from ryzanstein.memory.fulltext import full_text_of
from ryzanstein.memory.records import Draft
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.spaces import EXPERIENCES, MEMORIES, Space
from ryzanstein.memory.store import MemoryStore
from ryzanstein.memory.text import terms

TEXTS = (
    "The barges were running late on the river",
    "Café opening hours of the naïve waiter",
    "Call connect_retry_limit in client.py, line 42",
    "Mail ops@example.com about build v2.10.3",
    "The river, the quay and the crane",
)


def found(
    store: MemoryStore,
    query: str,
    limit: int = 10,
    where: Sequence[ColumnElement[bool]] = (),
    space: Space = MEMORIES,
) -> dict[int, float]:
    with store._database.read() as connection:
        search = full_text_of(store._database).search
        return search(connection, space, terms(query), limit, where)


@pytest.fixture
def filled(store: MemoryStore) -> MemoryStore:
    store.remember_many([Draft(one) for one in TEXTS])
    return store


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("run barge", {1}),
        ("cafe NAIVE", {2}),
        ("cafe\N{COMBINING ACUTE ACCENT}", {2}),
        ("connect_retry_limit", {3}),
        ("example.com", {4}),
        ("42", {3}),
        ("rivers", {1, 5}),
        ("submarine", set()),
        ('\' OR "x" & ! : * ( ) <->', set()),
    ],
)
def test_stems_accents_names_and_numbers_are_found(
    filled: MemoryStore, query: str, rows: set[int]
) -> None:
    scores = found(filled, query)
    assert set(scores) == rows and all(score > 0 for score in scores.values())


def test_letters_that_fold_into_several_are_found(store: MemoryStore) -> None:
    store.remember("Zur Schloßstraße sind es drei Haltestellen")
    assert set(found(store, "SCHLOßSTRAßE")) == set(found(store, "Schloßstraße")) == {1}


def test_a_rare_word_counts_for_more_than_a_frequent_one(store: MemoryStore) -> None:
    store.remember_many([Draft(f"the harbour has berth {number}") for number in range(30)])
    store.remember("an otter in the reeds")
    assert next(iter(found(store, "harbour otter"))) == 31


def test_the_context_counts_for_less_than_the_text(store: MemoryStore) -> None:
    store.remember_many(
        [Draft("nothing of interest here", context="heron"), Draft("heron of interest here")]
    )
    first, second = found(store, "heron").items()
    assert (first[0], second[0]) == (2, 1) and first[1] > second[1]


def test_conditions_and_the_limit_hold(filled: MemoryStore) -> None:
    assert set(found(filled, "river", where=[MemoryRow.row > 1])) == {5}
    assert len(found(filled, "river", limit=1)) == 1


def test_what_changed_or_went_is_found_by_its_new_words_only(filled: MemoryStore) -> None:
    old = filled.list(limit=10).memories[0]
    new = filled.correct(old.id, "The river and the gantry")
    live = [MEMORIES.live]
    assert set(found(filled, "crane", where=live)) == set()
    assert set(found(filled, "gantry", where=live)) == {6}
    assert filled.forget(new.id)
    assert found(filled, "gantry") == {} and found(filled, "crane") == {}


def test_experiences_are_found_by_task_and_lesson(store: MemoryStore) -> None:
    store.record_experience(
        task="Moor the ferry", agent="APEX", outcome="verified", fitness=1.0, lesson="Use fenders"
    )
    assert set(found(store, "mooring", space=EXPERIENCES)) == {1}
    assert set(found(store, "fender", space=EXPERIENCES)) == {1}


def test_words_that_all_are_frequent_are_looked_for_in_the_newest_rows(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulltext, "_RANKED", 20)
    monkeypatch.setattr(fulltext, "_READ", 5)
    store.remember_many([Draft(f"harbour berth {number}") for number in range(40)])
    assert set(found(store, "harbour berth")) <= {36, 37, 38, 39, 40}
    assert len(found(store, "harbour berth")) == 5
    assert next(iter(found(store, "harbour 7"))) == 8


def test_an_unknown_word_does_not_hide_what_frequent_ones_find(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulltext, "_RANKED", 20)
    store.remember_many([Draft(f"harbour berth {number}") for number in range(40)])
    assert len(found(store, "harbour zeppelin")) == len(found(store, "harbour")) > 0


def test_conditions_hold_before_the_newest_rows_are_chosen(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulltext, "_RANKED", 20)
    monkeypatch.setattr(fulltext, "_READ", 5)
    store.remember("harbour berth", kind="note")
    store.remember_many([Draft(f"harbour berth {number}") for number in range(40)])
    assert set(found(store, "harbour", where=[MemoryRow.kind == "note"])) == {1}


@pytest.mark.parametrize("text", ["a1 " * 300_000, "é" * 999_999, "𝔘x " * 300_000, "ﷺ " * 400_000])
def test_very_long_texts_are_kept_and_their_beginning_is_found(
    store: MemoryStore, text: str
) -> None:
    kept = store.remember(f"otter {text}"[:1_000_000])
    assert set(found(store, "otter")) == {1}
    assert store.get(kept.id) == kept
