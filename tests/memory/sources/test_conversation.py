from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from ryzanstein.errors import InvalidRequest, StorageError
from ryzanstein.memory.database import Database
from ryzanstein.memory.schema import MemoryRow
from ryzanstein.memory.sources.conversation import Reading
from ryzanstein.memory.store import MemoryStore

CHAT = "[2024-05-01 10:00] Ada: Where is the red teapot?\n[2024-05-01 10:01] Bob: In the kitchen.\n"
MORE = "[2024-05-01 10:02] Ada: Thanks!\n[2024-05-01 10:03] Bob: In the kitchen.\n"


def file(folder: Path, text: str, name: str = "chat.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_turns_are_found_with_who_when_and_where(store: MemoryStore, tmp_path: Path) -> None:
    path = file(tmp_path, CHAT)
    report = store.import_conversation(path, agent="APEX", tags=["tea"])
    assert (report.turns, report.added, report.known, report.left_out) == (2, 2, 0, 0)
    found = store.recall("where is the teapot", agent="APEX", tags=["tea"])[0].memory
    assert (found.tier, found.kind, found.speaker, found.turn) == ("episodic", "turn", "Ada", 0)
    assert found.happened == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert (found.place, found.source) == ("line 1", str(path))
    assert store.recall("kitchen", conversation=report.conversations[0])[0].memory.speaker == "Bob"


def test_a_transcript_imported_again_adds_only_its_further_turns(
    store: MemoryStore, tmp_path: Path
) -> None:
    path = file(tmp_path, CHAT)
    first = store.import_conversation(path)
    again = store.import_conversation(path)
    assert (again.added, again.known, again.conversations) == (0, 2, first.conversations)
    file(tmp_path, CHAT + MORE)
    grown = store.import_conversation(path)
    assert (grown.added, grown.known, grown.conversations) == (2, 2, first.conversations)
    turns = store.list(conversation=first.conversations[0]).memories
    assert [one.turn for one in turns] == [3, 2, 1, 0]
    assert {one.reinforced for one in turns} == {0}


def test_a_transcript_that_lost_its_beginning_goes_on_where_it_was(
    store: MemoryStore, tmp_path: Path
) -> None:
    how = Reading(id="c")
    store.import_conversation(file(tmp_path, CHAT), how)
    report = store.import_conversation(file(tmp_path, CHAT.split("\n")[1] + "\n" + MORE), how)
    assert (report.added, report.known) == (2, 1)
    assert [one.turn for one in store.list(conversation="c").memories] == [3, 2, 1, 0]


def test_what_was_corrected_or_merged_is_not_added_again(
    store: MemoryStore, tmp_path: Path
) -> None:
    path = file(tmp_path, CHAT)
    store.import_conversation(path)
    kitchen = store.recall("in the kitchen")[0].memory
    store.correct(kitchen.id, "In the cellar.")
    assert store.import_conversation(path).added == 0


def test_the_same_words_twice_are_two_turns(store: MemoryStore, tmp_path: Path) -> None:
    text = "Ada: yes\nBob: no\nAda: yes\nBob: no\n"
    assert store.import_conversation(file(tmp_path, text)).added == 4
    assert store.import_conversation(file(tmp_path, text)).added == 0


def test_parsed_json_needs_no_file(store: MemoryStore) -> None:
    report = store.import_conversation({"id": "c", "messages": [{"role": "user", "text": "Hi"}]})
    assert report.conversations == ("c",) and report.added == 1
    assert store.list(conversation="c").memories[0].source is None


MESSAGE = '{"speaker": "Ada", "text": "Tea?", "time": "2024-05-01T10:00:00Z"}'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat.json", f"[{MESSAGE}]"),
        ("chat", f"[{MESSAGE}]"),
        ("chat", f'{{"messages": [\n{MESSAGE}\n]}}'),
        ("chat.jsonl", f"{MESSAGE}\n\n"),
        ("chat", f'{MESSAGE}\n{{"role": "tool", "content": "x"}}\n'),
        ("chat.md", "## 2024-05-01\n**Ada** (10:00): Tea?\n"),
        ("chat", "[2024-05-01 10:00] Ada: Tea?"),
        ("chat.vtt", "WEBVTT\n\n10:00:00.000 --> 10:00:01.000\nAda: Tea?\n"),
        ("chat", "1\n10:00:00,000 --> 10:00:01,000\nAda: Tea?\n"),
    ],
)
def test_a_format_is_known_by_its_name_or_its_looks(
    store: MemoryStore, tmp_path: Path, name: str, text: str
) -> None:
    how = Reading(day=date(2024, 5, 1))
    report = store.import_conversation(file(tmp_path, text, name), how)
    (turn,) = store.list(conversation=report.conversations[0]).memories
    assert (turn.speaker, turn.text) == ("Ada", "Tea?")
    assert turn.happened == datetime(2024, 5, 1, 10, tzinfo=UTC)


