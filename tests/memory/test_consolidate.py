"""Merges, contradictions, their links and their undoing, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.consolidate import _compare
from ryzanstein.memory.records import Memory
from ryzanstein.memory.store import MemoryStore

MEAT = "Tom doesn't eat meat."
MEAT_AGAIN = "Tom does not eat any meat."
PAIR = ("The build takes 25 minutes.", "The build takes really 25 minutes.")


def current(store: MemoryStore) -> dict[str, Memory]:
    return {memory.text: memory for memory in store.list(limit=100).memories}


def linked(store: MemoryStore, id: str) -> set[tuple[str, str]]:
    return {(link.kind, link.memory.id) for link in store.links(id)}


def actions(store: MemoryStore, id: str) -> list[str]:
    return [entry.action for entry in store.journal(id)]


@pytest.fixture
def merged(store: MemoryStore) -> tuple[MemoryStore, Memory, Memory, Memory]:
    one = store.remember(PAIR[0], tags=("build",), source="log", importance=0.8)
    other = store.remember(PAIR[1], tags=("time",))
    report = store.consolidate(seconds=10)
    assert (report.merged, report.contradictions, report.done) == (1, 0, True)
    return store, one, other, current(store)[PAIR[1]]


def test_two_that_say_the_same_become_a_version_with_the_newest_text(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, one, other, new = merged
    assert new.id not in (one.id, other.id)
    assert list(current(store)) == [PAIR[1]]
    assert (new.tags, new.source, new.mark) == (("build", "time"), "log", 0.8)
    assert (new.reinforced, new.created) == (1, one.created)


def test_a_merge_keeps_its_sources_in_the_history_with_links_and_journal(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, one, other, new = merged
    assert [memory.text for memory in store.history(new.id)] == [*PAIR, PAIR[1]]
    assert linked(store, new.id) == {("merged_from", one.id), ("merged_from", other.id)}
    for source in (one, other):
        kept = store.get(source.id)
        assert kept is not None
        assert (kept.superseded_by, kept.text) == (new.id, source.text)
        assert actions(store, source.id)[-1] == "merged"
    assert actions(store, new.id) == ["merged"]


def test_a_merged_memory_is_found_once(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, *_, new = merged
    hits = store.recall("how long does the build take?")
    assert [hit.memory.id for hit in hits] == [new.id]
    assert hits[0].similarity > 0.5


def test_looking_again_changes_nothing(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, *_, new = merged
    report = store.consolidate(seconds=10)
    assert (report.merged, report.proposed, report.done) == (0, 0, True)
    assert list(current(store).values()) == [new]


def test_a_merge_can_be_undone_and_is_not_made_again(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, one, other, new = merged
    store.use([new.id], outcome=1.0)
    restored = store.unmerge(new.id)
    assert [memory.id for memory in restored] == [one.id, other.id]
    assert set(current(store)) == set(PAIR)
    assert (restored[0].tags, restored[1].tags) == (("build",), ("time",))
    assert (restored[1].uses, restored[0].uses) == (1, 0)
    assert [memory.valid_until for memory in restored] == [None, None]
    assert actions(store, one.id)[-1] == "unmerged"
    assert {hit.memory.id for hit in store.recall("build minutes")} == {one.id, other.id}
    # Other thresholds start the walk anew.
    store.calibrate(labelled())
    assert store.consolidate(seconds=10).merged == 0
    assert set(current(store)) == set(PAIR)


def labelled() -> list[dict[str, object]]:
    names = [f"{first}{second}" for first in "BDKLMR" for second in ("ana", "ino", "ula", "est")]
    same = [{"a": f"{n} likes tea.", "b": f"{n} really likes tea", "same": True} for n in names]
    return same + [
        {"a": f"{n} likes tea.", "b": f"{m} sold a red car.", "same": False}
        for n, m in zip(names, names[1:] + names[:1], strict=True)
    ]


def test_what_was_said_again_while_it_was_merged_stays_one_after_undoing(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, one, _, new = merged
    again = store.remember(PAIR[0])
    assert again.id != one.id
    store.unmerge(new.id)
    assert current(store)[PAIR[0]].id == again.id
    assert [memory.id for memory in store.history(again.id)] == [one.id, again.id]


def test_forgetting_a_merged_memory_forgets_its_sources(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, one, other, new = merged
    assert store.forget(new.id)
    assert [store.get(id) for id in (new.id, one.id, other.id)] == [None, None, None]


def test_a_source_is_not_forgotten_while_the_merged_memory_says_the_same(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, one, other, new = merged
    for source in (one, other):
        with pytest.raises(InvalidRequest, match=f"merged into {new.id}"):
            store.forget(source.id)
    store.unmerge(new.id)
    assert store.forget(other.id)
    assert [memory.text for memory in store.list().memories] == [one.text]
    assert store.get(new.id) is None and len(store.history(one.id)) == 1


@pytest.mark.parametrize(
    ("id", "says"), [("mem_none", "No memory has the id"), (None, "was not merged")]
)
def test_what_was_not_merged_cannot_be_taken_apart(
    store: MemoryStore, id: str | None, says: str
) -> None:
    plain = store.remember(MEAT)
    with pytest.raises(InvalidRequest, match=says):
        store.unmerge(id or plain.id)


def test_a_merge_that_was_corrected_since_is_not_undone(
    merged: tuple[MemoryStore, Memory, Memory, Memory],
) -> None:
    store, *_, new = merged
    store.correct(new.id, "The build takes 30 minutes.")
    with pytest.raises(InvalidRequest, match="was replaced already"):
        store.unmerge(new.id)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The port of the staging server is 8080.", "The port of the staging server is 9090."),
        ("Anna likes strong black coffee.", "Anna no longer likes strong black coffee."),
        ("The shop in the old town is open.", "The shop in the old town is closed."),
    ],
)
def test_contradictions_are_kept_linked_marked_and_told(
    store: MemoryStore, one: str, other: str
) -> None:
    old, new = store.remember(one), store.remember(other)
    assert store.consolidate(seconds=10).contradictions == 1
    assert set(current(store)) == {one, other}
    assert linked(store, new.id) == {("contradicts", old.id)}
    assert linked(store, old.id) == {("contradicts", new.id)}
    for memory in (old, new):
        assert actions(store, memory.id)[-1] == "contradicted"
    reasons = [str(reason) for hit in store.recall(one, limit=2) for reason in hit.reasons]
    assert any(f"contradicts {old.id}" in reason for reason in reasons)
    assert any(f"contradicts {new.id}" in reason for reason in reasons)


def test_the_journal_of_a_contradiction_holds_no_text_of_the_other_memory(
    store: MemoryStore,
) -> None:
    old = store.remember("The password of the old router is kestrel42.")
    new = store.remember("The password of the old router is falcon17.")
    assert store.consolidate(seconds=10).contradictions == 1
    assert store.forget(old.id)
    assert "kestrel" not in " ".join(entry.detail for entry in store.journal(new.id))
    assert linked(store, new.id) == set()


def test_a_contradiction_stays_known_when_one_side_is_merged(store: MemoryStore) -> None:
    against = store.remember("The build takes 40 minutes.")
    store.remember(PAIR[0])
    store.consolidate(seconds=10)
    store.remember(PAIR[1])
    assert store.consolidate(seconds=10).merged == 1
    new = current(store)[PAIR[1]]
    assert ("contradicts", against.id) in linked(store, new.id)


def test_what_held_at_different_times_does_not_contradict(store: MemoryStore) -> None:
    turn = datetime(2025, 6, 1, tzinfo=UTC)
    store.remember("The port of the server is 8080.", valid_until=turn)
    store.remember("The port of the server is 9090.", valid_from=turn)
    assert store.consolidate(seconds=10).contradictions == 0


@pytest.mark.parametrize(
    "differently",
    [
        {"agent": "APEX"},
        {"kind": "preference"},
        {"speaker": "Anna"},
        {"happened": datetime(2025, 6, 1, tzinfo=UTC)},
        {"valid_from": datetime(2025, 6, 1, tzinfo=UTC)},
        {"tier": "episodic"},
        {"tier": "working", "task": "t1"},
        {"conversation": "c1", "turn": 3, "tier": "semantic"},
        {"place": "page 3"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_memories_of_another_scope_or_time_are_never_merged(
    store: MemoryStore, differently: dict[str, object]
) -> None:
    store.remember(PAIR[0])
    store.remember(PAIR[1], **differently)  # type: ignore[arg-type]
    assert store.consolidate(seconds=10).merged == 0


def test_a_crowd_of_other_agents_hides_nothing(store: MemoryStore) -> None:
    store.remember(PAIR[0], agent="APEX")
    for number in range(40):
        store.remember(PAIR[0], agent=f"OTHER-{number}")
    store.remember(PAIR[1], agent="APEX")
    assert store.consolidate(seconds=30).merged == 1


def test_three_that_say_the_same_become_one(store: MemoryStore) -> None:
    for words in ("", "really ", "actually "):
        store.remember(f"The build takes {words}25 minutes.")
    assert store.consolidate(seconds=10).merged >= 1
    assert list(current(store)) == ["The build takes actually 25 minutes."]
    newest = next(iter(current(store).values()))
    assert newest.reinforced == 2
    assert len(store.history(newest.id)) >= 4


def test_a_dry_run_counts_and_changes_nothing(store: MemoryStore) -> None:
    for text in (*PAIR, "The build takes 40 minutes."):
        store.remember(text)
    before = current(store)
    report = store.consolidate(seconds=10, dry_run=True)
    assert (report.merged, report.contradictions, report.done) == (1, 2, True)
    assert current(store) == before
    assert store.consolidate(seconds=10).merged == 1


def test_near_texts_that_differ_are_listed_with_the_reason(store: MemoryStore) -> None:
    one = store.remember("Anna bought 3 red apples at the market.")
    other = store.remember("Anna bought 5 red apples at the market.")
    assert store.consolidate(seconds=10).proposed == 1
    [proposal] = store.proposals()
    assert (proposal.memory.id, proposal.other.id) == (other.id, one.id)
    assert proposal.verdict == "differs"
    assert proposal.reasons == ("numbers differ: 5 / 3",)
    assert proposal.similarity > 0.75


def test_a_slice_of_no_time_looks_at_four_memories_and_the_next_goes_on(
    store: MemoryStore,
) -> None:
    for number in range(6):
        store.remember(f"Room {number} has {number + 2} windows.")
    for text in PAIR:
        store.remember(text)
    reports = [store.consolidate(seconds=0) for _ in range(4)]
    assert [report.looked_at for report in reports] == [4, 4, 1, 0]
    assert [report.done for report in reports] == [False, False, False, True]
    assert sum(report.merged for report in reports) == 1


def test_another_process_goes_on_where_the_first_one_stopped(url: str) -> None:
    with MemoryStore(url) as first:
        for number in range(10):
            first.remember(f"Room {number} has {number + 2} windows.")
        assert first.consolidate(seconds=0).looked_at == 4
        with MemoryStore(url) as second:
            report = second.consolidate(seconds=20)
            assert (report.looked_at, report.done) == (6, True)


def test_two_stores_with_the_same_plan_merge_once(url: str) -> None:
    with MemoryStore(url) as first, MemoryStore(url) as second:
        for text in PAIR:
            first.remember(text)
        look = second._upkeep._consolidation
        limits = look.thresholds()
        found = [
            (row, memory, _compare(row, memory, near, limits).same)
            for batch in look._after(0, limits.proposes)
            for row, memory, near in batch
        ]
        assert first.consolidate(seconds=10).merged == 1
        assert [look._merge(row, memory, same) for row, memory, same in found if same] == [False]
        assert len(current(second)) == 1


def test_merging_is_undone_whole_when_it_fails_in_the_middle(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in PAIR:
        store.remember(text)

    def fails(*arguments: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr("ryzanstein.memory.merges._inherit_contradictions", fails)
        with pytest.raises(RuntimeError):
            store.consolidate(seconds=10)
    assert set(current(store)) == set(PAIR)
    assert store.consolidate(seconds=10).merged == 1


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_slice_must_have_a_length(store: MemoryStore, seconds: float) -> None:
    with pytest.raises(InvalidRequest, match="The time is"):
        store.consolidate(seconds=seconds)


def test_the_thresholds_are_the_defaults_until_they_are_measured(store: MemoryStore) -> None:
    limits = store.thresholds()
    assert (limits.proposes, limits.merges, limits.pairs) == (0.75, 0.90, 0)
    measured = store.calibrate(labelled())
    assert store.thresholds() == measured
    assert measured.pairs == 48


def test_the_walk_sees_what_is_added_behind_it(store: MemoryStore) -> None:
    store.remember(PAIR[0])
    assert store.consolidate(seconds=10).done
    store.remember(PAIR[1])
    assert store.consolidate(seconds=10).merged == 1


def test_the_newest_text_is_kept_whatever_the_order_of_the_rows(store: MemoryStore) -> None:
    newer, older = store.remember(PAIR[1]), store.remember(PAIR[0])
    assert older.created - newer.created < timedelta(minutes=1)
    assert store.consolidate(seconds=10).merged == 1
    assert list(current(store)) == [PAIR[0]]
