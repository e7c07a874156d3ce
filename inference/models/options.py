"""How a program is to run, whatever its architecture."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True, slots=True)
class Options:
    """Threads, pinned or not, type of the key/value cache, instruction set (None: the best)."""

    threads: int
    half_cache: bool = True
    isa: str | None = None
    pin: bool = False
