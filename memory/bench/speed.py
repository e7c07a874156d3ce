"""Speed of storing and recalling in a new SQLite store, a record at a time, each on the disk."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ryzanstein.machine import cpu_name
from ryzanstein.memory.embed import get_embedder
from ryzanstein.memory.store import MemoryStore

__all__ = ["run"]

_TOPICS = ("invoice", "server", "garden", "protein", "compiler", "violin", "harbour", "budget")
_VERBS = ("moved to", "was replaced by", "depends on", "is cheaper than", "was named after")


def run(records: int = 2000, queries: int = 200, embedding: str | None = None) -> dict[str, Any]:
    """Measures one store.

    Args:
        records: Facts to store.
        queries: Facts to look for, by their own text.
        embedding: One of EMBEDDINGS; None means the default.

    Returns:
        Milliseconds of remember and of recall (median, 99th percentile and most), facts stored a
        second, and the share of facts that were found by their own text.
    """
    texts = [_fact(number) for number in range(records)]
    wanted = [texts[number * records // queries] for number in range(queries)]
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}"
        with MemoryStore(url, embedder=get_embedder(embedding)) as store:
            store.recall(texts[0])  # loads the embedding model
            remember = [_timed(store.remember, text)[0] for text in texts]
            recalled = [_timed(store.recall, text, limit=1) for text in wanted]
            model = store.embedder.model_id
    answers = zip((hits for _, hits in recalled), wanted, strict=True)
    found = sum(bool(hits) and hits[0].memory.text == text for hits, text in answers)
    return {
        "suite": "speed",
        "machine": cpu_name(),
        "embedding": model,
        "records": records,
        "remember_per_s": round(records / sum(remember), 1),
        **_figures("remember", remember),
        **_figures("recall", [seconds for seconds, _ in recalled]),
        "found_itself": round(found / queries, 4),
    }


def _timed(action: Any, text: str, **options: Any) -> tuple[float, Any]:
    began = perf_counter()
    value = action(text, **options)
    return perf_counter() - began, value


def _figures(name: str, seconds: list[float]) -> dict[str, float]:
    middle, late, most = 1e3 * np.percentile(seconds, (50, 99, 100))
    return {
        f"{name}_ms_median": round(float(middle), 3),
        f"{name}_ms_p99": round(float(late), 3),
        f"{name}_ms_max": round(float(most), 3),
    }


def _fact(number: int) -> str:
    one, two = _TOPICS[number % 8], _TOPICS[(number // 8) % 8]
    return f"The {one} {number} {_VERBS[number % 5]} the {two} {number * 7919 % 10_007}."
