"""Kills writers, or lets several write at once, and counts what was lost or stored twice.

    python scripts/durability.py kills --kills 200    SIGKILL at random points of all writes
    python scripts/durability.py writers              4 processes x 5,000 writes on one store

A writer says what it is about to do and, once the store has returned, that it is done. After each
kill a fresh process opens the store and compares every row with that account: what was done is
there, what was being done is there as a whole or not at all, what was forgotten stays forgotten.
The last line is JSON. --url names a database to use, else a new SQLite file in a temporary folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from ryzanstein.memory.records import Draft
from ryzanstein.memory.store import MemoryStore

WORDS = "amber birch cedar delta ember fjord grove heron islet jetty knoll larch moor newt otter"
RECORDS = 40  # of a file that is imported
LOOKS = 50  # writes until the next look for what others have written
ACTIONS = {
    "remember": 45,
    "many": 5,
    "correct": 15,
    "forget": 12,
    "experience": 15,
    "import": 4,
    "consolidate": 4,
}


class Hashed:
    """Vectors from a text's digest: what is tested here does not depend on their meaning."""

    model_id = "hashed-16"
    dimension = 16

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32 [len(texts), 16], unit rows."""
        rows = [np.frombuffer(hashlib.sha256(one.encode()).digest(), dtype="<u2") for one in texts]
        vectors = np.array(rows, dtype=np.float32).reshape(-1, 16) - 32_768
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def opened(url: str) -> MemoryStore:
    """Opens the store with light embeddings."""
    return MemoryStore(url, embedder=Hashed())


@dataclass
class Ledger:
    """What was acknowledged.

    Attributes:
        current: Texts by id.
        old: Superseded texts by id.
        replaced: Which id a newer one took the place of.
        forgotten: Texts that must be nowhere.
        experiences: Tasks by id.
        imported: Texts by id; of a file that is being imported, as many as were found.
    """

    current: dict[str, str] = field(default_factory=dict)
    old: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    experiences: dict[str, str] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)

    def done(self, action: str, about: Sequence[str], ids: Sequence[str]) -> None:
        """Enters an action that was acknowledged."""
        if action in {"remember", "many"}:
            self.current.update(zip(ids, about, strict=True))
        elif action == "correct":
            old, words = about
            self.old[old] = self.current.pop(old)
            self.current[ids[0]] = words
            self.replaced[ids[0]] = old
        elif action == "forget":
            self._forget(about[0])
        elif action == "experience":
            self.experiences[ids[0]] = about[0]
        elif action == "import":
            self.imported.update(records(Path(about[0])))

    def interrupted(self, action: str, about: Sequence[str], found: Found) -> None:
        """Enters an action of which nobody heard whether it was done: the database tells."""
        if action in {"remember", "many", "correct"}:
            texts = about[1:] if action == "correct" else about
            ids = [found.ids[one] for one in texts if one in found.ids]
            if ids:
                self.done(action, about, ids)
        elif action == "forget" and about[0] not in found.texts:
            self._forget(about[0])
        elif action == "experience" and about[0] in found.tasks.values():
            self.experiences.update({k: v for k, v in found.tasks.items() if v == about[0]})
        elif action == "import":
            there = records(Path(about[0])).items()
            self.imported.update({id: one for id, one in there if id in found.texts})

    def _forget(self, id: str) -> None:
        self.forgotten.append(self.current.pop(id, "") or self.old.pop(id))
        if id in self.replaced:
            self._forget(self.replaced.pop(id))


@dataclass(frozen=True)
class Found:
    """What a database holds: texts by id, ids by text, what was superseded, tasks, bad rows."""

    texts: dict[str, str]
    ids: dict[str, str]
    superseded: set[str]
    tasks: dict[str, str]
    faults: tuple[str, ...]


def records(file: Path) -> dict[str, str]:
    """Ids and texts of the memories in an exported file."""
    lines = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {line["id"]: line["text"] for line in lines if line["type"] == "memory"}


def look(url: str) -> Found:
    """Opens the store and reads every row."""
    with opened(url) as store, store._database.read() as connection:
        memories = connection.execute(text("SELECT id, text, superseded_by FROM memories")).all()
        tasks = connection.execute(text("SELECT id, task FROM experiences")).all()
        ids = {one.text: one.id for one in memories}
        faults = tuple(faults_of(connection))
    if len(ids) < len(memories) or len({one.task for one in tasks}) < len(tasks):
        faults += ("a text is stored twice",)
    return Found(
        {one.id: one.text for one in memories},
        ids,
        {one.id for one in memories if one.superseded_by},
        {one.id: one.task for one in tasks},
        faults,
    )


def faults_of(connection: Connection) -> list[str]:
    """What is wrong between the tables, and inside of an SQLite file."""
    wrong = {
        "memories without their vector": "SELECT count(*) FROM memories LEFT JOIN embeddings ON "
        "memory_row = memories.row WHERE superseded_by IS NULL AND memory_row IS NULL",
        "vectors of superseded memories": "SELECT count(*) FROM memories JOIN embeddings ON "
        "memory_row = memories.row WHERE superseded_by IS NOT NULL",
        "experiences without their vector": "SELECT count(*) FROM experiences LEFT JOIN embeddings "
        "ON experience_row = experiences.row WHERE experience_row IS NULL",
        "rows from the future": "SELECT count(*) FROM memories WHERE memories.revision > "
        "(SELECT value FROM revision)",
    }
    counts = {name: connection.execute(text(query)).scalar() for name, query in wrong.items()}
    faults = [f"{count} {name}" for name, count in counts.items() if count]
    if connection.dialect.name == "sqlite":
        whole = connection.execute(text("PRAGMA integrity_check")).scalar()
        faults += [] if whole == "ok" else [f"integrity_check: {whole}"]
        faults += (
            ["a foreign key"] if connection.execute(text("PRAGMA foreign_key_check")).all() else []
        )
    return faults


def differences(ledger: Ledger, found: Found) -> list[str]:
    """How a database differs from what was acknowledged."""
    wanted = ledger.current | ledger.old | ledger.imported
    said = {
        "lost": wanted.keys() - found.texts.keys(),
        "from nowhere": found.texts.keys() - wanted.keys(),
        "changed": {
            id for id in wanted.keys() & found.texts.keys() if wanted[id] != found.texts[id]
        },
        "superseded by nobody's wish": found.superseded - ledger.old.keys(),
        "not superseded any more": ledger.old.keys() - found.superseded,
        "forgotten but there": set(ledger.forgotten) & found.ids.keys(),
        "experiences lost": ledger.experiences.keys() - found.tasks.keys(),
        "experiences from nowhere": found.tasks.keys() - ledger.experiences.keys(),
    }
    return [f"{len(ids)} {name}" for name, ids in said.items() if ids] + list(found.faults)


class Writer:
    """A process that does one thing after another until it is killed.

    Args:
        url: The database.
        pipe: Where it says what it does.
        seed: Chooses what it does.
        known: Ids that it may correct and forget.
        file: What it imports.
    """

    def __init__(self, url: str, pipe: int, seed: int, known: Sequence[str], file: Path) -> None:
        self._pipe = pipe
        self._chooser = random.Random(seed)
        self._known = list(known)
        self._file = file
        self._store = opened(url)

    def run(self) -> None:
        """Writes without end."""
        actions = list(ACTIONS)
        while True:
            action = self._chooser.choices(actions, weights=list(ACTIONS.values()))[0]
            if self._known or action not in {"correct", "forget"}:
                getattr(self, f"_{action}")()

    def _say(self, *line: object) -> None:
        os.write(self._pipe, json.dumps(line).encode() + b"\n")

    def _words(self) -> str:
        few = self._chooser.sample(WORDS.split(), 4)
        return f"{' '.join(few)} {self._chooser.getrandbits(60)}"

    def _any(self) -> str:
        return self._known.pop(self._chooser.randrange(len(self._known)))

    def _keep(self, *ids: str) -> None:
        self._known += ids
        self._say("done", ids)

    def _remember(self) -> None:
        words = self._words()
        self._say("remember", [words])
        self._keep(self._store.remember(words, tags=["kept"]).id)

    def _many(self) -> None:
        texts = [f"{self._words()} part {part}" for part in range(8)]
        self._say("many", texts)
        self._keep(*(one.id for one in self._store.remember_many([Draft(one) for one in texts])))

    def _correct(self) -> None:
        id, words = self._any(), self._words()
        self._say("correct", [id, words])
        self._keep(self._store.correct(id, words).id)

    def _forget(self) -> None:
        id = self._any()
        self._say("forget", [id])
        self._store.forget(id)
        self._say("done", [])

    def _experience(self) -> None:
        task = self._words()
        self._say("experience", [task])
        made = self._store.record_experience(
            task=task, agent="APEX", outcome="verified", fitness=1.0
        )
        self._say("done", [made.id])

    def _import(self) -> None:
        self._say("import", [str(self._file)])
        self._store.import_jsonl(self._file)
        self._say("done", [])

    def _consolidate(self) -> None:
        self._say("consolidate", [])
        self._store.consolidate(seconds=0.02)
        self._say("done", [])


def in_child(action: Callable[[int], None]) -> tuple[int, int]:
    """Forks; the child runs with the end of a pipe. Returns its id and the other end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    status = 1
    try:
        action(writing)
        status = 0
    finally:
        os._exit(status)


