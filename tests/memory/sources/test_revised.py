from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.records import Memory
from ryzanstein.memory.sources import revised
from ryzanstein.memory.store import MemoryStore


def paragraph(topic: str, words: int = 70) -> str:
    return f"{topic.capitalize()} first. " + f"More is said about {topic} here. " * (words // 6)


def document(*topics: str) -> str:
    return "# Guide\n\n" + "\n\n".join(paragraph(topic) for topic in topics)


@pytest.fixture
def guide(tmp_path: Path) -> Path:
    path = tmp_path / "guide.md"
    path.write_text(document("tea", "coffee", "cocoa"))
    return path


def changed(guide: Path, *topics: str) -> Path:
    guide.write_text(document(*topics))
    return guide


def passages(store: MemoryStore) -> list[Memory]:
    """Those that are valid, in the document's order."""
    found = store.list(kind="passage").memories
    return sorted((m for m in found if m.valid_until is None), key=lambda one: one.turn or 0)


def topics(store: MemoryStore) -> list[str]:
    return [one.text.split()[0].lower() for one in passages(store)]


def counts(report: Any) -> tuple[int, int, int, int]:
    return report.added, report.kept, report.replaced, report.ended


def test_a_document_is_found_with_its_citation(store: MemoryStore, guide: Path) -> None:
    report = store.import_document(guide, tags=["drinks"])
    assert (report.title, report.passages, counts(report)) == ("Guide", 3, (3, 0, 0, 0))
    hit = store.recall("what is said about coffee", tier="semantic", tags=["drinks"])[0].memory
    assert (hit.place, hit.source, hit.context) == ("line 5 · Guide", str(guide), "Guide")
    assert store.recall("cocoa", source=str(guide))[0].memory.text.startswith("Cocoa")


def test_a_document_that_has_not_changed_changes_nothing(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide)
    before = passages(store)
    assert counts(store.import_document(guide)) == (0, 3, 0, 0)
    assert passages(store) == before


def test_a_changed_passage_supersedes_the_old_one(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide)
    old = passages(store)[1]
    assert counts(store.import_document(changed(guide, "tea", "water", "cocoa"))) == (1, 2, 1, 0)
    assert topics(store) == ["tea", "water", "cocoa"]
    new = passages(store)[1]
    assert [one.id for one in store.history(new.id)] == [old.id, new.id]
    assert store.get(old.id) != old and "coffee" not in str(store.recall("coffee")[0].memory.text)


def test_new_passages_move_the_others_without_touching_them(
    store: MemoryStore, guide: Path
) -> None:
    store.import_document(guide)
    ids = [one.id for one in passages(store)]
    report = store.import_document(changed(guide, "milk", "tea", "coffee", "cocoa"))
    assert counts(report) == (1, 3, 0, 0)
    assert topics(store) == ["milk", "tea", "coffee", "cocoa"]
    assert [one.id for one in passages(store)][1:] == ids
    assert [one.place for one in passages(store)] == [f"line {n} · Guide" for n in (3, 5, 7, 9)]


def test_passages_that_are_gone_end_and_come_back(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide)
    tea = passages(store)[0]
    assert counts(store.import_document(changed(guide, "coffee", "cocoa"))) == (0, 2, 0, 1)
    assert topics(store) == ["coffee", "cocoa"]
    ended = store.get(tea.id)
    assert ended is not None and ended.valid_until is not None and ended.superseded_by is None
    before = ended.valid_until - timedelta(microseconds=1)
    assert store.recall("tea first", at=before)[0].memory.id == tea.id
    assert counts(store.import_document(guide)) == (0, 2, 0, 0)
    assert counts(store.import_document(changed(guide, "tea", "coffee", "cocoa"))) == (0, 3, 0, 0)
    assert passages(store)[0].id == tea.id
    assert [one.action for one in store.journal(tea.id)] == ["stored", "ended", "restored"]


def test_passages_in_another_order_are_the_same_passages(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide)
    assert counts(store.import_document(changed(guide, "cocoa", "tea", "coffee"))) == (0, 3, 0, 0)
    assert topics(store) == ["cocoa", "tea", "coffee"]
    assert counts(store.import_document(changed(guide, "tea", "tea", "cocoa"))) == (1, 2, 1, 0)
    assert topics(store) == ["tea", "tea", "cocoa"]


def test_the_same_words_in_two_documents_are_two_records(
    store: MemoryStore, guide: Path, tmp_path: Path
) -> None:
    store.import_document(guide)
    other = tmp_path / "other.md"
    other.write_text(guide.read_text())
    assert counts(store.import_document(other)) == (3, 0, 0, 0)
    changed(other, "tea")
    assert counts(store.import_document(other)) == (0, 1, 0, 2)
    assert counts(store.import_document(guide)) == (0, 3, 0, 0)


def test_what_a_person_corrected_stays_until_the_document_changes_there(
    store: MemoryStore, guide: Path
) -> None:
    store.import_document(guide)
    own = store.correct(passages(store)[0].id, "Tea is best with milk.")
    assert counts(store.import_document(guide)) == (0, 3, 0, 0)
    assert passages(store)[0].id == own.id
    report = store.import_document(changed(guide, "milk", "tea", "coffee", "cocoa"))
    assert counts(report) == (1, 3, 0, 0) and passages(store)[1].text == "Tea is best with milk."
    store.import_document(changed(guide, "juice", "coffee", "cocoa"))
    assert topics(store) == ["juice", "coffee", "cocoa"]


def test_a_state_of_before_is_not_taken_for_known(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide)
    store.import_document(changed(guide, "tea", "water", "cocoa"))
    report = store.import_document(changed(guide, "tea", "coffee", "cocoa"))
    assert counts(report) == (1, 2, 1, 0) and topics(store) == ["tea", "coffee", "cocoa"]


def test_letter_case_alone_makes_a_new_passage(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide)
    guide.write_text(guide.read_text().replace("Tea first", "TEA first"))
    assert counts(store.import_document(guide)) == (1, 2, 1, 0)
    assert passages(store)[0].text.startswith("TEA first")


def test_agents_have_their_own_passages(store: MemoryStore, guide: Path) -> None:
    store.import_document(guide, agent="APEX")
    assert counts(store.import_document(guide, agent="ORCA")) == (3, 0, 0, 0)
    assert counts(store.import_document(guide, agent="APEX")) == (0, 3, 0, 0)


def test_a_document_is_stored_whole_or_not_at_all(
    sqlite_url: str, guide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revised, "_BATCH", 2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with MemoryStore(sqlite_url) as store:
        with pytest.raises(KeyboardInterrupt):
            store.import_document(guide, progress=stop)
        assert store.stats().memories == 0
        told: list[tuple[int, int]] = []
        report = store.import_document(guide, progress=lambda *at: told.append(at))
        assert store.stats().memories == report.added == told[-1][0] == told[-1][1]


def test_nothing_is_stored_of_what_cannot_be_read(sqlite_url: str, tmp_path: Path) -> None:
    with MemoryStore(sqlite_url) as store:
        with pytest.raises(StorageError, match="cannot be read"):
            store.import_document(tmp_path / "missing.md")
        with pytest.raises(InvalidRequest, match="cannot be a tag"):
            store.import_document("# Tea\n\nIs good.", source="x", tags=["a b"])
        with pytest.raises(InvalidRequest, match="cannot be a codename"):
            store.import_document("# Tea\n\nIs good.", source="x", agent="a b")
        assert store.stats().memories == 0
