from __future__ import annotations

import json
from pathlib import Path

import pytest

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.store import MemoryStore


def filled(store: MemoryStore) -> None:
    old = store.remember("Grüße an „alle“\nin zwei Zeilen", tags=["de", "hello"], source="x.md")
    store.correct(old.id, "Grüße an niemanden")
    store.remember("Tea at five", agent="APEX", kind="preference", importance=0.9)
    store.remember("tea at five", agent="APEX", kind="preference")
    done = store.record_experience(
        task="make tea",
        agent="APEX",
        outcome="failure",
        fitness=0.2,
        tools=["a", "b"],
        lesson="hot",
    )
    store.rate_experience(done.id, 0.7)


def contents(path: Path) -> list[str]:
    return sorted(path.read_text(encoding="utf-8").splitlines()[1:])


def test_an_export_imported_elsewhere_exports_the_same(store: MemoryStore, tmp_path: Path) -> None:
    filled(store)
    first, second = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert store.export_jsonl(first) == 4
    with MemoryStore(f"sqlite:///{tmp_path / 'other.db'}") as other:
        report = other.import_jsonl(first)
        assert (report.memories, report.experiences, report.skipped) == (3, 1, 0)
        other.export_jsonl(second)
        assert contents(first) == contents(second)
        assert other.recall("when is tea")[0].memory.text == "Tea at five"
        assert [hit.memory.text for hit in other.recall("Grüße")] == ["Grüße an niemanden"]
        assert other.find_experiences("making tea")[0].experience.rating == 0.7


def test_importing_again_adds_nothing(store: MemoryStore, tmp_path: Path) -> None:
    filled(store)
    path = tmp_path / "one.jsonl"
    store.export_jsonl(path)
    assert store.import_jsonl(path).skipped == 4
    with MemoryStore(f"sqlite:///{tmp_path / 'other.db'}") as other:
        other.remember("TEA at five", agent="APEX", kind="preference")
        assert other.import_jsonl(path).skipped == 1
        assert other.import_jsonl(path).skipped == 4


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"type": "poem"}',
        '{"type": "memory", "id": "mem_1"}',
        json.dumps(
            {"type": "memory", "id": "mem_1", "text": "", "kind": "fact", "agent": None, "tags": []}
            | {"source": None, "importance": 0.5, "reinforced": 0, "superseded_by": None}
            | {"created": "2026-01-01T00:00:00+00:00", "updated": "2026-01-01T00:00:00+00:00"}
        ),
        '{"type": "experience", "created": "yesterday"}',
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(
    store: MemoryStore, tmp_path: Path, line: str
) -> None:
    with MemoryStore(f"sqlite:///{tmp_path / 'other.db'}") as other:
        filled(other)
        other.export_jsonl(tmp_path / "one.jsonl")
    with (tmp_path / "one.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(InvalidRequest, match=r"one\.jsonl:6: "):
        store.import_jsonl(tmp_path / "one.jsonl")
    assert store.stats().memories == 0


def test_files_that_cannot_be_read_or_written_are_named(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        store.import_jsonl(tmp_path / "missing.jsonl")
    with pytest.raises(StorageError, match="cannot be written"):
        store.export_jsonl(tmp_path / "no" / "such" / "folder.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        store.import_jsonl(tmp_path / "binary")
    (tmp_path / "other.jsonl").write_text('{"type": "memory"}\n', encoding="utf-8")
    with pytest.raises(InvalidRequest, match="not an export"):
        store.import_jsonl(tmp_path / "other.jsonl")
