from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.store import MemoryStore, open_store


def test_a_question_in_other_words_finds_the_memory_and_says_why(store: MemoryStore) -> None:
    kept = store.remember("The staging database is called orion", tags=["db"])
    store.remember("Bananas are rich in potassium")
    store.remember("Ada prefers tabs over spaces")
    hit = store.recall("what is the name of the database in staging?")[0]
    assert hit.memory == kept
    kinds = {reason.kind for reason in hit.reasons}
    assert kinds == {"meaning", "words", "importance", "recency"}
    assert sum(reason.weight for reason in hit.reasons) == pytest.approx(hit.score)


def test_an_identifier_is_found_by_its_letters_where_meaning_does_not_help(
    store: MemoryStore,
) -> None:
    for number in range(60):
        store.remember(f"Ticket QX-{7000 + number} is about login trouble of customer {number}")
    assert "QX-7042" in store.recall("QX-7042")[0].memory.text


def test_nothing_is_found_where_nothing_fits(store: MemoryStore) -> None:
    store.remember("Bananas are rich in potassium")
    assert store.recall("kubernetes ingress certificate renewal") == []


def test_the_same_text_again_reinforces_and_says_so(store: MemoryStore) -> None:
    first = store.remember("The sky is blue", tags=["sky"], importance=0.4)
    again = store.remember("the sky  is BLUE", tags=["colour"], source="window")
    assert (again.id, again.reinforced, again.text) == (first.id, 1, "The sky is blue")
    assert again.importance > first.importance
    assert again.tags == ("colour", "sky") and again.source == "window"
    assert store.stats().memories == 1


def test_the_same_text_of_another_agent_or_kind_is_another_memory(store: MemoryStore) -> None:
    ids = {
        store.remember("Use tabs").id,
        store.remember("Use tabs", agent="APEX").id,
        store.remember("Use tabs", kind="preference").id,
    }
    assert len(ids) == 3


def test_filters_hold_before_the_search(store: MemoryStore) -> None:
    store.remember("deploy on friday", agent="FLUX", tags=["ops", "rule"])
    store.remember("deploy on monday", agent="APEX", tags=["ops"])
    store.remember("deploy on tuesday", kind="event", tags=["ops", "rule"])

    def texts(**filters: object) -> set[str]:
        return {hit.memory.text for hit in store.recall("deploy day", **filters)}  # type: ignore[arg-type]

    assert texts(agent="FLUX") == {"deploy on friday", "deploy on tuesday"}
    assert texts(tags=["ops", "rule"]) == {"deploy on friday", "deploy on tuesday"}
    assert texts(kind="event") == {"deploy on tuesday"}
    assert texts(kind="nothing") == set()


def test_a_correction_replaces_and_keeps_the_history(store: MemoryStore) -> None:
    old = store.remember("The server is called orion", tags=["ops"])
    new = store.correct(old.id, "The server is called vega")
    newest = store.correct(new.id, "The server is called rigel")
    assert newest.tags == ("ops",)
    assert [hit.memory.id for hit in store.recall("how is the server called")] == [newest.id]
    history = store.history(newest.id)
    assert [one.text.split()[-1] for one in history] == ["orion", "vega", "rigel"]
    assert [one.superseded_by for one in history] == [new.id, newest.id, None]
    with pytest.raises(InvalidRequest, match="replaced already"):
        store.correct(old.id, "The server is called deneb")


def test_what_was_replaced_can_be_remembered_anew(store: MemoryStore) -> None:
    old = store.remember("The server is called orion")
    store.correct(old.id, "The server is called vega")
    back = store.remember("The server is called orion")
    assert back.id != old.id and back.reinforced == 0


def test_a_correction_to_a_text_that_is_there_joins_it(store: MemoryStore) -> None:
    wrong = store.remember("Tea at four")
    right = store.remember("Tea at five")
    assert store.correct(wrong.id, "tea at FIVE").id == right.id
    assert store.correct(right.id, "tea at five").id == right.id
    assert store.stats().memories == 1


def test_forgetting_takes_the_older_versions_along(store: MemoryStore) -> None:
    old = store.remember("Her number is 555 0100")
    new = store.correct(old.id, "Her number is 555 0199")
    assert store.forget(new.id)
    assert store.get(new.id) is None and store.get(old.id) is None
    assert store.recall("her number") == []
    assert not store.forget(new.id)


def test_forgotten_words_are_nowhere_in_the_files(sqlite_url: str, tmp_path: Path) -> None:
    store = MemoryStore(sqlite_url)
    for number in range(40):
        store.remember(f"Harmless note number {number}")
    secret = store.remember("The password of the vault is xylophonezebra", tags=["vaulttag"])
    store.recall("password of the vault")
    assert store.forget(secret.id)
    store.close()
    left = b"".join(path.read_bytes() for path in tmp_path.glob("memory.db*"))
    assert b"xylophonezebra" not in left and b"xylophonez" not in left
    assert b"Harmless note number 39" in left