def asked(action: Callable[[], Any]) -> Any:
    """Returns what a function returns in a process of its own: this one never opens a store."""

    def answer(pipe: int) -> None:
        with os.fdopen(pipe, "wb") as file:
            pickle.dump(action(), file)

    child, reading = in_child(answer)
    with os.fdopen(reading, "rb") as file:
        result = pickle.load(file)
    os.waitpid(child, 0)
    return result


def killed(url: str, seed: int, ledger: Ledger, file: Path, lines: int, then: float) -> list[Any]:
    """Lets a writer say so many lines, kills it a little later, and returns what it had said."""
    known = list(ledger.current)
    child, reading = in_child(lambda pipe: Writer(url, pipe, seed, known, file).run())
    said = b""
    while said.count(b"\n") < lines:
        part = os.read(reading, 65_536)
        if not part:
            raise SystemExit("a writer ended by itself; its error is above")
        said += part
    time.sleep(then)
    os.kill(child, signal.SIGKILL)
    while part := os.read(reading, 65_536):
        said += part
    os.close(reading)
    os.waitpid(child, 0)
    return [json.loads(line) for line in said.split(b"\n")[:-1]]


def export_file(folder: Path, number: int) -> Path:
    """Writes a file of records that no store has yet."""
    path = folder / f"{number}.jsonl"

    def export() -> None:
        with opened("sqlite://") as store:
            store.remember_many(
                [Draft(f"file {number} record {one} is {one * 7919}") for one in range(RECORDS)]
            )
            store.export_jsonl(path)

    asked(export)
    return path


