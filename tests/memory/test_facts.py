from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import MAX_TEXT, checked_text, cleaned
from ryzanstein.memory.records import Draft, Memory
from ryzanstein.memory.store import MemoryStore

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def texts(memories: tuple[Memory, ...]) -> list[str]:
    return [memory.text for memory in memories]


def test_every_field_comes_back_as_it_was_given(store: MemoryStore) -> None:
    kept = store.remember(
        "Ann moved to Oslo",
        kind="event",
        tier="episodic",
        agent="APEX",
        tags=["home", "ann"],
        source="chat.json",
        place="D1:3",
        speaker="Ann",
        context="Monday, about her move",
        importance=0.8,
        happened=datetime(2023, 5, 8, 14, tzinfo=timezone(timedelta(hours=2))),
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
        conversation="conv-1",
        session="session_2",
        turn=3,
        task="run_7",
    )
    assert store.get(kept.id) == kept
    assert kept.tags == ("ann", "home") and kept.mark == kept.importance == 0.8
    assert kept.happened == datetime(2023, 5, 8, 12, tzinfo=UTC)
    assert (kept.uses, kept.outcome, kept.archived) == (0, 0.0, None)


def test_many_are_stored_at_once_or_none(store: MemoryStore) -> None:
    drafts = [Draft("one"), Draft("two", agent="APEX"), Draft("ONE"), Draft("three")]
    kept = store.remember_many(drafts)
    assert [memory.text for memory in kept] == ["one", "two", "one", "three"]
    assert kept[0].id == kept[2].id and kept[0].reinforced == 1
    with pytest.raises(InvalidRequest, match="Draft 1: The text is empty"):
        store.remember_many([Draft("four"), Draft(" ")])
    assert store.stats().memories == 3
    assert store.remember_many([]) == []


def test_the_same_words_at_another_turn_are_another_memory(store: MemoryStore) -> None:
    drafts = [Draft("Hi!", tier="episodic", conversation="c1", turn=turn) for turn in (0, 4)]
    first = store.remember_many(drafts)
    again = store.remember_many(drafts)
    assert first[0].id != first[1].id
    assert [memory.id for memory in again] == [memory.id for memory in first]
    assert store.remember("Hi!").id not in {memory.id for memory in first}


def test_novelty_is_the_distance_to_what_is_known(store: MemoryStore) -> None:
    first = store.remember("The staging database is called orion")
    close = store.remember("The staging database is named orion")
    far = store.remember("Bananas are rich in potassium")
    assert first.novelty == 1.0
    assert close.novelty < 0.4 < far.novelty
    assert close.importance < far.importance


def test_novelty_is_known_to_a_store_that_was_just_opened(url: str) -> None:
    with MemoryStore(url) as store:
        store.remember("The staging database is called orion")
    with MemoryStore(url) as store:
        assert store.remember("The staging database is named orion").novelty < 0.4


def test_what_does_not_hold_now_is_left_out_unless_asked_for(store: MemoryStore) -> None:
    store.remember("Ann lives in Bergen", valid_until=NOW - 10 * DAY)
    store.remember("Ann lives in Oslo", valid_from=NOW - 10 * DAY, valid_until=NOW + 10 * DAY)
    store.remember("Ann lives in Rome", valid_from=NOW + 10 * DAY)

    def where(at: datetime | None) -> set[str]:
        return {hit.memory.text.split()[-1] for hit in store.recall("where lives Ann", at=at)}

    assert where(None) == {"Oslo"}
    assert where(NOW - 20 * DAY) == {"Bergen"}
    assert where(NOW + 20 * DAY) == {"Rome"}
    assert len(store.list().memories) == 3
    assert texts(store.list(at=NOW).memories) == ["Ann lives in Oslo"]


def test_what_had_ended_holds_again_when_it_is_said_again(store: MemoryStore) -> None:
    old = store.remember("Ann is on holiday", valid_until=NOW - DAY)
    assert store.recall("is Ann on holiday") == []
    again = store.remember("Ann is on holiday")
    assert (again.id, again.valid_until) == (old.id, None)
    assert store.recall("is Ann on holiday")[0].memory.id == old.id


