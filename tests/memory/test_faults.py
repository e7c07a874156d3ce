from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from ryzanstein.errors import ConfigError, StorageError, TimedOut
from ryzanstein.memory import policies
from ryzanstein.memory.schema import SketchRow
from ryzanstein.memory.store import MemoryStore
from ryzanstein.memory.vectors.sync import SyncedIndex


@pytest.mark.parametrize("url", ["", "memory.db", "nosuch://host/db", "sqlite+nosuch:///x.db"])
def test_a_wrong_url_is_a_fault_of_the_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="database URL") as caught:
        MemoryStore(url)
    assert caught.value.hint


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="not installed"):
        MemoryStore("postgresql+psycopg://nobody@localhost/none")


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "memory.db"
    path.write_bytes(b"this is a text file, not a database" * 100)
    with pytest.raises(StorageError, match="damaged") as caught:
        MemoryStore(f"sqlite:///{path}")
    assert str(path) in str(caught.value) and "backup" in caught.value.hint
    assert path.read_bytes().startswith(b"this is a text file")


def test_a_database_damaged_in_the_middle_says_so(sqlite_url: str, tmp_path: Path) -> None:
    with MemoryStore(sqlite_url) as store:
        for number in range(200):
            store.remember(f"note {number} of some length to fill the pages of this file")
    path = tmp_path / "memory.db"
    content = bytearray(path.read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(StorageError, match="damaged"), MemoryStore(sqlite_url) as store:
        store.recall("note 17")


def test_a_database_of_a_newer_version_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    MemoryStore(sqlite_url).close()
    connection = sqlite3.connect(tmp_path / "memory.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="newer version"):
        MemoryStore(sqlite_url)


def test_a_read_only_database_is_read_and_says_that_it_cannot_be_written(
    sqlite_url: str, tmp_path: Path
) -> None:
    with MemoryStore(sqlite_url) as store:
        kept = store.remember("Whales are mammals")
    with MemoryStore(f"sqlite:///file:{tmp_path / 'memory.db'}?mode=ro&uri=true") as store:
        assert store.recall("are whales mammals")[0].memory.id == kept.id
        with pytest.raises(StorageError, match="read-only"):
            store.remember("Sharks are fish")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be made"):
        MemoryStore(f"sqlite:///{tmp_path / 'file' / 'memory.db'}")
    with pytest.raises(StorageError, match="cannot be opened"):
        MemoryStore(f"sqlite:///{tmp_path}")


def test_a_database_that_stays_locked_ends_in_a_time_out(sqlite_url: str, tmp_path: Path) -> None:
    with MemoryStore(sqlite_url, busy_seconds=0.1) as store:
        other = sqlite3.connect(tmp_path / "memory.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TimedOut, match="locked"):
            store.remember("something")
        other.execute("ROLLBACK")
        other.close()
        assert store.remember("something").reinforced == 0


def test_words_that_a_reader_keeps_in_the_log_are_told_and_wiped_by_the_next_deletion(
    sqlite_url: str, tmp_path: Path
) -> None:
    def traces() -> list[str]:
        found = (tmp_path / name for name in ("memory.db", "memory.db-wal"))
        return [path.name for path in found if b"Winterbottom" in path.read_bytes()]

    with MemoryStore(sqlite_url, busy_seconds=0.1) as store:
        secret = store.remember("Her maiden name is Winterbottom")
        other = store.remember("Tea is at five")
        reader = sqlite3.connect(tmp_path / "memory.db", isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM memories").fetchone()
        with pytest.raises(StorageError, match="It is forgotten, but"):
            store.forget(secret.id)
        reader.close()
        assert store.get(secret.id) is None and traces()
        assert store.forget(other.id)
        assert traces() == []


@pytest.mark.parametrize("archived", [False, True])
def test_words_are_wiped_though_a_vector_cannot_be(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archived: bool
) -> None:
    def locked(*arguments: object) -> None:
        raise StorageError("A forgotten vector is still there.")

    monkeypatch.setattr(policies, "ROOM", {"short_term": 0, "long_term": 0} if archived else {})
    monkeypatch.setattr(SyncedIndex, "forget", locked)
    with MemoryStore(sqlite_url) as store:
        secret = store.remember("Her maiden name is Winterbottom")
        with pytest.raises(StorageError, match="A forgotten vector"):
            _ = store.forget_archived() if archived else store.forget(secret.id)
        assert store.get(secret.id) is None
        for name in ("memory.db", "memory.db-wal"):
            assert b"Winterbottom" not in (tmp_path / name).read_bytes()


def test_wiping_takes_its_turn_where_threads_share_a_connection() -> None:
    with MemoryStore("sqlite://") as store:
        with store._database.write() as (connection, _):
            wiping = threading.Thread(target=store._database.scrub)
            wiping.start()
            wiping.join(0.1)
            connection.execute(insert(SketchRow).values(name="a", kind="", payload=b"", revision=0))
        wiping.join()
        with store._database.read() as connection:
            assert connection.execute(select(SketchRow.name)).scalars().all() == ["a"]


FILL = """
import resource, sys
from ryzanstein.errors import StorageError
from ryzanstein.memory.store import MemoryStore
with MemoryStore(sys.argv[1]) as store:
    store.remember("first note")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
    for number in range(100_000):
        try:
            print(store.remember(f"note {number} " + "filler " * 50).id)
        except StorageError as error:
            print("FULL", error)
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(store.remember("there is room again").id)
"""


def test_a_full_disk_is_told_and_loses_nothing(sqlite_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FILL, sqlite_url],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("FULL") and "disk is full" in line for line in lines) == 1
    ids = [line for line in lines if line.startswith("mem_")]
    assert len(ids) > 10
    with MemoryStore(sqlite_url) as store:
        assert all(store.get(id) is not None for id in ids)
        assert store.stats().memories == len(ids) + 1
