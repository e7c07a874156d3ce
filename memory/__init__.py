"""Memory of facts and experiences: SQL is the truth, every vector index a cache of it.

    store = open_store()
    store.remember("The staging database is called orion.")
    store.recall("how is the staging database called?")[0].memory.text

Everything heavy (SQLAlchemy, numpy, wordllama) is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ryzanstein.memory.records import (
    AgentPrototype,
    AgentPrototypes,
    Calibration,
    ConsolidationReport,
    Draft,
    Experience,
    ExperienceHit,
    Hit,
    ImportReport,
    JournalEntry,
    Lesson,
    Link,
    Memory,
    Reason,
    Run,
    Standing,
    StoreStats,
)

if TYPE_CHECKING:
    from ryzanstein.memory.embed import Embedder, get_embedder
    from ryzanstein.memory.runs import RunStore
    from ryzanstein.memory.store import MemoryStore, open_store

__all__ = [
    "AgentPrototype",
    "AgentPrototypes",
    "Calibration",
    "ConsolidationReport",
    "Draft",
    "Embedder",
    "Experience",
    "ExperienceHit",
    "Hit",
    "ImportReport",
    "JournalEntry",
    "Lesson",
    "Link",
    "Memory",
    "MemoryStore",
    "Reason",
    "Run",
    "RunStore",
    "Standing",
    "StoreStats",
    "get_embedder",
    "open_store",
]

_LAZY = {
    "Embedder": "embed",
    "get_embedder": "embed",
    "MemoryStore": "store",
    "open_store": "store",
    "RunStore": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"ryzanstein.memory.{_LAZY[name]}"), name)
