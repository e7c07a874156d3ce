"""What is found and why: neighbours, speakers, times, filters, corrections, contradictions."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from ryzanstein.memory.records import Draft, Hit
from ryzanstein.memory.store import MemoryStore

NOW = datetime.now(UTC)
TALK = [
    ("Ines", "Morning! Did you sleep well?"),
    ("Joao", "What did you name the sailing boat in the end?"),
    ("Ines", "Marisol, after my aunt who taught me everything."),
    ("Joao", "Lovely. The weather turns tomorrow."),
    ("Ines", "Then I will stay at home and bake."),
    ("Joao", "Save me a slice, please."),
]


def told(hit: Hit) -> dict[str, str]:
    return {reason.kind: reason.detail for reason in hit.reasons}


def remember_talk(store: MemoryStore, name: str = "talk", session: str = "one") -> None:
    store.remember_many(
        [
            Draft(
                text=said,
                kind="turn",
                tier="episodic",
                speaker=who,
                context=who,
                conversation=name,
                session=session,
                turn=number,
                happened=NOW - timedelta(days=30),
            )
            for number, (who, said) in enumerate(TALK)
        ]
    )


def test_an_answer_is_found_by_the_question_before_it(store: MemoryStore) -> None:
    remember_talk(store)
    store.remember("The sailing club opens in May")
    found = store.recall("what is the name of the sailing boat of Ines?", limit=3)
    answer = next(hit for hit in found if hit.memory.text.startswith("Marisol"))
    assert {"neighbours", "speaker", "substance"} <= told(answer).keys()
    assert answer.memory.turn == 2


def test_neighbours_count_within_their_session_only(store: MemoryStore) -> None:
    remember_talk(store)
    store.remember_many(
        [
            Draft(text="Marisol is a fine name", conversation="talk", session="two", turn=6),
            Draft(text="Bread rises overnight", conversation="talk", session="two", turn=7),
        ]
    )
    found = store.recall("Save me a slice", limit=10)
    assert all(hit.memory.turn != 6 or hit.similarity > 0.1 for hit in found)
    assert found[0].memory.text == "Save me a slice, please."


def test_the_passages_of_a_document_stand_for_themselves(store: MemoryStore) -> None:
    text = "# Boats\n\nThe sailing boat lies at the pier.\n\n# Aunts\n\nMarisol taught me to knit."
    store.import_document(text, source="notes.md")
    remember_talk(store)
    found = store.recall("what is the name of the sailing boat?", limit=10)
    passages = [hit for hit in found if hit.memory.kind == "passage"]
    assert passages and all("neighbours" not in told(hit) for hit in passages)
    assert "pier" in passages[0].memory.text


def test_the_reasons_of_every_hit_add_up_to_its_score(store: MemoryStore) -> None:
    remember_talk(store)
    for number in range(30):
        store.remember(f"Boat number {number} is moored at pier {number % 7}")
    for query in ("the name of the boat", "boats last month", "Ines", "pier 3 yesterday"):
        found = store.recall(query, limit=20)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        for hit in found:
            assert sum(reason.weight for reason in hit.reasons) == pytest.approx(hit.score)
            assert all(reason.detail for reason in hit.reasons)


def test_a_time_in_the_query_lifts_what_happened_then(store: MemoryStore) -> None:
    for year in range(2015, 2022):
        moment = datetime(year, 6, 5, tzinfo=UTC)
        store.remember(f"Summer party number {year - 2000} at the lake", happened=moment)
    best = store.recall("summer party at the lake in June 2018")[0]
    assert best.memory.happened == datetime(2018, 6, 5, tzinfo=UTC)
    assert "time" in told(best)
    assert "time" not in told(store.recall("summer party at the lake")[0])


def test_the_reference_of_last_year_is_the_moment_asked_for(store: MemoryStore) -> None:
    for year in range(2015, 2022):
        moment = datetime(year, 6, 5, tzinfo=UTC)
        store.remember(f"Summer party number {year - 2000} at the lake", happened=moment)
    at = datetime(2020, 3, 1, tzinfo=UTC)
    best = store.recall("summer party at the lake last year", at=at)[0]
    assert best.memory.happened == datetime(2019, 6, 5, tzinfo=UTC)


def test_a_filter_holds_before_the_search(store: MemoryStore) -> None:
    for number in range(300):
        store.remember(f"Server {number} is called heron-{number}", agent="APEX", tier="episodic")
    rare = store.remember("Herons nest in tall trees", agent="BETA", tags=["birds"])
    query = "Server 12 is called heron-12"
    assert store.recall(query, tags=["birds"])[0].memory.id == rare.id
    assert [hit.memory.id for hit in store.recall(query, agent="BETA")] == [rare.id]
    assert len(store.recall(query, agent="APEX", limit=80)) == 80
    assert all(hit.memory.agent == "APEX" for hit in store.recall(query, agent="APEX", limit=80))
    assert store.recall(query, source="nowhere.md") == []


def test_turns_around_a_hit_meet_the_filter_too(store: MemoryStore) -> None:
    remember_talk(store)
    remember_talk(store, name="other")
    found = store.recall("the sailing boat", conversation="other", limit=20)
    assert found and {hit.memory.conversation for hit in found} == {"other"}


def test_the_present_version_is_found_behind_many_old_ones(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.memory.search._MATCHED", 20)
    memory = store.remember("zygote counter stands at 0")
    store.remember("An unrelated note on rye bread")
    for number in range(1, 60):
        memory = store.correct(memory.id, f"zygote counter stands at {number}")
    best = store.recall("zygote counter")[0]
    assert best.memory.id == memory.id
    assert told(best)["words"] != "no words in common"


def test_a_hit_tells_what_it_replaced_and_what_contradicts_it(store: MemoryStore) -> None:
    old = store.remember("The staging database is called orion")
    new = store.correct(old.id, "The staging database is called lyra")
    hit = store.recall("what is the staging database called")[0]
    assert hit.memory.id == new.id
    assert told(hit)["correction"] == f"took the place of {old.id}"
    other = store.remember("The deploy window opens at 9 on Tuesday")
    against = store.remember("The deploy window opens at 11 on Tuesday")
    store.consolidate(seconds=20)
    first = store.recall("when does the deploy window open on Tuesday")[:2]
    said = {hit.memory.id: told(hit)["contradiction"] for hit in first}
    assert said == {
        other.id: f"contradicts {against.id}",
        against.id: f"contradicts {other.id}",
    }


def test_what_was_replaced_since_is_found_where_it_held(store: MemoryStore) -> None:
    store.remember("The kitchen is on the third floor")
    store.remember("The office opens at nine", valid_from=NOW + timedelta(days=1))
    old = store.remember("The office is in Berlin")
    similarity = store.recall("where is the office")[0].similarity
    times = [datetime.now(UTC)]
    middle = store.correct(old.id, "The office is in Munich")
    times.append(datetime.now(UTC))
    new = store.correct(middle.id, "The office is in Bonn")

    def first(at: datetime | None) -> Hit:
        found = store.recall("where is the office", at=at)
        said = [hit.memory.id for hit in found]
        assert len({old.id, middle.id, new.id}.intersection(said)) == 1
        assert not any("nine" in hit.memory.text for hit in found)
        for hit in found:
            assert sum(reason.weight for reason in hit.reasons) == pytest.approx(hit.score)
        return found[0]

    best = first(times[0])
    assert best.memory.id == old.id and best.similarity == pytest.approx(similarity, abs=1e-6)
    assert told(best)["replaced"] == f"was replaced by {middle.id} since"
    best = first(times[1])
    assert best.memory.id == middle.id
    assert told(best)["correction"] == f"took the place of {old.id}"
    for at in (None, datetime.now(UTC)):
        assert first(at).memory.id == new.id and "replaced" not in told(first(at))


def test_what_held_is_found_through_what_replaced_it(store: MemoryStore) -> None:
    old = store.remember("The dog is a lazy hound", agent="APEX")
    at = datetime.now(UTC)
    new = store.correct(old.id, "The dog is a friendly puppy")
    assert store.recall("canine pet", agent="APEX")[0].memory.id == new.id
    (found,) = store.recall("canine pet", at=at, agent="APEX")
    assert found.memory.id == old.id
    assert store.recall("canine pet", at=at, kind="note") == []
    store.forget(new.id)
    assert store.recall("canine pet", at=at) == []


def test_the_version_that_held_is_found_among_many(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.memory.search._MATCHED", 20)
    memory = store.remember("zygote counter stands at 0")
    for number in range(1, 60):
        if number == 30:
            held, at = memory.id, datetime.now(UTC)
        memory = store.correct(memory.id, f"zygote counter stands at {number}")
    (found,) = store.recall("zygote counter", at=at)
    assert found.memory.id == held


def test_the_sources_of_a_merge_are_found_where_they_held(store: MemoryStore) -> None:
    texts = ["The staging database is called heron.", "the staging database is called: heron"]
    sources = {store.remember(text).id for text in texts}
    at = datetime.now(UTC)
    assert store.consolidate(seconds=20).merged == 1
    (merged,) = store.recall("staging database")
    assert {hit.memory.id for hit in store.recall("staging database", at=at)} == sources
    assert {memory.id for memory in store.list(at=at).memories} == sources
    (now,) = store.recall("staging database", at=datetime.now(UTC))
    assert now.memory.id == merged.memory.id


def test_an_earlier_state_of_a_document_is_found(store: MemoryStore) -> None:
    def state(*lines: str) -> datetime:
        store.import_document("\n\n".join(f"# {line}\n\n{line}." for line in lines), source="a.md")
        return datetime.now(UTC)

    first = state("The gate opens at nine", "The gate is painted green")
    second = state("The gate opens at ten")
    for at, expected in ((first, {"nine", "green"}), (second, {"ten"}), (None, {"ten"})):
        found = store.recall("the gate", at=at)
        assert {hit.memory.text.rstrip(".").split()[-1] for hit in found} == expected


def test_a_text_of_frequent_words_is_found_by_itself_however_old(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.memory.fulltext._RANKED", 100)
    names = ("red", "green", "blue", "grey", "black", "white", "brown", "pink")
    texts = [" ".join(order) for order in itertools.islice(itertools.permutations(names, 5), 600)]
    oldest = "the red parrot greets the blue captain"
    newer = [f"the blue captain greets parrot {text} red" for text in texts]
    store.remember_many([Draft(text, tier="semantic") for text in (oldest, *newer)])
    (first, *_) = store.recall(oldest, limit=3)
    assert first.memory.text == oldest
    assert not any(str(reason).startswith("no words") for reason in first.reasons)
