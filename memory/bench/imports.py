"""Speed of imports and exports: turns, passages and lines a second, each on the disk at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from ryzanstein.machine import cpu_name
from ryzanstein.memory.bench.texts import passages
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.store import MemoryStore

__all__ = ["run"]

_BEGINS = 1_700_000_000


def run(data: Path, *, records: int = 10_000, embedding: str | None = None) -> dict[str, Any]:
    """Measures a conversation, a document, an export, and its import into another store.

    Args:
        data: A text file: it is the document, and turns are cut from it.
        records: Turns of the conversation.
        embedding: Name of the embedding model; None means the default one.

    Returns:
        How many of each, and how many a second.
    """
    embedder = get_embedder(embedding)
    embedder.embed(["loads the model"])
    said = [
        {"speaker": "AB"[number % 2], "text": text, "time": _BEGINS + 60 * number}
        for number, text in enumerate(islice(passages(data), records))
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = folder / "export.jsonl"
        with MemoryStore(f"sqlite:///{folder / 'one.db'}", embedder=embedder) as store:
            chat = {"id": "bench", "messages": said}
            turns = _timed(lambda: store.import_conversation(chat).added)
            chunks = _timed(lambda: store.import_document(data, format="text").added)
            exported = _timed(lambda: store.export_jsonl(lines))
        with MemoryStore(f"sqlite:///{folder / 'two.db'}", embedder=embedder) as other:
            imported = _timed(lambda: other.import_jsonl(lines).memories)
            again = _timed(lambda: other.import_jsonl(lines).skipped)
    return {
        "suite": "imports",
        "machine": cpu_name(),
        "embedding": embedder.model_id,
        **_figures("turns", turns),
        **_figures("passages", chunks),
        **_figures("exported", exported),
        **_figures("imported", imported),
        **_figures("skipped", again),
    }


def _timed(action: Callable[[], int]) -> tuple[int, float]:
    began = perf_counter()
    count = action()
    return count, perf_counter() - began


def _figures(name: str, measured: tuple[int, float]) -> dict[str, Any]:
    count, seconds = measured
    return {name: count, f"{name}_per_s": round(count / seconds)}
