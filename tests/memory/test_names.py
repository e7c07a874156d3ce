"""Names that begin so, and what other processes changed, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.store import MemoryStore


def test_names_come_newest_or_most_used_first_in_any_case(store: MemoryStore) -> None:
    first = store.remember("The cat is grey.", tags=("Pets", "home"))
    second = store.remember("The dog is in the garden.", tags=("pets_2", "home"))
    assert store.names("memory", "MEM_") == ([second.id, first.id], 2)
    assert store.names("memory", "mem_", limit=1) == ([second.id], 2)
    assert store.names("tag") == (["home", "Pets", "pets_2"], 3)
    assert store.names("tag", "pets") == (["Pets", "pets_2"], 2)
    for wild in ("%", "pets%", "_", "pets\0", "'; drop table memories"):
        assert store.names("tag", wild) == ([], 0)
    store.correct(second.id, "The dog is in the house.")
    assert second.id not in store.names("memory")[0]


@pytest.mark.parametrize(("what", "limit"), [("secret", 1), ("tag", 0), ("tag", 1001)])
def test_what_has_no_names_is_refused(store: MemoryStore, what: Any, limit: int) -> None:
    with pytest.raises(InvalidRequest):
        store.names(what, "", limit)


def test_the_newest_experiences_are_listed(store: MemoryStore) -> None:
    ids = [
        store.record_experience(task=f"task {number}", agent="APEX", outcome="verified").id
        for number in range(3)
    ]
    assert [one.id for one in store.list_experiences(2)] == [ids[2], ids[1]]
    with pytest.raises(InvalidRequest):
        store.list_experiences(0)


def test_only_what_others_changed_is_told_and_once(url: str) -> None:
    with MemoryStore(url) as mine, MemoryStore(url) as others:
        changes = mine.changes_of_others()
        mine.remember("Written here.")
        assert changes.look() is None
        fact = others.remember("Written elsewhere.")
        mine.remember("Written here again.")
        others.runs.save("count", id="run-1")
        told = changes.look()
        assert told is not None
        assert (told.memories, told.experiences, told.runs) == ((fact.id,), (), ("run-1",))
        assert changes.look() is None
        others.forget(fact.id)
        gone = changes.look()
        assert gone is not None and gone.memories == ()
