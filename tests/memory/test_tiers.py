from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory import policies, tiers
from ryzanstein.memory.records import Draft, Memory
from ryzanstein.memory.rows import load_one, save_standing
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.store import MemoryStore

DAY = timedelta(days=1)


def actions(store: MemoryStore, id: str) -> list[str]:
    return [entry.action for entry in store.journal(id)]


def changed(store: MemoryStore, id: str, change: Callable[[Memory], Memory]) -> None:
    """Puts a memory into a state that would take days to come about."""
    with store._database.write() as (connection, _):
        row, memory = load_one(connection, id)
        save_standing(connection, {row: change(memory)})


def aged(store: MemoryStore, id: str, age: timedelta) -> None:
    changed(store, id, lambda memory: replace(memory, updated=memory.updated - age))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms that are full after a few memories."""
    monkeypatch.setattr(policies, "ROOM", {"short_term": 10, "long_term": 30})
    monkeypatch.setattr(policies, "_SLACK", {"short_term": 2, "long_term": 3})


def test_a_full_short_term_memory_lets_the_weakest_go_to_long_term_memory(
    store: MemoryStore,
) -> None:
    for number in range(105):
        store.remember(f"note {number} about {number * 7}")
    stats = store.stats()
    assert stats.by_tier == {"long_term": 11, "short_term": 94} and stats.archived == 0
    gone = store.list(tier="long_term").memories[0]
    assert gone.archived is None
    assert actions(store, gone.id) == ["stored", "promoted"]
    assert store.journal(gone.id)[1].detail.startswith(
        "short_term to long_term: short_term is full (100); worth keeping"
    )
    assert store.recall(gone.text, limit=1)[0].memory.id == gone.id


@pytest.mark.usefixtures("small")
def test_what_fits_nowhere_is_archived_and_still_there(store: MemoryStore) -> None:
    texts = [f"the word of day {number} is {number**3}" for number in range(80)]
    ids = [store.remember(text).id for text in texts]
    stats = store.stats()
    assert stats.memories == 80 == sum(stats.by_tier.values()) + stats.archived
    assert stats.by_tier["short_term"] <= 10
    assert stats.by_tier["long_term"] <= 30
    assert all(store.get(id) is not None for id in ids)
    archived = store.list(archived=True, limit=100).memories
    assert len(archived) == stats.archived > 35
    assert all(actions(store, one.id)[-1] == "archived" for one in archived)


@pytest.mark.usefixtures("small")
def test_weak_ones_go_from_short_term_memory_to_the_archive(store: MemoryStore) -> None:
    weak = store.remember("perhaps of no use", importance=0.05)
    for number in range(12):
        store.remember(f"something of interest, number {number}")
    found = store.get(weak.id)
    assert found is not None and found.archived is not None and found.tier == "short_term"
    assert "importance 0.05" in store.journal(weak.id)[-1].detail


@pytest.mark.usefixtures("small")
def test_what_is_marked_one_never_leaves_and_takes_no_room(store: MemoryStore) -> None:
    pinned = [store.remember(f"always {number}", importance=1.0).id for number in range(15)]
    for number in range(60):
        store.remember(f"passing thought number {number}")
    for id in pinned:
        memory = store.get(id)
        assert memory is not None and memory.tier == "short_term" and memory.archived is None
    assert store.explain(pinned[0]).next == "stays: marked 1.0"
    store.mark(pinned[0], None)
    assert "to leave short_term" in store.explain(pinned[0]).next
    assert actions(store, pinned[0]) == ["stored", "marked"]


@pytest.mark.usefixtures("small")
def test_episodic_and_semantic_memory_have_no_bound(store: MemoryStore) -> None:
    for tier in ("episodic", "semantic"):
        store.remember_many([Draft(f"{tier} {number}", tier=tier) for number in range(60)])
    stats = store.stats()
    assert stats.by_tier == {"episodic": 60, "semantic": 60} and stats.archived == 0
    assert store.next_out("episodic") == []


@pytest.mark.usefixtures("small")
def test_a_batch_larger_than_the_tiers_is_settled_at_once(store: MemoryStore) -> None:
    kept = store.remember_many([Draft(f"line {number}") for number in range(100)])
    stats = store.stats()
    assert len({memory.id for memory in kept}) == stats.memories == 100
    assert stats.by_tier["short_term"] <= 10
    assert stats.by_tier["long_term"] <= 30


@pytest.mark.usefixtures("small")
def test_an_archived_memory_comes_back_when_it_is_used_found_or_said_again(
    store: MemoryStore,
) -> None:
    ids = []
    for number, word in enumerate(("heron", "walrus", "gecko")):
        ids.append(store.remember(f"the {word} sleeps in room {number}").id)
        changed(store, ids[-1], lambda memory: replace(memory, archived=memory.created))
    store.use([ids[0]])
    found = store.recall("where does the walrus sleep", archived=True, limit=1)
    assert found[0].memory.id == ids[1]
    store.settle()
    assert store.remember("The gecko sleeps in room 2").id == ids[2]
    for id in ids:
        memory = store.get(id)
        assert memory is not None and memory.archived is None
        assert actions(store, id)[-1] == "restored"


def test_finding_a_memory_counts_as_use_and_is_written_later(store: MemoryStore) -> None:
    kept = store.remember("The kettle is in the cupboard")
    store.recall("where is the kettle")
    assert store.get(kept.id) == kept
    store.remember("The teapot is on the shelf")
    used = store.get(kept.id)
    assert used is not None and used.uses == 1 and used.last_used is not None
    assert used.importance > kept.importance


def test_uses_are_written_on_closing_and_by_settling(url: str) -> None:
    with MemoryStore(url) as store:
        kept = store.remember("The kettle is in the cupboard")
        store.recall("where is the kettle")
        assert store.settle() == 0
        store.recall("where is the kettle")
    with MemoryStore(url) as store:
        found = store.get(kept.id)
        assert found is not None and found.uses == 2


def test_uses_of_a_transaction_that_failed_are_counted_by_the_next(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.remember("The kettle is in the cupboard")
    store.recall("where is the kettle")
    with pytest.raises(InvalidRequest):
        store.use(["mem_unknown"])
    store.settle()
    found = store.get(kept.id)
    assert found is not None and found.uses == 1


def test_what_is_used_three_times_is_promoted(store: MemoryStore) -> None:
    kept = store.remember("The kettle is in the cupboard")
    for _ in range(3):
        store.use([kept.id])
    found = store.get(kept.id)
    assert found is not None and found.tier == "long_term"
    assert store.journal(kept.id)[-1].detail == (
        "short_term to long_term: used 3 times, remembered again 0 times"
    )


def test_what_misled_is_demoted_and_then_archived(store: MemoryStore) -> None:
    wrong = store.remember("The bridge is open to lorries", tier="long_term")
    assert store.use([wrong.id], outcome=-1)[0].tier == "short_term"
    for number in range(101):
        store.remember(f"the weather on day {number} was {number * 11} degrees")
    found = store.get(wrong.id)
    assert found is not None and found.archived is not None
    assert actions(store, wrong.id) == ["stored", "demoted", "archived"]
    helped = store.remember("The tunnel is open to lorries")
    assert store.use([helped.id], outcome=1)[0].importance > helped.importance


def test_a_task_that_ends_keeps_what_was_used_and_archives_the_rest(store: MemoryStore) -> None:
    used = store.remember("the parser is in parse.py", task="run_1")
    marked = store.remember("never touch the lock file", task="run_1", importance=0.9)
    spare = store.remember("line 12 looks odd", task="run_1", importance=0.2)
    other = store.remember("line 99 looks odd", task="run_2")
    assert {one.tier for one in (used, marked, spare, other)} == {"working"}
    store.use([used.id])
    assert store.end_task("run_1") == 3
    assert store.end_task("run_1") == 0
    after = {id: store.get(id) for id in (used.id, marked.id, spare.id, other.id)}
    tier = {id: one.tier for id, one in after.items() if one and one.archived is None}
    assert tier == {used.id: "short_term", marked.id: "short_term", other.id: "working"}
    assert actions(store, spare.id) == ["stored", "archived"]


def test_working_memories_are_seen_by_their_task_only(store: MemoryStore) -> None:
    store.remember("the login test is flaky", task="run_1")
    store.remember("the login test takes nine seconds")

    def found(**where: str) -> int:
        return len(store.recall("login test", **where))  # type: ignore[arg-type]

    assert (found(), found(task="run_1"), found(task="run_2")) == (1, 2, 1)
    assert found(tier="working") == 1
    assert len(store.list().memories) == 2


def test_what_two_tasks_remember_is_seen_by_both(store: MemoryStore) -> None:
    store.remember("the login test is flaky", task="run_1")
    store.remember("the login test is flaky", task="run_1")
    assert store.recall("login test") == []
    assert store.remember("the login test is flaky", task="run_2").tier == "short_term"
    for task in ("run_1", "run_2"):
        assert len(store.recall("login test", task=task)) == 1


def test_working_memories_of_a_task_that_never_ended_fade(store: MemoryStore) -> None:
    lost = store.remember("a thought of a run that crashed", task="run_1", importance=0.4)
    fresh = store.remember("a thought of a run that goes on", task="run_2", importance=0.4)
    assert store.settle() == 0
    aged(store, lost.id, DAY)
    assert store.settle() == 1
    found, still = store.get(lost.id), store.get(fresh.id)
    assert found is not None and found.archived is not None
    assert still is not None and still.archived is None


def test_explaining_says_why_how_strong_and_what_next(store: MemoryStore) -> None:
    kept = store.remember("Ada prefers tabs over spaces")
    aged(store, kept.id, DAY)
    standing = store.explain(kept.id)
    assert standing.memory.id == kept.id
    assert standing.strength == pytest.approx(kept.importance / 2, rel=1e-3)
    assert sum(reason.weight for reason in standing.reasons) == pytest.approx(standing.strength)
    assert [reason.kind for reason in standing.reasons] == ["start", "novelty", "age"]
    assert standing.next.startswith("number 1 of 1 to leave short_term once it holds more than 100")
    assert "goes to long_term" in standing.next


def test_explaining_what_is_archived_or_replaced(store: MemoryStore) -> None:
    old = store.remember("The server is called orion")
    new = store.correct(old.id, "The server is called vega")
    assert store.explain(old.id).next.startswith(f"replaced by {new.id}")
    changed(store, new.id, lambda memory: replace(memory, archived=memory.created))
    assert store.explain(new.id).next.startswith("archived; comes back to short_term")
    with pytest.raises(InvalidRequest, match="No memory has the id"):
        store.explain("mem_0")


def test_the_next_to_leave_do_leave_in_that_order(store: MemoryStore) -> None:
    for number in range(100):
        kept = store.remember(f"thing number {number} costs {number * 31} crowns")
        if number % 3 == 0:
            aged(store, kept.id, timedelta(hours=number))
    foreseen = [standing.memory.id for standing in store.next_out("short_term", limit=11)]
    strengths = [standing.strength for standing in store.next_out("short_term", limit=100)]
    assert strengths == sorted(strengths)
    store.remember("one more thing, for free", importance=0.9)
    left = {memory.id for memory in store.list(tier="long_term").memories}
    assert left == set(foreseen)
    assert store.next_out("short_term", limit=1)[0].next.startswith("number 1 of 90 ")


def test_settling_makes_up_for_what_other_hands_left(store: MemoryStore) -> None:
    store.remember_many([Draft(f"note {number}", tier="episodic") for number in range(1_700)])
    with store._database.write() as (connection, _):
        connection.execute(update(MemoryRow).values(tier="short_term", retention=MemoryRow.row))
    assert store.settle(0) == 510 - 10
    assert store.settle(60) == 1_110
    assert store.settle(60) == 0
    assert store.stats().by_tier == {"long_term": 1_610, "short_term": 90}
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidRequest):
            store.settle(wrong)


def write(url: str, name: str, count: int, failed: multiprocessing.Queue[str]) -> None:
    try:
        with MemoryStore(url) as store:
            for number in range(count):
                store.remember(f"{name} writes note {number}")
    except Exception as error:
        failed.put(repr(error))


def test_making_room_looks_into_an_index_and_never_through_the_table(
    sqlite_url: str,
) -> None:
    now = datetime.now(UTC)
    faded = MemoryRow.retention < policies.faded_below("working", now)
    queries = (tiers._COUNT, tiers._WEAKEST.limit(10), tiers._WEAKEST.where(faded).limit(10))
    with MemoryStore(sqlite_url) as store, store._database.read() as connection:
        for query in queries:
            compiled = query.params(tier="short_term").compile(
                connection, compile_kwargs={"literal_binds": True}
            )
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
            steps = " | ".join(step[-1] for step in plan)
            assert "COVERING INDEX ix_memories_retention (tier=? AND retention" in steps
            assert "SCAN" not in steps and "TEMP B-TREE" not in steps


def test_several_processes_settle_one_store_and_lose_nothing(url: str) -> None:
    MemoryStore(url).close()
    spawn = multiprocessing.get_context("spawn")
    failed = spawn.Queue()
    writers = [spawn.Process(target=write, args=(url, name, 80, failed)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failed.empty()
    with MemoryStore(url) as store:
        stats = store.stats()
        assert stats.memories == 240 and stats.by_tier["short_term"] <= 100
        moved = store.list(tier="long_term", limit=1_000).memories
        assert all(actions(store, memory.id) == ["stored", "promoted"] for memory in moved)


def test_threads_that_use_and_write_at_once_lose_no_use(store: MemoryStore) -> None:
    kept = store.remember("The kettle is in the cupboard", tier="episodic")

    def work(name: str) -> None:
        for number in range(10):
            store.recall("where is the kettle", tier="episodic")
            store.remember(f"{name} drank cup {number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.settle()
    found = store.get(kept.id)
    assert found is not None and found.uses == 30


def test_a_read_only_store_is_searched_and_counts_nothing(sqlite_url: str) -> None:
    with MemoryStore(sqlite_url) as store:
        kept = store.remember("Whales are mammals")
    path = sqlite_url.removeprefix("sqlite:///")
    with MemoryStore(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert store.recall("are whales mammals")[0].memory.id == kept.id
        assert len(store._facts.tiers.uses) == 1
    with MemoryStore(sqlite_url) as store:
        found = store.get(kept.id)
        assert found is not None and found.uses == 0


def test_moves_in_a_transaction_that_fails_are_undone(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        store.remember(f"note {number}")

    def broken(*arguments: object) -> None:
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patched:
        patched.setattr(tiers.journal, "write_each", broken)
        with pytest.raises(RuntimeError):
            store.remember("one too many")
    assert store.stats().by_tier == {"short_term": 100}
    assert store.list(since=datetime.now(UTC) - DAY, limit=200).cursor is None


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), st.none() | st.sampled_from([0.1, 0.5, 1.0])),
        st.tuples(st.just("note"), st.sampled_from(["run_1", "run_2"])),
        st.tuples(st.just("use"), st.integers(0, 99), st.sampled_from([None, -1.0, 1.0])),
        st.tuples(st.just("end"), st.sampled_from(["run_1", "run_2"])),
        st.tuples(st.just("forget"), st.integers(0, 99)),
        st.tuples(st.just("settle")),
    ),
    max_size=40,
)


@pytest.mark.usefixtures("small")
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS)
def test_whatever_happens_nothing_is_lost_and_no_tier_overflows(
    steps: list[tuple[Any, ...]],
) -> None:
    ids: list[str] = []
    with MemoryStore("sqlite://") as store:
        for number, (step, *rest) in enumerate(steps * 2):
            if step == "remember":
                ids.append(store.remember(f"thing {number}", importance=rest[0]).id)
            elif step == "note":
                ids.append(store.remember(f"thing {number}", task=rest[0]).id)
            elif step == "use" and ids:
                store.use([ids[rest[0] % len(ids)]], outcome=rest[1])
            elif step == "forget" and ids:
                assert store.forget(ids.pop(rest[0] % len(ids)))
            elif step == "end":
                store.end_task(rest[0])
            elif step == "settle":
                store.settle()
        assert_sound(store, ids)


def assert_sound(store: MemoryStore, ids: list[str]) -> None:
    memories = {memory.id: memory for memory in store.list(limit=1_000).memories}
    assert set(memories) == set(ids)
    held = Counter(m.tier for m in memories.values() if policies.retention(m) is not None)
    assert all(held[tier] <= room for tier, room in policies.ROOM.items())
    for memory in memories.values():
        last = [entry.action for entry in store.journal(memory.id) if entry.action != "marked"][-1]
        assert (memory.archived is not None) == (last == "archived")
        assert memory.archived is None or memory.mark != 1.0
        assert memory == policies.weighed(memory)
    with store._database.read() as connection:
        for id, order in connection.execute(select(MemoryRow.id, MemoryRow.retention)):
            assert order == pytest.approx(policies.retention(memories[id]))


@pytest.mark.parametrize("tier", ["", "longterm", "SEMANTIC"])
def test_tiers_that_are_none_are_refused(store: MemoryStore, tier: str) -> None:
    for call in (
        lambda: store.remember("text", tier=tier),
        lambda: store.recall("text", tier=tier),
        lambda: store.list(tier=[tier]),
        lambda: store.next_out(tier),
    ):
        with pytest.raises(InvalidRequest, match="is no tier"):
            call()
    with pytest.raises(InvalidRequest, match="belongs to a task"):
        store.remember("text", tier="working")
