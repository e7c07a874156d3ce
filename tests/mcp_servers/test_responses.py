"""Answers that are kept: found again exactly and by meaning, bounded, and gone in time."""

from __future__ import annotations

import multiprocessing
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.mcp_servers._responses import ResponseCache
from ryzanstein.memory.embed import get_embedder

Answer = Callable[..., Awaitable[dict[str, Any]]]
Fault = Callable[..., Awaitable[dict[str, str]]]
ASKED = "How do I reverse a list in Python?"


def cache(folder: Path, most: int = 1 << 20) -> ResponseCache:
    return ResponseCache(folder / "responses.db", most, get_embedder)


async def test_an_answer_is_found_for_its_prompt_model_and_parameters(answer: Answer) -> None:
    assert (await answer("cache", "lookup_response", prompt=ASKED))["found"] is False
    kept = await answer("cache", "store_response", prompt=ASKED, response="list[::-1]")
    found = await answer("cache", "lookup_response", prompt=ASKED)
    assert (found["id"], found["response"], found["similarity"]) == (kept["id"], "list[::-1]", 1.0)
    for other in ({"model": "another"}, {"parameters": {"temperature": 1}}):
        assert not (await answer("cache", "lookup_response", prompt=ASKED, **other))["found"]
    stats = await answer("cache", "cache_stats")
    assert (stats["responses"], stats["response_hits"], stats["response_misses"]) == (1, 1, 2)


async def test_another_answer_takes_the_place_of_the_old_one(answer: Answer) -> None:
    for text in ("first", "second"):
        kept = await answer("cache", "store_response", prompt=ASKED, response=text)
    assert (await answer("cache", "lookup_response", prompt=ASKED))["response"] == "second"
    gone = await answer("cache", "evict_entries", states=[kept["id"]], place="responses")
    assert gone["states"] == 1
    assert not (await answer("cache", "lookup_response", prompt=ASKED))["found"]


@pytest.mark.parametrize(
    ("kept", "asked", "hit"),
    [
        ("Reverse a list in Python", "Reverse the list in Python", True),
        ("Add 2 and 3", "Add 2 and 4", False),
        ("Is this file safe to delete?", "Is this file not safe to delete?", False),
        ("Convert metres to feet", "Convert feet to metres", False),
        ("What is the capital of France?", "What is the capital of Spain?", False),
    ],
)
def test_only_a_prompt_that_says_the_same_is_answered_alike(
    tmp_path: Path, kept: str, asked: str, hit: bool
) -> None:
    responses = cache(tmp_path)
    responses.store(kept, "answer", "m", {}, 60)
    found = responses.lookup(asked, "m", {}, 0.5)
    assert (found is not None) is hit
    if found is not None:
        assert 0.5 <= found.similarity < 1 and found.prompt == kept
    assert responses.lookup(asked, "m", {}, 1.0) is None


def test_an_answer_goes_when_its_time_is_over(tmp_path: Path) -> None:
    responses = cache(tmp_path)
    responses.store(ASKED, "answer", "m", {}, 0.0)
    assert responses.lookup(ASKED, "m", {}, 0.9) is None
    responses.store("another", "answer", "m", {}, 60)
    assert responses.stats().responses == 1
    assert responses.evict([], 0, None) == [len("anotheranswer") + 512]


def test_what_was_used_the_longest_ago_makes_room(tmp_path: Path) -> None:
    responses = cache(tmp_path, most=4000)
    for name in ("one", "two", "three"):
        responses.store(name, "x" * 700, "m", {}, 60)
    assert responses.lookup("one", "m", {}, 1.0) is not None
    responses.store("four", "x" * 700, "m", {}, 60)
    there = [n for n in ("one", "two", "three", "four") if responses.lookup(n, "m", {}, 1.0)]
    assert there == ["one", "three", "four"]
    with pytest.raises(InvalidRequest, match="larger than the cache"):
        responses.store("five", "x" * 4000, "m", {}, 60)


def test_the_file_is_its_owners_alone_and_begun_anew_when_damaged(tmp_path: Path) -> None:
    responses = cache(tmp_path)
    responses.store(ASKED, "answer", "m", {}, 60)
    assert stat.S_IMODE(responses.path.stat().st_mode) == 0o600
    responses.path.write_bytes(b"no database, and never was" * 100)
    assert responses.lookup(ASKED, "m", {}, 1.0) is None
    responses.store(ASKED, "again", "m", {}, 60)
    found = responses.lookup(ASKED, "m", {}, 1.0)
    assert found is not None and found.response == "again"


def test_a_file_that_is_damaged_in_the_middle_is_begun_anew_too(tmp_path: Path) -> None:
    responses = cache(tmp_path)
    for number in range(20):
        responses.store(f"question {number}", "x" * 1000, "m", {}, 60)
    whole = responses.path.read_bytes()
    for use in (
        lambda: responses.lookup("question 3", "m", {}, 0.9),
        lambda: responses.store("question 3", "answer", "m", {}, 60),
        lambda: responses.evict([], 10, None),
    ):
        responses.path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
        use()
        assert responses.stats().responses <= 1


def test_a_clock_that_goes_back_does_not_make_the_newest_answers_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    responses = cache(tmp_path, most=3000)
    for name in ("one", "two"):
        responses.store(name, "x" * 700, "m", {}, 10_000)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 5000)
    for name in ("three", "four", "five"):
        responses.store(name, "x" * 700, "m", {}, 10_000)
        assert responses.lookup(name, "m", {}, 1.0) is not None
    assert responses.lookup("one", "m", {}, 1.0) is None


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be used") as raised:
        cache(tmp_path / "file").store(ASKED, "answer", "m", {}, 60)
    assert str(tmp_path) not in str(raised.value)


def _stored(folder: Path, name: str) -> None:
    for number in range(20):
        cache(folder).store(f"{name} {number}", "answer", "m", {}, 60)


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_stored, args=(tmp_path, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert cache(tmp_path).stats().responses == 40


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("lookup_response", {"prompt": ""}, "lookup_response: prompt: String should have at least"),
        ("lookup_response", {"prompt": "x", "min_similarity": 0.1}, "lookup_response: min_simil"),
        ("store_response", {"prompt": "x", "response": "y", "ttl_seconds": 0}, "store_response: t"),
        ("store_response", {"prompt": "a\ud800", "response": "y"}, "store_response: prompt: Input"),
        ("store_response", {"prompt": "x"}, "store_response: response: Field required"),
    ],
)
async def test_wrong_arguments_are_refused(
    fault: Fault, tool: str, arguments: dict[str, Any], message: str
) -> None:
    error = await fault("cache", tool, **arguments)
    assert error["code"] == "INVALID_REQUEST" and error["message"].startswith(message)
