"""Stores that may only be read: a search works, a write is one clear error, nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine

from ryzanstein.errors import StorageError
from ryzanstein.memory.sqlite import SQLite
from ryzanstein.memory.store import MemoryStore
from tests.memory.test_migrations import config

READER = """
import json, sys
from ryzanstein.errors import RyzansteinError
from ryzanstein.memory.store import MemoryStore
said = {}
def attempt(name, action):
    try:
        said[name] = action()
    except RyzansteinError as error:
        said[name] = f"{type(error).__name__}: {error}"
try:
    with MemoryStore(sys.argv[1]) as store:
        attempt("recall", lambda: [hit.memory.text for hit in store.recall("are whales mammals")])
        attempt("remember", lambda: store.remember("Sharks are fish").id)
        attempt("forget", lambda: store.forget(store.list().memories[0].id))
        attempt("stats", lambda: store.stats().memories)
except RyzansteinError as error:
    said["open"] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


def read(folder: Path, url: str) -> dict[str, Any]:
    """Uses a store in a process that cannot write to the folder, whoever runs it."""
    bound = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(folder), str(folder)]
    done = subprocess.run(
        [*bound, sys.executable, "-P", "-c", READER, url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store that was closed, in a folder of its own."""
    folder = tmp_path / "store"
    with MemoryStore(f"sqlite:///{folder / 'memory.db'}") as store:
        store.remember("Whales are mammals")
    return folder


def test_a_store_in_a_read_only_folder_is_searched(folder: Path) -> None:
    before = {path.name: path.stat().st_size for path in folder.iterdir()}
    said = read(folder, f"sqlite:///{folder / 'memory.db'}")
    assert said["recall"] == ["Whales are mammals"] and said["stats"] == 1
    for action in ("remember", "forget"):
        assert said[action].startswith("StorageError") and "read-only" in said[action]
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == before


def test_it_is_searched_while_another_process_has_it_open(folder: Path) -> None:
    with MemoryStore(f"sqlite:///{folder / 'memory.db'}") as store:
        store.remember("Whales are mammals of the sea")
        said = read(folder, f"sqlite:///{folder / 'memory.db'}")
    assert sorted(said["recall"]) == ["Whales are mammals", "Whales are mammals of the sea"]
    assert "read-only" in said["remember"]


def test_changes_that_are_still_in_a_log_are_not_passed_over(folder: Path) -> None:
    code = (
        "import os, signal, sys; from ryzanstein.memory.store import MemoryStore; "
        "MemoryStore(sys.argv[1]).remember('Sharks are fish'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    url = f"sqlite:///{folder / 'memory.db'}"
    killed = subprocess.run([sys.executable, "-P", "-c", code, url], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    said = read(folder, url)
    assert sorted(said["recall"]) == ["Sharks are fish", "Whales are mammals"]
    (folder / "memory.db-shm").unlink()
    said = read(folder, url)
    assert "memory.db-wal" in said["open"] and "writable once" in said["open"]
    with MemoryStore(url) as store:
        assert store.stats().memories == 2


def test_a_file_that_changes_under_a_reader_is_read_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    with MemoryStore(f"sqlite:///{other / 'memory.db'}") as store:
        store.remember("Sharks are fish")

    look = SQLite._look

    def refused(database: SQLite) -> None:
        if database._frozen is None:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        look(database)

    monkeypatch.setattr(SQLite, "_look", refused)
    with MemoryStore(f"sqlite:///{folder / 'memory.db'}") as store:
        assert store.stats().memories == 1
        with pytest.raises(StorageError, match="read-only"):
            store.remember("Orcas are whales")
        os.replace(other / "memory.db", folder / "memory.db")
        assert store.stats().memories == 2


def test_an_older_form_in_a_read_only_folder_says_that_it_must_be_migrated(folder: Path) -> None:
    url = f"sqlite:///{folder / 'memory.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        command.downgrade(config(connection), "0001")
    engine.dispose()
    said = read(folder, url)
    assert said["open"].startswith("StorageError") and "read-only" in said["open"]
