"""Times remember and recall on a real store; the last line of stdout is JSON.

    python scripts/bench_memory.py [--rows 1000 10000 50000] [--queries 200] [--data FILE]

Texts are passages of 8 to 30 words from a text file (WikiText for instance) or, without one,
sentences put together from word lists. Stores are filled by import, in batches; inserts are timed
one by one, each acknowledged after its fsync. Recall is hybrid and warm, one thread.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ryzanstein.machine import cpu_name
from ryzanstein.memory.store import MemoryStore

_SUBJECTS = "server database parser cache queue cluster index kernel compiler router".split()
_VERBS = "stores drops reads signs merges sorts retries checks splits encrypts".split()
_OBJECTS = "invoices tokens frames vectors orders logs events users images packets".split()
_PLACES = "in staging|at night|before release|after login|on the edge|behind the proxy".split("|")


def sentences(count: int, data: Path | None, seed: int = 1) -> list[str]:
    """Returns distinct texts of about a sentence each."""
    chooser = random.Random(seed)
    if data is None:
        parts = (_SUBJECTS, _VERBS, _OBJECTS, _PLACES)
        made = (" ".join(map(chooser.choice, parts)) for _ in range(count))
        return [f"Note {number}: the {text}" for number, text in enumerate(made)]
    words = data.read_text(encoding="utf-8").split()
    found: dict[str, None] = {}
    while len(found) < count:
        start = chooser.randrange(len(words) - 30)
        found[" ".join(words[start : start + chooser.randint(8, 30)])] = None
    return list(found)


def fill(store: MemoryStore, texts: list[str], folder: Path) -> float:
    """Imports texts and returns the seconds it took."""
    now = datetime.now(UTC).isoformat()
    base = {"type": "memory", "kind": "fact", "agent": None, "tags": [], "source": None}
    base |= {"importance": 0.5, "reinforced": 0, "created": now, "updated": now}
    path = folder / "fill.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "ryzanstein-memory", "version": 1}\n')
        for number, text in enumerate(texts):
            line = {**base, "id": f"mem_{number:016x}", "text": text, "superseded_by": None}
            file.write(json.dumps(line) + "\n")
    start = time.perf_counter()
    store.import_jsonl(path)
    return time.perf_counter() - start


def timed(action: Any, arguments: list[str]) -> dict[str, float]:
    """Calls the action with each argument; median, 99th percentile and rate."""
    taken = []
    for argument in arguments:
        start = time.perf_counter()
        action(argument)
        taken.append(time.perf_counter() - start)
    milliseconds = 1e3 * np.array(taken)
    return {
        "p50_ms": round(float(np.percentile(milliseconds, 50)), 2),
        "p99_ms": round(float(np.percentile(milliseconds, 99)), 2),
        "per_s": round(len(taken) / sum(taken), 1),
    }


def measure(rows: int, queries: int, data: Path | None) -> dict[str, Any]:
    """Fills a new store with so many rows and times everything on it."""
    texts = sentences(rows + queries, data)
    stored, fresh = texts[:rows], texts[rows:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'bench.db'}"
        with MemoryStore(url) as store:
            imported = fill(store, stored, folder)
        with MemoryStore(url) as store:
            start = time.perf_counter()
            store.recall(fresh[0])
            first = time.perf_counter() - start
            while_building = timed(store.recall, fresh[:50])
            store._facts.searcher.synced.index.wait()
            built = time.perf_counter() - start
            recall = timed(store.recall, fresh)
            remember = timed(store.remember, fresh)
            found = sum(store.recall(text)[0].memory.text == text for text in stored[:queries])
            ids = [hit.memory.id for text in fresh[:5] for hit in store.recall(text, limit=1)]
            forget = timed(store.forget, ids)
            stats = store.stats()
    return {
        "rows": rows,
        "import_per_s": round(rows / imported),
        "first_recall_ms": round(1e3 * first, 1),
        "recall_while_building": while_building,
        "index": stats.index["memories"],
        "index_built_s": round(built, 2),
        "recall": recall,
        "remember": remember,
        "forget": forget,
        "itself_first": found / min(queries, rows),
        "bytes_a_row": round((stats.bytes or 0) / rows),
    }


def main() -> None:
    """Prints one line a size, then all of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 50_000])
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    sizes = []
    for rows in options.rows:
        sizes.append(measure(rows, options.queries, options.data))
        print(sizes[-1], flush=True)
    print(json.dumps({"machine": cpu_name(), "suite": "memory", "sizes": sizes}))


if __name__ == "__main__":
    main()