def test_id_zone_and_encoding_can_be_said(store: MemoryStore, tmp_path: Path) -> None:
    path = tmp_path / "chat.txt"
    path.write_bytes("[2024-05-01 12:00] Jürgen: Tee?".encode("latin-1"))
    how = Reading(id="mine", zone=ZoneInfo("Europe/Berlin"), encoding="latin-1")
    assert store.import_conversation(path, how).conversations == ("mine",)
    (turn,) = store.list(conversation="mine").memories
    assert (turn.speaker, turn.happened) == ("Jürgen", datetime(2024, 5, 1, 10, tzinfo=UTC))


TWO = f'[{{"messages": [{MESSAGE}]}}, {{"messages": [{MESSAGE}]}}]'


@pytest.mark.parametrize(
    ("name", "text", "how", "reason"),
    [
        ("a.txt", "", None, "a.txt is empty"),
        ("a.txt", "only prose", None, "a.txt: line 1: no line begins a turn"),
        ("a.json", '{"messages": [\n{"role": }]}', None, "a.json: line 2: Expecting value"),
        ("a.json", "[" * 100_000, None, "a.json: line 1: it is nested too deep"),
        ("a.json", "[]", None, "a.json holds no words that anybody said"),
        ("a.json", '[{"role": "system", "content": "x"}]', None, "no words that anybody said"),
        ("a.jsonl", f"{MESSAGE}\n{{]", None, "a.jsonl: line 2: Expecting property name"),
        ("a.jsonl", f"{MESSAGE}\n5", None, "a.jsonl: line 2: it is not an object"),
        ("a.txt", CHAT, Reading(format="pdf"), "'pdf' is no format of conversations"),
        ("a.txt", CHAT, Reading(format="vtt"), "a.txt: line 1: there is no cue"),
        ("a.txt", CHAT, Reading(encoding="no-such"), "'no-such' is no encoding"),
        ("a.json", TWO, Reading(id="one"), "holds 2 conversations, which cannot have one id"),
    ],
)
def test_a_wrong_transcript_is_named_and_nothing_is_stored(
    sqlite_url: str, tmp_path: Path, name: str, text: str, how: Reading | None, reason: str
) -> None:
    with MemoryStore(sqlite_url) as store:
        with pytest.raises(InvalidRequest, match=reason):
            store.import_conversation(file(tmp_path, text, name), how)
        assert store.stats().memories == 0


def test_files_that_are_no_text_are_named(sqlite_url: str, tmp_path: Path) -> None:
    binary = tmp_path / "a.txt"
    with MemoryStore(sqlite_url) as store:
        binary.write_bytes(bytes(range(256)))
        with pytest.raises(InvalidRequest, match=r"a\.txt is binary"):
            store.import_conversation(binary)
        binary.write_bytes("Ada: hi\nBob: Grüße".encode("latin-1"))
        with pytest.raises(InvalidRequest, match=r"a\.txt:2: the bytes are not UTF-8"):
            store.import_conversation(binary)
        with pytest.raises(InvalidRequest, match="is not a file"):
            store.import_conversation(tmp_path)
        with pytest.raises(StorageError, match="cannot be read"):
            store.import_conversation(tmp_path / "missing.txt")
        binary.write_text(CHAT, encoding="utf-16")
        assert store.import_conversation(binary).added == 2


def test_control_characters_and_over_long_names_do_not_stop_an_import(
    store: MemoryStore, tmp_path: Path
) -> None:
    message = {
        "speaker": "A\x1b[31m" + "a" * 500,
        "text": "\x00red\x07 \ud800tea",
        "session": "s" * 99,
    }
    report = store.import_conversation([message, {"speaker": "B", "text": "\x07"}])
    (turn,) = store.list(conversation=report.conversations[0]).memories
    assert (turn.text, len(turn.speaker or ""), len(turn.session or "")) == (
        "\ufffdred \ufffdtea",
        120,
        80,
    )


IMPORT = """
import sys
from pathlib import Path
from ryzanstein.memory.store import MemoryStore

with MemoryStore(sys.argv[1]) as store:
    store.import_conversation(Path(sys.argv[2]))
"""


def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    messages: list[Any] = [
        {"speaker": "AB"[n % 2], "text": f"We spoke of {n % 97} teapots.", "time": 1e9 + n}
        for n in range(2500)
    ]
    path = file(tmp_path, json.dumps({"id": "c", "messages": messages}), "chat.json")
    url = f"sqlite:///{tmp_path / 'memory.db'}"
    MemoryStore(url).close()
    process = subprocess.Popen([sys.executable, "-c", IMPORT, url, str(path)])
    database = Database(url)

    def stored() -> int:
        with database.read() as connection:
            return connection.execute(select(func.count()).select_from(MemoryRow)).scalar_one()

    try:
        while stored() == 0 and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    before = stored()
    database.close()
    assert 0 < before < 2500, "it was killed in the middle"
    with MemoryStore(url) as store:
        report = store.import_conversation(path)
        assert (report.added, report.known) == (2500 - before, before)
        page = store.list(conversation="c", limit=1000)
        turns = [one.turn for one in page.memories]
        while page.cursor:
            page = store.list(conversation="c", limit=1000, cursor=page.cursor)
            turns += [one.turn for one in page.memories]
    assert turns == list(reversed(range(2500)))
