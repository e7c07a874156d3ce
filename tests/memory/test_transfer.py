from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.database import Database
from ryzanstein.memory.records import Draft, Lesson
from ryzanstein.memory.schema import CalibrationRow, MemoryLinkRow, MemoryRow
from ryzanstein.memory.store import MemoryStore

LONG_AGO = datetime(1999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC)
SAID = Draft(
    "Who is there?",
    kind="turn",
    tier="episodic",
    place="D1:1",
    speaker="Ada",
    context="Ada, Friday",
    conversation="c1",
    session="s1",
    turn=0,
    happened=LONG_AGO,
    valid_from=LONG_AGO,
)


def filled(store: MemoryStore) -> None:
    old = store.remember("Grüße an „alle“\nin zwei Zeilen", tags=["de", "hello"], source="x.md")
    store.correct(old.id, "Grüße an niemanden")
    store.remember("Tea at five", agent="APEX", kind="preference", importance=0.9)
    store.remember("tea at five", agent="APEX", kind="preference")
    store.remember_many([SAID])
    done = store.record_experience(
        task="make tea",
        agent="APEX",
        outcome="failed",
        fitness=0.2,
        tools=["a", "b"],
        steps=["boil", "pour"],
        reason="the water was cold",
        lesson="hot",
        lessons=[Lesson("Boil first", "for tea", "wait until it boils")],
        trace_id="t-1",
        tier=2,
    )
    store.rate_experience(done.id, 0.7)


def related(url: str) -> None:
    """Writes what only consolidation writes: links and thresholds."""
    database = Database(url)
    with database.write() as (connection, _):
        rows = connection.execute(select(MemoryRow.row).order_by(MemoryRow.row)).scalars().all()
        link = {"to_row": rows[0], "score": 0.93, "created": LONG_AGO}
        links = [{"from_row": row, "kind": "merged_from", **link} for row in rows[1:3]]
        links += [{"from_row": rows[2], "kind": "contradicts", **link}]
        connection.execute(insert(MemoryLinkRow), links)
        detail = json.dumps({"precision": 0.97})
        values = {"model_id": "m", "proposes": 0.7, "merges": 0.9, "pairs": 10, "detail": detail}
        connection.execute(insert(CalibrationRow).values(**values, created=LONG_AGO))
    database.close()


