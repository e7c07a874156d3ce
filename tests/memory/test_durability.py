from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ryzanstein.memory.store import MemoryStore

WRITER = Path(__file__).with_name("writer.py")


def start(url: str, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", str(WRITER), url, name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def test_two_processes_writing_at_once_lose_nothing(url: str) -> None:
    writers = [start(url, name, 60) for name in ("ann", "bob")]
    ids = [line.strip() for writer in writers for line in writer.communicate(timeout=60)[0].split()]
    assert [writer.returncode for writer in writers] == [0, 0]
    assert len(set(ids)) == 120
    with MemoryStore(url) as store:
        assert store.stats().memories == store.stats().experiences == 120
        assert all(store.get(id) is not None for id in ids)
        assert store.recall("ann writes note 41", limit=1)[0].memory.text.startswith("ann")


def test_a_killed_writer_loses_nothing_it_had_acknowledged(sqlite_url: str) -> None:
    url = sqlite_url
    chooser = random.Random(5)
    acknowledged: list[str] = []
    for turn in range(4):
        with start(url, f"turn{turn}", 10_000) as writer:
            assert writer.stdout is not None
            count = chooser.randint(1, 60)
            acknowledged += [writer.stdout.readline().strip() for _ in range(count)]
            writer.send_signal(signal.SIGKILL)
            # What it had printed by then was acknowledged too; the last line may be cut.
            acknowledged += [line.strip() for line in writer.stdout if line.endswith("\n")]
    with MemoryStore(url) as store:
        assert all(store.get(id) is not None for id in acknowledged)
        stats = store.stats()
        assert len(acknowledged) <= stats.memories <= len(acknowledged) + 4
        hit = store.recall("turn2 writes note 0", limit=1)[0]
        assert hit.memory.text.startswith("turn2 writes note 0 ")
    check = sqlite3.connect(url.removeprefix("sqlite:///"))
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert check.execute("PRAGMA foreign_key_check").fetchall() == []
    check.execute("INSERT INTO memories_fts(memories_fts, rank) VALUES('integrity-check', 1)")
    check.close()


def test_processes_may_open_a_new_database_at_the_same_time(url: str) -> None:
    writers = [start(url, f"writer{number}", 1) for number in range(4)]
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    with MemoryStore(url) as store:
        assert store.stats().memories == 4


def test_threads_of_one_process_share_a_store(store: MemoryStore) -> None:
    found: list[int] = []

    def work(name: str) -> None:
        for number in range(15):
            kept = store.remember(f"{name} knows fact {number}")
            hits = store.recall(f"{name} knows fact {number}", limit=30)
            found.append(kept.id in {hit.memory.id for hit in hits})

    threads = [threading.Thread(target=work, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 60
    assert store.stats().memories == 60


def test_a_write_that_is_interrupted_leaves_nothing_half_done(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ryzanstein.memory import facts

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(facts, "store_vectors", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.remember("half a thought")
    assert store.stats().memories == 0
    assert store.remember("a whole thought").reinforced == 0
