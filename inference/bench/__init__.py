"""Measurements of the engine, alone and side by side with a peer on the same file.

    python -m ryzanstein.inference.bench speed MODEL --threads 2 --peer llama-cpp
    python -m ryzanstein.inference.bench perplexity MODEL --data FILE --windows 32

Each engine runs in a process of its own (`worker.py`), so that memory is its own and neither
disturbs the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ryzanstein.inference.bench.perplexity import bench_perplexity
    from ryzanstein.inference.bench.throughput import bench_inference

__all__ = ["bench_inference", "bench_perplexity"]

_MODULES = {"bench_inference": "throughput", "bench_perplexity": "perplexity"}


def __getattr__(name: str) -> Any:
    # Lazily, because the child process begins with this package and measures its own memory.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
