"""The database under full and read-only disks, kills, and several processes: nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FACT = "The harbour closes at nine."


def test_a_disk_without_room_loses_nothing_that_was_stored(place: Any) -> None:
    assert place.run("memory", "add", FACT).code == 0
    before = place.database.stat().st_size

    def no_growth() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = place.run("memory", "add", "One more.", "--json", preexec_fn=no_growth)
    done.failed("INTERNAL_ERROR", "disk is full", "what was stored before is safe")
    assert place.remembered() == [FACT]
    assert place.database.stat().st_size == before
    assert place.run("memory", "add", "One more.").code == 0
    assert place.remembered() == [FACT, "One more."]


def test_a_disk_too_small_for_a_database_leaves_no_broken_one(
    place: Any, wraps: SimpleNamespace
) -> None:
    place.data.mkdir()
    done = place.run("memory", "add", FACT, "--json", wrap=wraps.small_disk(place.data, 65_536))
    done.failed("INTERNAL_ERROR", "disk is full", "Free some space")

    def no_growth() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    place.run("memory", "add", FACT, "--json", preexec_fn=no_growth).failed("INTERNAL_ERROR")
    assert place.run("memory", "add", FACT).code == 0
    assert place.remembered() == [FACT]


def test_a_read_only_data_directory_is_said_and_stays_as_it_is(
    place: Any, wraps: SimpleNamespace
) -> None:
    wrap = wraps.read_only(place.folder)
    place.run("memory", "add", FACT, "--json", wrap=wrap).failed("INTERNAL_ERROR", "data")
    assert place.run("memory", "add", FACT).code == 0
    done = place.run("memory", "add", "One more.", "--json", wrap=wrap)
    done.failed("INTERNAL_ERROR", "ryzanstein.db", "RYZANSTEIN_DATABASE_URL")
    assert place.remembered() == [FACT]
    done = place.run("memory", "search", "when does the harbour close", "--json", wrap=wrap)
    assert done.code == 0 and FACT in done.out
    done = place.run("memory", "export", str(place.folder / "x.jsonl"), "--json", wrap=wrap)
    done.failed("INTERNAL_ERROR")


def test_a_configuration_that_cannot_be_written_is_said_and_left_alone(
    place: Any, wraps: SimpleNamespace
) -> None:
    file = place.config / "client.json"
    file.write_text('{"mcpServers": {"other": {"command": "x"}}}', encoding="utf-8")
    before = file.read_bytes()
    done = place.run(
        *("setup", "claude-desktop", "--file", str(file), "--json"),
        wrap=wraps.read_only(place.config),
    )
    done.failed("CONFIG_SAVE_FAILED", "client.json")
    assert file.read_bytes() == before
    assert [path.name for path in place.config.iterdir()] == ["client.json"]


def test_two_processes_share_a_database_that_neither_had_seen(place: Any) -> None:
    names = ("ann", "bob")
    children = [place.start("memory", "add", f"{name} likes tea", "--json") for name in names]
    for child in children:
        out, err = child.communicate(timeout=100)
        assert (child.returncode, err) == (0, b"")
        assert json.loads(out)["id"].startswith("mem_")
    assert sorted(place.remembered()) == ["ann likes tea", "bob likes tea"]


def test_a_process_waits_for_another_that_writes(place: Any) -> None:
    assert place.run("memory", "add", FACT).code == 0
    with closing(sqlite3.connect(place.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with place.start("memory", "add", "One more.") as child:
            until(lambda: opened(child, place.database) or child.poll() is not None)
            other.execute("COMMIT")
            out, err = child.communicate(timeout=100)
    assert (child.returncode, err) == (0, b"")
    assert out.startswith(b"mem_")
    assert place.remembered() == [FACT, "One more."]


def test_kills_lose_nothing_that_was_acknowledged(place: Any) -> None:
    acknowledged = []
    for number in range(3):
        text = f"note {number}"
        with place.start("memory", "add", text) as child:
            if number == 1:  # before it could have said anything
                until(lambda: opened(child, place.database))
            elif child.stdout.readline():
                acknowledged.append(text)
            child.send_signal(signal.SIGKILL)
        assert child.returncode in {-signal.SIGKILL, 0}
    assert set(acknowledged) <= set(place.remembered()) <= {"note 0", "note 1", "note 2"}
    assert len(acknowledged) == 2
    assert place.run("memory", "add", "and on it goes").code == 0


def test_a_killed_import_can_be_repeated(place: Any) -> None:
    assert place.run("memory", "add", FACT).code == 0
    exported = place.run("memory", "export", "-").out.splitlines()
    record = json.loads(exported[1])
    end = json.dumps({**json.loads(exported[-1]), "records": 1500})
    lines = [exported[0], *(copy_of(record, number) for number in range(1500)), end]
    file = place.folder / "many.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with place.start("memory", "import", str(file), stdin=subprocess.DEVNULL) as child:
        until(lambda: len(rows(place.database)) > 1 or child.poll() is not None)
        child.send_signal(signal.SIGKILL)
    kept = place.remembered()
    assert FACT in kept and len(kept) % 500 == 1
    assert place.run("memory", "import", str(file)).code == 0
    assert len(place.remembered()) == 1501


def copy_of(record: dict[str, Any], number: int) -> str:
    text = f"Berth {number} is {number % 17} metres deep."
    return json.dumps({**record, "id": f"mem_{number:016x}", "text": text})


def rows(database: Path) -> list[tuple[int]]:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return connection.execute("SELECT row FROM memories").fetchall()


def opened(child: subprocess.Popen[bytes], file: Path) -> bool:
    """Says whether a process has a file open."""
    folder = Path(f"/proc/{child.pid}/fd")
    try:
        return any(os.path.realpath(link) == str(file) for link in folder.iterdir())
    except OSError:
        return False


def until(condition: Any) -> None:
    """Looks again and again until a condition holds; the test's time limit ends it."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.005)