def test_a_correction_ends_the_old_version_when_the_new_one_begins(store: MemoryStore) -> None:
    old = store.remember("The office is in Bergen", importance=0.9, valid_until=NOW + 99 * DAY)
    new = store.correct(old.id, "The office is in Oslo", since=NOW - 3 * DAY)
    assert new.valid_from == NOW - 3 * DAY and new.valid_until == NOW + 99 * DAY
    assert new.mark == 0.9 and new.reinforced == 0
    before = store.history(new.id)[0]
    assert before.id == old.id and before.valid_until == new.valid_from
    assert texts(store.list(at=NOW - 5 * DAY).memories) == ["The office is in Bergen"]
    assert texts(store.list(at=NOW).memories) == ["The office is in Oslo"]
    assert texts(store.list().memories) == ["The office is in Oslo"]
    assert [entry.action for entry in store.journal(old.id)] == ["stored", "superseded"]
    assert store.journal(new.id)[1].detail == f"replaces {old.id}"


def test_a_correction_cannot_begin_later_so_that_nothing_holds_until_then(
    store: MemoryStore,
) -> None:
    old = store.remember("The office is in Bergen")
    with pytest.raises(InvalidRequest, match="until then"):
        store.correct(old.id, "The office is in Oslo", since=datetime.now(UTC) + DAY)
    assert texts(store.list().memories) == ["The office is in Bergen"]


def test_a_correction_cannot_begin_before_what_it_corrects(store: MemoryStore) -> None:
    old = store.remember("The office is in Bergen", valid_from=NOW - DAY)
    with pytest.raises(InvalidRequest, match="holds only from"):
        store.correct(old.id, "The office is in Oslo", since=NOW - 2 * DAY)
    assert store.get(old.id) == old


