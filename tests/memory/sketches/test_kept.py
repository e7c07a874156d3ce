from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, update

from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Experience
from ryzanstein.memory.schema import RevisionRow, SketchRow
from ryzanstein.memory.sketches import kept
from ryzanstein.memory.sketches.kept import Sketches, identity
from ryzanstein.memory.store import MemoryStore


def record(store: MemoryStore, task: str, agent: str = "APEX", **fields: object) -> Experience:
    values = {"outcome": "verified", "tools": ["run_python"], **fields}
    return store.record_experience(task=task, agent=agent, **values)  # type: ignore[arg-type]


@pytest.fixture
def database(url: str, store: MemoryStore) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


def caught_up(database: Database) -> Sketches:
    """The sketches of a process that has just started."""
    made = Sketches()
    with database.read() as connection:
        made.catch_up(connection, connection.execute(select(RevisionRow.value)).scalar_one())
    return made


def saved(database: Database) -> int:
    with database.read() as connection:
        query = select(func.count()).select_from(SketchRow)
        return connection.execute(query).scalar_one()


def test_tools_and_different_tasks_are_counted_whoever_wrote_them(
    store: MemoryStore, url: str
) -> None:
    for number in range(6):
        record(store, f"task {number % 3}", "APEX", strategy=f"way {number}")
    with MemoryStore(url) as other:
        record(other, "task 0", "PRISM", tools=["query_sqlite", "run_python"])
        for one in (store, other):
            assert one.tool_uses(["run_python", "query_sqlite", "never"]) == {
                "run_python": 7,
                "query_sqlite": 1,
                "never": 0,
            }
            assert one.distinct_tasks() == {"": 3, "APEX": 3, "PRISM": 1}


def test_an_exact_repeat_is_known_from_any_process_and_anything_else_is_new(
    store: MemoryStore, url: str, database: Database
) -> None:
    one = record(store, "sort it", strategy="quickly")
    with MemoryStore(url) as other:
        again = record(other, "sort it", strategy="Quickly ")
        assert (again.id, other.stats().experiences) == (one.id, 1)
    sketches = caught_up(database)
    key = (one.task, one.agent, one.strategy_key, one.outcome)
    assert not sketches.surely_new(identity(*key))
    assert sketches.surely_new(identity(*key[:3], "failed"))


def test_sketches_are_saved_now_and_then_and_read_by_the_next_process(
    store: MemoryStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_UNSAVED", 4)
    for number in range(4):
        record(store, f"task {number}")
    assert saved(database) == 0
    record(store, "task 4", "PRISM")
    assert saved(database) == 3  # the filter, the counts, the tasks of APEX
    assert caught_up(database).distinct_tasks() == {"": 5, "APEX": 4, "PRISM": 1}


@pytest.mark.parametrize("damage", [b"", b"RZSK", None])
def test_broken_or_missing_sketches_are_counted_again(
    store: MemoryStore, database: Database, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    monkeypatch.setattr(kept, "_UNSAVED", 1)
    for number in range(5):
        record(store, f"task {number}")
    with database.write() as (connection, _):
        broken = update(SketchRow).where(SketchRow.name == "repeats")
        name = {} if damage is not None else {"name": "elsewhere"}
        connection.execute(broken.values(payload=damage or b"", **name))
    sketches = caught_up(database)
    assert sketches.distinct_tasks() == {"": 5, "APEX": 5}
    assert sketches.uses(["tool:run_python"]) == {"tool:run_python": 5}


def test_what_was_forgotten_is_in_no_sketch(
    store: MemoryStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_UNSAVED", 1)
    ids = [record(store, f"task {number}").id for number in range(3)]
    assert saved(database)
    assert store.forget(ids[0]) and not saved(database)
    for sketches in (store, caught_up(database)):
        assert sketches.distinct_tasks() == {"": 2, "APEX": 2}
    assert store.tool_uses(["run_python"]) == {"run_python": 2}


def test_a_full_filter_is_made_anew_for_twice_as_many(
    store: MemoryStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_LEAST_CAPACITY", 4)
    for number in range(20):
        record(store, f"task {number}")
    sketches = caught_up(database)
    wrong = sum(not sketches.surely_new(f"other {number}") for number in range(2_000))
    assert wrong / 2_000 <= 0.02
    assert record(store, "task 3").id == store.find_experiences("task 3")[0].experience.id
    assert store.stats().experiences == 20
