"""A process on a disk of 3 MB: fills it, is told so, frees some space, and goes on."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from ryzanstein.errors import StorageError
from ryzanstein.memory.store import MemoryStore

FILLER = "the quay the crane the barge and the tide " * 20


def refused(action: Callable[[], object]) -> str:
    """What a write says that does not fit."""
    try:
        action()
    except StorageError as error:
        return str(error)
    return ""


def fill(store: MemoryStore, ids: list[str], words: str) -> str:
    """Remembers until nothing fits any more; returns what was said."""
    for number in range(100_000):
        said = refused(
            lambda text=f"{words} {number} {FILLER}": ids.append(store.remember(text).id)
        )
        if said:
            return said
    return ""


def main() -> None:
    """Prints what was said and which memories were acknowledged."""
    disk, export = Path(sys.argv[1]), Path(sys.argv[2])
    ballast, url = disk / "ballast", f"sqlite:///{disk / 'memory.db'}"
    ballast.write_bytes(b"x" * 1_600_000)
    ids: list[str] = []
    said = {}
    with MemoryStore(url) as store:
        first = store.remember("Whales are mammals")
        said["remember"] = fill(store, ids, "note")
        said["correct"] = refused(lambda: store.correct(first.id, f"Whales sing {FILLER * 20}"))
        said["experience"] = refused(
            lambda: store.record_experience(
                task=FILLER * 40, agent="APEX", outcome="verified", fitness=1.0
            )
        )
        said["import"] = refused(lambda: store.import_jsonl(export))
        said["export"] = refused(lambda: store.export_jsonl(disk / "all.jsonl"))
        left = sorted(path.name for path in disk.iterdir() if "jsonl" in path.name)
        found = store.recall("which animals are mammals", limit=1)[0].memory.id == first.id
        ballast.unlink()
        ids += [first.id, store.remember("There is room again").id]
        imported = store.import_jsonl(export).memories
        forgotten = store.remember("To be forgotten")
        assert store.forget(forgotten.id)
        said["again"] = fill(store, ids, "more")
    with MemoryStore(url) as store:
        lost = [id for id in ids if store.get(id) is None]
        stored = store.stats().memories
    result = {"said": said, "left": left, "found": found, "imported": imported}
    print(json.dumps({**result, "ids": len(ids), "lost": lost, "stored": stored}))


if __name__ == "__main__":
    main()