def test_forgetting_leaves_no_row_anywhere(store: MemoryStore) -> None:
    old = store.remember("Her number is 555 0100", tags=["phone"])
    new = store.correct(old.id, "Her number is 555 0199")
    store.use([new.id], outcome=1)
    kept = store.remember("Tea is at five")
    assert store.forget(new.id)
    with store._database.read() as connection:
        for table in ("memories", "embeddings", "journal"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 1
        for table in ("memory_tags", "memory_links"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
    assert texts(store.list().memories) == [kept.text]
    with pytest.raises(InvalidRequest, match="No memory has the id"):
        store.journal(new.id)


def test_a_journal_never_holds_what_was_said(store: MemoryStore) -> None:
    old = store.remember("the secret is xylophone", tier="working", task="run_1")
    new = store.correct(old.id, "the secret is zeppelin")
    store.use([new.id], outcome=-1)
    store.end_task("run_1")
    store.mark(new.id, 1.0)
    lines = " ".join(e.detail for id in (old.id, new.id) for e in store.journal(id))
    assert "xylophone" not in lines and "zeppelin" not in lines


def test_archived_memories_are_deleted_only_by_saying_so(store: MemoryStore) -> None:
    kept = store.remember("worth keeping", task="run_1", importance=0.9)
    old = store.remember("a passing thought", task="run_1", importance=0.1)
    new = store.correct(old.id, "another passing thought")
    store.end_task("run_1")
    assert store.stats().archived == 1
    assert store.forget_archived(before=NOW - DAY) == 0
    assert store.forget_archived() == 1
    assert store.get(new.id) is None and store.get(old.id) is None
    assert store.get(kept.id) is not None


def test_a_list_is_read_page_by_page_while_others_write(store: MemoryStore) -> None:
    store.remember_many([Draft(f"note {number}") for number in range(25)])
    seen: list[str] = []
    cursor = None
    while True:
        page = store.list(limit=10, cursor=cursor)
        seen += texts(page.memories)
        store.remember(f"late note {len(seen)}")
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [f"note {number}" for number in reversed(range(25))]
    assert store.list(limit=10, cursor="1").memories == ()


def test_a_list_takes_the_filters_of_a_search(store: MemoryStore) -> None:
    long_ago = datetime(2023, 5, 8, tzinfo=UTC)
    store.remember("a", tier="episodic", happened=long_ago, conversation="c1", turn=0)
    store.remember("b", tags=["x", "y"], source="book")
    store.remember("c", tags=["x"], kind="preference", agent="APEX", tier="semantic")

    def found(**where: object) -> str:
        return "".join(texts(store.list(**where).memories))  # type: ignore[arg-type]

    assert found() == "cba"
    assert found(tags=["x"]) == "cb" and found(tags=["y", "x"]) == "b"
    assert found(tier=["episodic", "semantic"]) == "ca" and found(tier="episodic") == "a"
    assert found(kind="preference") == "c" and found(source="book") == "b"
    assert found(agent="FLUX") == "ba" and found(agent="APEX") == "cba"
    assert found(conversation="c1") == "a" and found(conversation="c2") == ""
    assert found(until=NOW - DAY) == "a" and found(since=NOW - DAY) == "cb"
    assert found(since=long_ago, until=long_ago + DAY) == "a"
    assert found(archived=True) == "" and found(archived=False) == "cba"


def test_filters_hold_in_a_search_too(store: MemoryStore) -> None:
    long_ago = datetime(2023, 5, 8, tzinfo=UTC)
    store.remember("deploy on friday", tier="episodic", happened=long_ago, conversation="c1")
    store.remember("deploy on monday", source="handbook")

    def found(**where: object) -> list[str]:
        return [hit.memory.text for hit in store.recall("deploy day", **where)]  # type: ignore[arg-type]

    assert found(until=NOW - DAY) == found(conversation="c1") == ["deploy on friday"]
    assert found(tier=["short_term"]) == found(source="handbook") == ["deploy on monday"]
    assert found(archived=True) == []


WRONG_TIMES = {
    "no zone": datetime(2024, 1, 1),
    "far future": NOW + 40_000 * DAY,
    "before year 1": datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    "after year 9999": datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
}


@pytest.mark.parametrize("moment", WRONG_TIMES.values(), ids=WRONG_TIMES)
@pytest.mark.parametrize("field", ["happened", "valid_from", "valid_until"])
def test_times_that_cannot_be_are_refused(store: MemoryStore, field: str, moment: datetime) -> None:
    with pytest.raises(InvalidRequest, match=f"`{field}` is"):
        store.remember("text", **{field: moment})  # type: ignore[arg-type]
    assert store.stats().memories == 0


def test_times_that_contradict_each_other_are_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidRequest, match="not after"):
        store.remember("text", valid_from=NOW, valid_until=NOW)
    with pytest.raises(InvalidRequest, match="not before"):
        store.list(since=NOW, until=NOW - DAY)
    for field in ("since", "until", "at"):
        naive = {field: datetime(2024, 1, 1)}
        with pytest.raises(InvalidRequest, match="no time with a zone"):
            store.list(**naive)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest, match="no time with a zone"):
            store.recall("text", **naive)  # type: ignore[arg-type]


def test_times_long_ago_are_fine(store: MemoryStore) -> None:
    for year in (1, 1066, 1969):
        kept = store.remember(f"year {year}", happened=datetime(year, 6, 1, tzinfo=UTC))
        assert store.get(kept.id) == kept


CONTROL = {
    "NUL": "a\x00b",
    "escape": "a\x1b[2Jb",
    "bell": "a\x07b",
    "delete": "a\x7fb",
    "C1 introducer": "a\x9b2Jb",
    "surrogate": "a\ud800b",
}