def contents(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def other_store(tmp_path: Path) -> MemoryStore:
    return MemoryStore(f"sqlite:///{tmp_path / 'other.db'}")


def test_an_export_imported_into_an_empty_store_exports_the_same_lines(
    store: MemoryStore, url: str, tmp_path: Path
) -> None:
    filled(store)
    related(url)
    first, second = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    assert store.export_jsonl(first) == 4 + 3 + 1 + 1
    with other_store(tmp_path) as other:
        report = other.import_jsonl(first)
        assert (report.memories, report.experiences, report.links) == (4, 1, 3)
        assert report.skipped == 0
        other.export_jsonl(second)
        assert contents(first) == contents(second)
        assert other.recall("when is tea")[0].memory.text == "Tea at five"
        assert other.recall("Grüße")[0].memory.text == "Grüße an niemanden"
        found = other.find_experiences("making tea")[0].experience
        assert found.rating == 0.7 and found.lessons[0].title == "Boil first"
        said = other.recall("who is there", conversation="c1")[0].memory
        assert (said.speaker, said.happened, said.place) == ("Ada", LONG_AGO, "D1:1")
        current = other.recall("Grüße")[0].memory
        assert other.history(current.id)[0].text.startswith("Grüße an „alle“")
        assert [entry.action for entry in other.journal(current.id)] == ["stored", "corrected"]


def test_importing_again_adds_nothing(store: MemoryStore, url: str, tmp_path: Path) -> None:
    filled(store)
    related(url)
    first, again = tmp_path / "one.jsonl", tmp_path / "again.jsonl"
    store.export_jsonl(first)
    report = store.import_jsonl(first)
    assert (report.memories, report.experiences, report.links, report.skipped) == (0, 0, 0, 5)
    store.export_jsonl(again)
    assert contents(first) == contents(again)


def test_a_text_that_the_store_has_already_stays_what_it_was_and_takes_the_links(
    store: MemoryStore, url: str, tmp_path: Path
) -> None:
    filled(store)
    related(url)
    path = tmp_path / "one.jsonl"
    store.export_jsonl(path)
    with other_store(tmp_path) as other:
        own = other.remember("grüße AN niemanden")
        tea = other.remember("TEA at five", agent="APEX", kind="preference")
        report = other.import_jsonl(path)
        assert (report.memories, report.skipped, report.links) == (2, 2, 3)
        assert len(other.history(own.id)) == 2, "the old version is in its history now"
        assert other.get(own.id) == own
        assert other.get(tea.id) == tea
        assert other.import_jsonl(path).skipped == 5


FIRST_FORM = [
    {"type": "ryzanstein-memory", "version": 1},
    {"type": "memory", "id": "mem_1", "text": "Tea at four", "kind": "fact", "agent": None}
    | {"tags": ["tea"], "source": None, "importance": 0.5, "reinforced": 0}
    | {"created": "2026-01-01T00:00:00+00:00", "updated": "2026-01-01T00:00:00+00:00"}
    | {"superseded_by": "mem_2"},
    {"type": "memory", "id": "mem_2", "text": "Tea at five", "kind": "fact", "agent": "APEX"}
    | {"tags": [], "source": "me", "importance": 0.9, "reinforced": 2}
    | {"created": "2026-01-02T00:00:00+02:00", "updated": "2026-01-02T00:00:00+02:00"}
    | {"superseded_by": None},
    {"type": "experience", "id": "exp_1", "task": "make tea", "agent": "APEX", "fitness": 0.5}
    | {"outcome": "unverified", "strategy": "", "tools": [], "lesson": "", "answer": "tea"}
    | {"run_id": None, "tokens": 1, "seconds": 0.5, "rating": 0.5}
    | {"created": "2026-01-02T00:00:00+00:00"},
    {"type": "experience", "id": "exp_2", "task": "drink tea", "agent": "APEX", "fitness": 1}
    | {"outcome": "success", "strategy": "sip", "tools": ["cup"], "lesson": "", "answer": ""}
    | {"run_id": "r", "tokens": 1, "seconds": 0, "rating": None}
    | {"created": "2026-01-02T00:00:00+00:00"},
]


def written(path: Path, lines: list[Any]) -> Path:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_a_file_of_the_first_form_is_read_as_a_store_of_it_is_migrated(
    store: MemoryStore, tmp_path: Path
) -> None:
    report = store.import_jsonl(written(tmp_path / "old.jsonl", FIRST_FORM))
    assert (report.memories, report.experiences) == (2, 2)
    tea = store.get("mem_2")
    assert tea is not None
    assert (tea.tier, tea.mark, tea.created.hour, tea.tags) == ("long_term", 0.9, 22, ())
    assert [old.id for old in store.history("mem_2")] == ["mem_1", "mem_2"]
    outcomes = [store.get_experience(id) for id in ("exp_1", "exp_2")]
    assert [one.outcome for one in outcomes if one is not None] == ["rated", "verified"]


HEADER = {"type": "ryzanstein-memory", "version": 2}
MEMORY = {"type": "memory", "id": "mem_1", "text": "x", "tier": "semantic", "kind": "fact"}
MEMORY |= {"created": "2026-01-01T00:00:00+00:00", "updated": "2026-01-01T00:00:00+00:00"}
LINK = {"type": "link", "from": "mem_1", "to": "mem_2", "kind": "contradicts", "score": 0.5}
LINK |= {"created": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("not json", "Expecting value"),
        ("[]", "not an object"),
        ("[" * 100_000, "nested too deep"),
        ({"type": "poem"}, "unknown type 'poem'"),
        ({"type": "memory", "id": "mem_1"}, "text is missing"),
        (MEMORY | {"text": "  "}, "The text is empty"),
        (MEMORY | {"text": 5}, "text: Input should be a valid string"),
        (MEMORY | {"text": "a\x1b[31m"}, "control character"),
        (MEMORY | {"tier": "attic"}, "'attic' is no tier"),
        (MEMORY | {"importance": float("nan")}, "importance is nan"),
        (MEMORY | {"mark": 2}, "is 2.0"),
        (MEMORY | {"uses": -1}, "cannot be negative"),
        (MEMORY | {"created": "yesterday"}, "created: Input should be a valid datetime"),
        (MEMORY | {"created": "2026-01-01T00:00:00"}, "no time with a zone"),
        (MEMORY | {"happened": "3026-01-01T00:00:00Z"}, "more than a century ahead"),
        (MEMORY | {"colour": "red"}, "unknown field 'colour'"),
        (MEMORY | {"journal": [{"at": "2026-01-01T00:00:00Z"}]}, "action is missing"),
        (LINK, "no memory of the file has the id mem_2"),
        (LINK | {"to": "mem_1"}, "from a memory to itself"),
        ({"type": "experience", "created": "yesterday"}, "is missing"),
        ({"type": "calibration", "model_id": "m", "proposes": 0.9, "merges": 0.1} | {"pairs": 1}
         | {"detail": {}, "created": "2026-01-01T00:00:00Z"}, "out of order"),
        ({"type": "end", "records": 7}, "7 records were exported, 1 are here"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named_and_nothing_is_imported(
    tmp_path: Path, sqlite_url: str, line: Any, reason: str
) -> None:
    path = written(tmp_path / "one.jsonl", [HEADER, MEMORY, line])
    with MemoryStore(sqlite_url) as store:
        with pytest.raises(InvalidRequest, match=r"one\.jsonl:3: .*") as raised:
            store.import_jsonl(path)
        assert reason in str(raised.value)
        assert store.stats().memories == 0


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "is empty"),
        ([HEADER, MEMORY], "is cut off after line 2"),
        ([HEADER | {"version": 3}], "which a newer program wrote"),
        ([MEMORY], "not an export of a memory"),
        ([HEADER, {"type": "end", "records": 0}, MEMORY], "more after the line that ends"),
    ],
)
def test_a_file_that_is_not_a_whole_export_is_refused(
    tmp_path: Path, sqlite_url: str, lines: list[Any], reason: str
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with MemoryStore(sqlite_url) as store, pytest.raises(InvalidRequest, match=reason):
        store.import_jsonl(path)


def test_files_that_cannot_be_read_or_written_are_named(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with MemoryStore(sqlite_url) as store:
        with pytest.raises(StorageError, match="cannot be read"):
            store.import_jsonl(tmp_path / "missing.jsonl")
        with pytest.raises(StorageError, match="is not a file"):
            store.import_jsonl(tmp_path)
        with pytest.raises(StorageError, match="cannot be written"):
            store.export_jsonl(tmp_path / "no" / "such" / "folder.jsonl")
        with pytest.raises(StorageError, match="is not a file"):
            store.export_jsonl(Path("/dev/null"))
        with pytest.raises(InvalidRequest, match="binary:1: "):
            store.import_jsonl(tmp_path / "binary")


def test_an_export_that_fails_leaves_the_file_that_was_there(
    sqlite_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text("what was there")
    with MemoryStore(sqlite_url) as store:
        store.remember_many([Draft(f"fact {n}", tier="semantic") for n in range(1500)])

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.export_jsonl(path, progress=stop)
    assert path.read_text() == "what was there"
    assert [one.name for one in tmp_path.glob("*jsonl*")] == ["one.jsonl"]


def test_progress_goes_to_the_end(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    told: list[tuple[int, int]] = []
    with MemoryStore(sqlite_url) as store:
        store.remember_many([Draft(f"fact {n}", tier="semantic") for n in range(1500)])
        store.export_jsonl(path, progress=lambda *at: told.append(at))
        assert told[-1][1] == 1500
        told.clear()
        store.import_jsonl(path, progress=lambda *at: told.append(at))
    assert told == sorted(told) and told[-1] == (2 * path.stat().st_size,) * 2


IMPORT = """
import sys
from pathlib import Path
from ryzanstein.memory.store import MemoryStore

with MemoryStore(sys.argv[1]) as store:
    print("ready", flush=True)
    store.import_jsonl(Path(sys.argv[2]))
"""


def test_an_import_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    path, again = tmp_path / "all.jsonl", tmp_path / "again.jsonl"
    with MemoryStore(f"sqlite:///{tmp_path / 'all.db'}") as store:
        texts = [f"Fact number {n} is about {n * 7919 % 1000} teapots" for n in range(6000)]
        store.remember_many([Draft(text, tier="semantic", tags=("t",)) for text in texts])
        filled(store)
        store.export_jsonl(path)
    url = f"sqlite:///{tmp_path / 'new.db'}"
    MemoryStore(url).close()
    process = subprocess.Popen(
        [sys.executable, "-c", IMPORT, url, str(path)], stdout=subprocess.PIPE
    )
    database = Database(url)
    try:
        while stored(database) < 1000 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.communicate()
    assert 0 < stored(database) < 6004, "it was killed in the middle"
    assert stored(database) % 1000 == 0, "a batch is there whole or not at all"
    database.close()
    with MemoryStore(url) as store:
        report = store.import_jsonl(path)
        assert report.memories + report.skipped == 6004
        store.export_jsonl(again)
    assert contents(path) == contents(again)


def stored(database: Database) -> int:
    with database.read() as connection:
        return len(connection.execute(select(MemoryRow.row)).scalars().all())


def test_an_export_of_a_newer_version_asks_for_an_upgrade(tmp_path: Path, sqlite_url: str) -> None:
    path = tmp_path / "one.jsonl"
    with MemoryStore(sqlite_url) as store:
        for version, hint in ((3, "Upgrade Ryzanstein"), (0, "Correct the line")):
            path.write_text(json.dumps(HEADER | {"version": version}))
            with pytest.raises(InvalidRequest) as caught:
                store.import_jsonl(path)
            assert hint in caught.value.hint
