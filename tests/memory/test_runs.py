from __future__ import annotations

import pytest
from sqlalchemy import update

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.records import RunTaken
from ryzanstein.memory.schema import RunRow
from ryzanstein.memory.store import MemoryStore


def test_a_run_survives_the_process_and_can_be_updated(url: str) -> None:
    with MemoryStore(url) as store:
        run = store.runs.save("count to ten", id="run_mine", result={"steps": ["one"]})
        assert run.status == "running"
    with MemoryStore(url) as store:
        done = store.runs.update(
            "run_mine", status="done", agent="APEX", model="m", result={"answer": "ten\ud800"}
        )
        assert done.result == {"steps": ["one"], "answer": "ten\ud800"}
        assert store.runs.get("run_mine") == done
        assert done.created == run.created and done.updated > run.updated


def test_runs_are_listed_newest_first(store: MemoryStore) -> None:
    ids = [store.runs.save(f"task {number}").id for number in range(5)]
    store.runs.update(ids[0], status="failed")
    assert [run.id for run in store.runs.list(limit=3)] == ids[:1:-1]
    assert [run.id for run in store.runs.list(status="failed")] == ids[:1]


def test_runs_since_a_moment_are_counted_without_their_answers(url: str) -> None:
    error = {"code": "TIMEOUT", "message": "\ud800"}
    with MemoryStore(url) as store:
        store.runs.save("old", id="run_0")
        first = store.runs.save("one", id="run_1")
        store.runs.update("run_1", result={"verified": True, "tokens": 3, "answer": "x" * 9000})
        store.runs.save(
            "two", id="run_2", result={"verified": None, "seconds": 1.5, "error": error}
        )
        found = store.runs.since(first.created)
        assert [run.id for run in found] == ["run_2", "run_1"]
        none = dict.fromkeys(("verified", "tokens", "seconds", "error"))
        assert found[0].result == {**none, "seconds": 1.5, "error": error}
        assert found[1].result == {**none, "verified": True, "tokens": 3}
        assert found[1].result["verified"] is True


@pytest.mark.parametrize("text", ["no json", "[]", "null", ""])
def test_a_run_whose_result_is_damaged_is_listed_with_the_others(url: str, text: str) -> None:
    with MemoryStore(url) as store:
        run = store.runs.save("one", id="run_1")
        with store._database.write() as (connection, _):
            connection.execute(update(RunRow).values(result=text))
        store.runs.save("two", id="run_2")
        kept = store.runs.list()[1]
        assert kept.result["error"]["message"] == "What came of this run is damaged."
        assert [one.id for one in store.runs.since(run.created)] == ["run_2", "run_1"]
        assert store.runs.update("run_1", result={"answer": "x"}).result["answer"] == "x"


def test_wrong_runs_are_refused(store: MemoryStore) -> None:
    store.runs.save("task", id="run_1")
    with pytest.raises(InvalidRequest, match="already"):
        store.runs.save("task", id="run_1")
    with pytest.raises(InvalidRequest, match="No run"):
        store.runs.update("run_2", status="done")
    with pytest.raises(InvalidRequest, match="no status"):
        store.runs.update("run_1", status="finished")
    with pytest.raises(InvalidRequest, match="no JSON"):
        store.runs.update("run_1", result={"bad": float("nan")})
    assert store.runs.get("run_2") is None


def test_a_run_keeps_its_state_for_whoever_goes_on_with_it(url: str) -> None:
    with MemoryStore(url) as store:
        store.runs.save("count", id="run_1", owner="a:1", checkpoint={"steps": []})
        store.runs.update("run_1", checkpoint={"steps": ["one"]})
    with MemoryStore(url) as store:
        assert store.runs.checkpoint("run_1") == {"steps": ["one"]}
        with pytest.raises(InvalidRequest, match="under way"):
            store.runs.claim("run_1", "b:2")
        assert store.runs.interrupt("run_1", "z:9", result={}).status == "running"
        gone = store.runs.interrupt("run_1", "a:1", result={"error": "gone"})
        assert (gone.status, gone.result) == ("interrupted", {"error": "gone"})
        taken = store.runs.claim("run_1", "b:2")
        assert (taken.status, taken.owner) == ("running", "b:2")
        with pytest.raises(InvalidRequest, match="under way"):
            store.runs.claim("run_1", "c:3")
        assert store.runs.interrupt("run_1", "a:1", result={}).status == "running"
        store.runs.update("run_1", status="done")
        with pytest.raises(InvalidRequest, match="is done"):
            store.runs.claim("run_1", "c:3")


def test_a_run_is_asked_to_stop_until_somebody_goes_on_with_it(url: str) -> None:
    with MemoryStore(url) as store, MemoryStore(url) as other:
        first = store.runs.save("count", id="run_1", owner="a:1")
        assert not store.runs.stopping("run_1")
        assert other.runs.ask_to_stop("run_1")
        assert store.runs.stopping("run_1")
        beaten = store.runs.beat("run_1", "a:1", result={"events": ["one"]})
        assert beaten.stopping and beaten.result == {"events": ["one"]}
        assert first.seen is not None and beaten.seen is not None and beaten.seen > first.seen
        store.runs.update("run_1", status="cancelled")
        assert not other.runs.ask_to_stop("run_1")
        assert not other.runs.claim("run_1", "b:2").stopping
        with pytest.raises(InvalidRequest, match="No run"):
            store.runs.ask_to_stop("run_2")
        with pytest.raises(InvalidRequest, match="No run"):
            store.runs.checkpoint("run_2")


def test_who_lost_a_run_to_another_process_writes_to_it_no_more(store: MemoryStore) -> None:
    store.runs.save("count", id="run_1", owner="a:1")
    store.runs.update("run_1", result={"events": ["one"]}, owner="a:1")
    store.runs.interrupt("run_1", "a:1", result={})
    taken = store.runs.claim("run_1", "b:2")
    with pytest.raises(RunTaken, match="Another process goes on with the run run_1"):
        store.runs.beat("run_1", "a:1")
    with pytest.raises(RunTaken):
        store.runs.update("run_1", status="done", result={"answer": "mine"}, owner="a:1")
    assert store.runs.get("run_1") == taken
    assert store.runs.update("run_1", status="done", owner="b:2").status == "done"


@pytest.mark.parametrize("text", ["{", "[1]", ""])
def test_what_a_run_left_may_be_damaged(store: MemoryStore, text: str) -> None:
    store.runs.save("count", id="run_1", status="failed", checkpoint={"state": None})
    with store.runs._database.write() as (connection, _):
        connection.execute(update(RunRow).values(checkpoint=text))
    with pytest.raises(InvalidRequest, match="is damaged"):
        store.runs.checkpoint("run_1")