@pytest.mark.parametrize("wrong", CONTROL.values(), ids=CONTROL)
def test_control_characters_are_refused_wherever_they_are(store: MemoryStore, wrong: str) -> None:
    kept = store.remember("fine")
    calls: list[Callable[[], object]] = [
        lambda: store.remember(wrong),
        lambda: store.correct(kept.id, wrong),
        *(
            (lambda field=field: store.remember("text", **{field: wrong}))  # type: ignore[misc]
            for field in ("source", "place", "speaker", "context", "conversation", "session")
        ),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert caught.value.hint
    assert store.stats().memories == 1


def test_white_space_of_every_kind_is_text(store: MemoryStore) -> None:
    spaced = "a\tb\nc\r\nd\x0ce\x0bf\x85g\u2028h"
    assert store.remember(spaced).text == spaced


@given(st.text(st.characters(codec=None), max_size=40))
def test_what_is_cleaned_can_be_stored(text: str) -> None:
    fixed = cleaned(text)
    if fixed:
        assert checked_text(fixed, "text") == fixed


def test_terminal_escapes_are_cleaned_away_whole() -> None:
    assert cleaned("\x1b[1;31merror\x1b[0m: \x07no\x00pe") == "error: no\N{REPLACEMENT CHARACTER}pe"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"text": "x" * (MAX_TEXT + 1)}, "at most 1,000,000"),
        ({"text": "x" * 10_000_000}, "at most 1,000,000"),
        ({"text": 5}, "no text but int"),
        ({"importance": 1.5}, "importance is 1.5"),
        ({"importance": float("nan")}, "importance is nan"),
        ({"kind": "two words"}, "cannot be a kind"),
        ({"agent": ""}, "cannot be a codename"),
        ({"tags": ["a b"]}, "cannot be a tag"),
        ({"tags": [str(number) for number in range(33)]}, "33 tags are too many"),
        ({"turn": -1}, "turn is -1"),
        ({"turn": 2**31}, "turn is 2147483648"),
        ({"speaker": "x" * 121}, "speaker has 121"),
        ({"conversation": "x" * 81}, "conversation has 81"),
        ({"session": " "}, "session is empty"),
        ({"task": ""}, "task is empty"),
        ({"place": "x" * 4_001}, "place has 4,001"),
    ],
)
def test_fields_out_of_bounds_are_named(
    store: MemoryStore, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says):
        store.remember(**{"text": "fine", **arguments})  # type: ignore[arg-type]
    assert store.stats().memories == 0


def test_unknown_ids_and_wrong_numbers_are_named_and_change_nothing(store: MemoryStore) -> None:
    kept = store.remember("fine")
    calls: dict[str, Callable[[], object]] = {
        "No memory has the id 'mem_0'": lambda: store.use([kept.id, "mem_0"]),
        "0 ids": lambda: store.use([]),
        "outcome is 2": lambda: store.use([kept.id], outcome=2),
        "outcome is nan": lambda: store.use([kept.id], outcome=float("nan")),
        "importance is -1": lambda: store.mark(kept.id, -1),
        "limit is 0": lambda: store.list(limit=0),
        "limit is 1001": lambda: store.next_out("short_term", limit=1001),
        "'x' is no cursor": lambda: store.list(cursor="x"),
        "is no cursor": lambda: store.list(cursor="9" * 40),
        "The query is empty": lambda: store.recall(" "),
    }
    for says, call in calls.items():
        with pytest.raises(InvalidRequest, match=says):
            call()
    assert store.get(kept.id) == kept
    assert store.get("mem_0") is None and store.history("mem_0") == []
    assert store.forget("mem_0") is False
    replaced = store.correct(kept.id, "better")
    for call in (lambda: store.use([kept.id]), lambda: store.mark(kept.id, 1.0)):
        with pytest.raises(InvalidRequest, match=f"Use {replaced.id}"):
            call()


def test_what_is_said_again_without_a_time_holds_now(store: MemoryStore) -> None:
    later = store.remember("Office closed", valid_from=NOW + 10 * DAY, valid_until=NOW + 20 * DAY)
    assert store.recall("is the office closed?") == []
    now = store.remember("office closed")
    assert now.id == later.id and now.valid_until == later.valid_until
    assert now.valid_from is not None and NOW <= now.valid_from <= datetime.now(UTC)
    assert [hit.memory for hit in store.recall("is the office closed?")] == [now]
    assert store.list(at=NOW - DAY).memories == ()


def test_times_that_are_said_again_never_end_before_they_begin(store: MemoryStore) -> None:
    store.remember("Office closed", valid_from=NOW, valid_until=NOW + DAY)
    moved = store.remember("Office closed", valid_from=NOW + 5 * DAY)
    assert (moved.valid_from, moved.valid_until) == (NOW + 5 * DAY, None)
    ended = store.remember("Office closed", valid_until=NOW - DAY)
    assert (ended.valid_from, ended.valid_until) == (None, NOW - DAY)