@pytest.mark.parametrize("text", ["", "  \n ", "a\x00b", "\ud800", "x" * 1_000_001])
def test_texts_that_cannot_be_kept_are_refused(store: MemoryStore, text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        store.remember(text)
    assert caught.value.hint
    assert store.stats().memories == 0


def test_names_numbers_and_limits_out_of_bounds_are_refused(store: MemoryStore) -> None:
    for arguments in ({"kind": "two words"}, {"tags": [""]}, {"importance": float("nan")}):
        with pytest.raises(InvalidRequest):
            store.remember("fine", **arguments)  # type: ignore[arg-type]
    for query, limit in (("", 5), ("fine", 0), ("fine", 1001)):
        with pytest.raises(InvalidRequest):
            store.recall(query, limit=limit)
    with pytest.raises(InvalidRequest, match="No memory has the id"):
        store.correct("mem_0", "text")


def test_a_very_long_query_and_operators_of_the_query_language_are_plain_text(
    store: MemoryStore,
) -> None:
    kept = store.remember("NEAR the bridge AND the mill")
    for query in ('bridge" OR *', "NEAR(bridge mill)", "text: bridge -mill ^", "bridge " * 40_000):
        assert store.recall(query)[0].memory.id == kept.id
    assert store.recall('"()*^') == []


def test_texts_in_any_script_are_kept_and_found(store: MemoryStore) -> None:
    for text in ("Der Schlüssel liegt unter der Matte", "密码是四个苹果", "مفتاح الباب", "🔑 door"):
        kept = store.remember(text)
        assert store.recall(text)[0].memory.id == kept.id


def test_another_store_on_the_same_database_sees_every_change(url: str, store: MemoryStore) -> None:
    with MemoryStore(url) as other:
        first = store.remember("Lions live in prides")
        assert other.recall("how do lions live")[0].memory == first
        second = other.correct(first.id, "Lions live in prides of fifteen")
        assert [hit.memory for hit in store.recall("how do lions live")] == [second]
        other.forget(second.id)
        assert store.recall("how do lions live") == []


def test_the_default_store_is_in_the_data_directory(isolated_home: Path) -> None:
    with open_store() as opened:
        opened.remember("something")
    assert (isolated_home / "data" / "ryzanstein.db").is_file()


def test_stats_count_what_is_there(store: MemoryStore) -> None:
    old = store.remember("one", kind="event")
    store.correct(old.id, "two")
    store.record_experience(task="do it", agent="APEX", outcome="failure", fitness=0)
    store.runs.save("do it")
    stats = store.stats()
    counts = (stats.memories, stats.superseded, stats.experiences, stats.runs)
    assert counts == (1, 1, 1, 1)
    assert stats.by_kind == {"event": 1} and stats.by_outcome == {"failed": 1}
    assert stats.full_text in {"fts5", "tsvector"} and (stats.bytes or 0) > 0


def test_a_store_in_memory_counts_what_its_only_connection_has_just_stored() -> None:
    with MemoryStore("sqlite://") as store:
        store.remember("one")
        stats = store.stats()
        assert (stats.memories, stats.index["memories"]) == (1, "exact")


def test_importing_the_package_stays_light() -> None:
    heavy = ["sqlalchemy", "alembic", "numpy", "wordllama", "hnswlib", "tokenizers"]
    code = (
        "import sys, json, ryzanstein.memory; "
        f"print(json.dumps([name for name in {heavy} if name in sys.modules]))"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert json.loads(found.stdout) == []


_WORDS = st.sampled_from("amber basil cedar delta ember fjord grove heron iris jade".split())
_TEXTS = st.lists(_WORDS, min_size=2, max_size=4).map(" ".join)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("remember"), _TEXTS),
        st.tuples(st.just("forget"), st.integers(0, 9)),
        st.tuples(st.just("correct"), st.integers(0, 9), _TEXTS),
    ),
    max_size=12,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS)
def test_the_store_agrees_with_a_dictionary(tmp_path_factory, steps) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("model")
    model: dict[str, str] = {}
    with MemoryStore(f"sqlite:///{folder / 'm.db'}") as store:
        for step in steps:
            ids = sorted(model, key=model.__getitem__)
            if step[0] == "remember":
                model[store.remember(step[1]).id] = step[1]
            elif ids and step[0] == "forget":
                gone = ids[step[1] % len(ids)]
                assert store.forget(gone)
                del model[gone]
            elif ids:
                old = ids[step[1] % len(ids)]
                new = store.correct(old, step[2])
                del model[old]
                model[new.id] = step[2]
            for id, text in model.items():
                best = store.recall(text, limit=50)
                assert {hit.memory.id for hit in best} <= set(model)
                assert id in {hit.memory.id for hit in best}
        assert store.stats().memories == len(model)


def test_a_closed_store_says_so(url: str) -> None:
    store = MemoryStore(url)
    kept = store.remember("fine")
    store.recall("fine")
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.remember("more"),
        lambda: store.recall("fine"),
        lambda: store.get(kept.id),
        lambda: store.forget(kept.id),
        lambda: store.stats(),
        lambda: store.runs.list(),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="is closed") as caught:
            call()
        assert caught.value.hint == "Open the store again."
    store.close()
    with MemoryStore(url) as again:
        memory = again.get(kept.id)
        assert memory is not None and memory.uses == 1


@pytest.mark.skipif(os.name != "posix", reason="rights of files are those of POSIX")
def test_no_other_user_of_the_machine_can_read_the_database(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'new' / 'memory.db'}") as store:
        store.remember("Ada's safe opens with the number 5318.")
        files = list((tmp_path / "new").glob("memory.db*"))
        assert len(files) > 1
        assert all(file.stat().st_mode & 0o077 == 0 for file in files)
