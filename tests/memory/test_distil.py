"""Semantic records from facts that several episodes repeat, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ryzanstein.memory.distil import facts_of
from ryzanstein.memory.records import Memory
from ryzanstein.memory.store import MemoryStore

FACT = "Caroline paints landscapes in oil."


def say(store: MemoryStore, text: str, session: str | None, **more: object) -> Memory:
    fields: dict[str, object] = {"tier": "episodic", "conversation": "talks", "session": session}
    return store.remember(text, **{**fields, **more})  # type: ignore[arg-type]


def semantic(store: MemoryStore) -> list[Memory]:
    return list(store.list(limit=100, tier="semantic").memories)


def sources(store: MemoryStore, id: str) -> set[str]:
    return {link.memory.id for link in store.links(id) if link.kind == "distilled_from"}


def test_what_three_sessions_repeat_becomes_one_semantic_record(store: MemoryStore) -> None:
    said = [
        say(store, FACT, "1", tags=("art", "may"), speaker="Mel"),
        say(store, f"Hello again! {FACT}", "2", tags=("art",), speaker="Mel", turn=1),
        say(store, "Caroline really paints landscapes in oil.", "3", tags=("art",), speaker="Mel"),
    ]
    report = store.consolidate(seconds=10)
    assert (report.distilled, report.done) == (1, True)
    [made] = semantic(store)
    assert made.text == "Caroline really paints landscapes in oil."
    assert (made.tags, made.speaker, made.reinforced) == (("art",), "Mel", 2)
    assert sources(store, made.id) == {memory.id for memory in said}
    assert [entry.action for entry in store.journal(made.id)] == ["distilled"]
    for episode in said:
        assert store.get(episode.id) == episode
        assert store.journal(episode.id)[-1].detail == f"into {made.id}"
    assert made.id in {hit.memory.id for hit in store.recall("what does Caroline paint?")}


@pytest.mark.parametrize(
    "sessions",
    [("1", "1", "1"), ("1", "2", "2"), ("1", "2")],
    ids=["one session", "two sessions", "twice"],
)
def test_fewer_than_three_sessions_make_no_fact(
    store: MemoryStore, sessions: tuple[str, ...]
) -> None:
    for turn, session in enumerate(sessions):
        say(store, FACT, session, turn=turn)
    assert store.consolidate(seconds=10).distilled == 0


def test_episodes_without_a_session_count_by_their_day(store: MemoryStore) -> None:
    for day in (1, 2, 3):
        words = "really " * day
        happened = datetime(2025, 6, day, tzinfo=UTC)
        store.remember(f"Caroline {words}paints in oil.", tier="episodic", happened=happened)
    assert store.consolidate(seconds=10).distilled == 1


def test_a_later_episode_is_linked_to_the_record_that_is_there(store: MemoryStore) -> None:
    for session in "123":
        say(store, FACT, session, turn=int(session))
    store.consolidate(seconds=10)
    [made] = semantic(store)
    later = say(store, "Caroline actually paints landscapes in oil.", "4")
    assert store.consolidate(seconds=10).distilled == 0
    assert semantic(store) == [made]
    assert later.id in sources(store, made.id)


def test_a_corrected_fact_is_not_distilled_again(store: MemoryStore) -> None:
    for session in "123":
        say(store, FACT, session, turn=int(session))
    store.consolidate(seconds=10)
    [made] = semantic(store)
    store.correct(made.id, "Caroline gave up painting.")
    say(store, FACT, "4", turn=4)
    assert store.consolidate(seconds=10).distilled == 0
    assert [memory.text for memory in semantic(store)] == ["Caroline gave up painting."]


def test_what_one_says_of_oneself_is_no_fact_about_another_speaker(store: MemoryStore) -> None:
    for turn, speaker in enumerate(("Mel", "Mel", "Caroline")):
        say(store, "I paint landscapes in oil.", str(turn), speaker=speaker, turn=turn)
    assert store.consolidate(seconds=10).distilled == 0
    say(store, "I paint landscapes in oil.", "4", speaker="Mel", turn=4)
    assert store.consolidate(seconds=10).distilled == 1
    [made] = semantic(store)
    assert (made.speaker, made.context, made.reinforced) == ("Mel", "Mel", 2)


def test_episodes_of_two_agents_are_two_memories(store: MemoryStore) -> None:
    for session, agent in (("1", "APEX"), ("2", "APEX"), ("3", "CIPHER")):
        say(store, FACT, session, agent=agent)
    assert store.consolidate(seconds=10).distilled == 0


def test_a_dry_run_distils_nothing(store: MemoryStore) -> None:
    for session in "123":
        say(store, FACT, session, turn=int(session))
    assert store.consolidate(seconds=10, dry_run=True).distilled == 1
    assert semantic(store) == []
    assert store.consolidate(seconds=10).distilled == 1


def test_forgetting_an_episode_takes_only_its_link(store: MemoryStore) -> None:
    said = [say(store, FACT, session, turn=int(session)) for session in "123"]
    store.consolidate(seconds=10)
    [made] = semantic(store)
    assert store.forget(said[0].id)
    assert sources(store, made.id) == {said[1].id, said[2].id}


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (f"Hi! {FACT} Do you paint?", [FACT]),
        ("Thanks for the lovely evening, Mel!", []),
        ("He paints landscapes in oil.", []),
        ("It is a painting of a landscape.", []),
        ("Caroline will paint the landscape.", []),
        ("Caroline painted a landscape yesterday.", []),
        ("See you tomorrow in Paris!", []),
        ("Nice.", []),
        ("Way to go with the shop, Jon!", []),
        ("Caroline, the painting is lovely.", []),
        ("Long time no talk!", []),
        ("Believe in yourself and keep going.", []),
        ("I like strong coffee, tea and milk.", ["I like strong coffee, tea and milk."]),
        ("Deploys run every Friday.", ["Deploys run every Friday."]),
        ("Caroline runs v1.2.3 of the app. Her port is 80.", ["Caroline runs v1.2.3 of the app."]),
        ("Caroline " + "very " * 100 + "often paints.", []),
    ],
)
def test_only_sentences_that_state_a_fact_by_themselves_count(text: str, facts: list[str]) -> None:
    assert facts_of(text) == facts