def kills(url: str, folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Kills writers one after another and compares after each."""
    chooser = random.Random(seed)
    ledger = Ledger()
    faults: list[str] = []
    actions = interrupted = 0
    asked(lambda: look(url))
    for number in range(count):
        if number % 25 == 0:
            file = export_file(folder, number)
        # One kill in five falls into the opening, or into replaying the log of the last one.
        lines, then = (0, 0.03) if number % 5 == 0 else (chooser.randint(1, 24), 0.005)
        told = killed(url, chooser.getrandbits(32), ledger, file, lines, chooser.uniform(0, then))
        pending: tuple[str, list[str]] | None = None
        for name, about in told:
            if name == "done" and pending:
                ledger.done(*pending, about)
                actions += 1
            pending = None if name == "done" else (name, about)
        found: Found = asked(lambda: look(url))
        if pending:
            interrupted += 1
            ledger.interrupted(*pending, found)
        faults += [f"after kill {number + 1}: {one}" for one in differences(ledger, found)]
        if faults:
            break
    return {
        "kills": number + 1,
        "acknowledged": actions,
        "interrupted": interrupted,
        "memories": len(ledger.current) + len(ledger.old) + len(ledger.imported),
        "forgotten": len(ledger.forgotten),
        "experiences": len(ledger.experiences),
        "faults": faults,
    }


def write_many(
    url: str, name: int, count: int, progress: Sequence[Synchronized[int]], pipe: int
) -> None:
    """Writes numbered texts and looks now and then for the newest of the others."""
    seen = missed = 0
    longest = 0.0
    with opened(url) as store:
        for number in range(1, count + 1):
            start = time.monotonic()
            store.remember(numbered(name, number))
            longest = max(longest, time.monotonic() - start)
            progress[name].value = number
            if number % LOOKS == 0:
                for other, place in enumerate(progress):
                    if other != name and (newest := place.value):
                        wanted = numbered(other, newest)
                        hits = store.recall(wanted, limit=3)
                        there = wanted in [hit.memory.text for hit in hits]
                        seen, missed = seen + there, missed + (not there)
    os.write(pipe, json.dumps([seen, missed, longest]).encode())


def numbered(name: int, number: int) -> str:
    """A text that only this writer stores, and only once."""
    return f"writer{name} stores record{number} of {WORDS.split()[number % 15]}"


def writers(url: str, processes: int, count: int) -> dict[str, Any]:
    """Several processes write to one store at once."""
    asked(lambda: look(url))
    progress = [multiprocessing.Value("q", 0) for _ in range(processes)]
    start = time.monotonic()
    children = [
        in_child(lambda pipe, name=name: write_many(url, name, count, progress, pipe))
        for name in range(processes)
    ]
    answers = []
    for child, reading in children:
        with os.fdopen(reading, "rb") as file:
            answers.append(json.loads(file.read() or b"[0, 0, 0]"))
        os.waitpid(child, 0)
    seconds = time.monotonic() - start
    found: Found = asked(lambda: look(url))
    wanted = {numbered(name, number) for name in range(processes) for number in range(1, count + 1)}
    return {
        "processes": processes,
        "writes_each": count,
        "stored": len(found.texts),
        "lost": len(wanted - found.ids.keys()),
        "duplicated": len(found.texts) - len(found.ids),
        "seen_of_others": sum(seen for seen, _, _ in answers),
        "not_seen": sum(missed for _, missed, _ in answers),
        "longest_write_seconds": round(max(longest for _, _, longest in answers), 3),
        "writes_per_second": round(processes * count / seconds, 1),
        "seconds": round(seconds, 1),
        "faults": list(found.faults),
    }


def main() -> int:
    """Runs one of the two and prints its JSON; 1 where something was lost."""
    parser = argparse.ArgumentParser(description="Kills writers, or lets several write at once.")
    parser.add_argument("--url", help="an empty database; SQLite in a temporary folder by default")
    what = parser.add_subparsers(dest="what", required=True)
    killing = what.add_parser("kills", help="SIGKILL at random points")
    killing.add_argument("--kills", type=int, default=200)
    killing.add_argument("--seed", type=int, default=5)
    sharing = what.add_parser("writers", help="several processes on one store")
    sharing.add_argument("--processes", type=int, default=4)
    sharing.add_argument("--writes", type=int, default=5_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("RYZANSTEIN_CACHE_DIR", f"{folder}/cache")
        url = chosen.url or f"sqlite:///{folder}/memory.db"
        if chosen.what == "kills":
            result = kills(url, Path(folder), chosen.kills, chosen.seed)
        else:
            result = writers(url, chosen.processes, chosen.writes)
    result["database"] = url.split(":")[0]
    print(json.dumps(result))
    return 1 if result["faults"] or result.get("lost") or result.get("not_seen") else 0


if __name__ == "__main__":
    raise SystemExit(main())
