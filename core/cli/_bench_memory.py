"""What `ryzanstein bench memory` measures: a suite a function, imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ryzanstein.errors import InvalidRequest

__all__ = ["SUITES", "Asked", "memory_suite"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; None means the suite's own default."""

    data: Path | None
    embedding: str | None
    records: int | None
    queries: int
    sizes: tuple[int, ...] | None
    parts: tuple[str, ...]

    @property
    def file(self) -> Path:
        """The file to measure with.

        Raises:
            InvalidRequest: None was given.
        """
        if self.data is None:
            raise InvalidRequest("This suite needs a file.", hint="Give one with --data FILE.")
        return self.data


def memory_suite(name: str, *, sizes: str | None, **options: Any) -> dict[str, Any]:
    """Measures one suite, in stores of its own."""
    return SUITES[name](Asked(sizes=None if sizes is None else _numbers(sizes), **options))


def _speed(asked: Asked) -> dict[str, Any]:
    from ryzanstein.memory.bench.speed import run

    return run(records=asked.records or 2000, queries=asked.queries, embedding=asked.embedding)


def _locomo(asked: Asked) -> dict[str, Any]:
    from ryzanstein.memory.bench.locomo import run

    return run(asked.file, asked.embedding)


def _vectors(asked: Asked) -> dict[str, Any]:
    from ryzanstein.memory.bench.vectors import run

    return run(
        asked.file,
        sizes=asked.sizes,
        queries=asked.queries,
        embedding=asked.embedding,
        progress=_told,
    )


def _imports(asked: Asked) -> dict[str, Any]:
    from ryzanstein.memory.bench.imports import run

    return run(asked.file, records=asked.records or 10_000, embedding=asked.embedding)


def _merging(asked: Asked) -> dict[str, Any]:
    from ryzanstein.memory.bench.merging import run

    return run(asked.file, sizes=asked.sizes or (10_000,), embedding=asked.embedding)


def _scale(asked: Asked) -> dict[str, Any]:
    from ryzanstein.memory.bench.scale import run

    return run(
        asked.file,
        records=asked.records,
        queries=asked.queries,
        embedding=asked.embedding,
        parts=asked.parts or ("index", "store"),
        progress=_told,
    )


SUITES: dict[str, Callable[[Asked], dict[str, Any]]] = {
    "speed": _speed,
    "locomo": _locomo,
    "vectors": _vectors,
    "imports": _imports,
    "merging": _merging,
    "scale": _scale,
}


def _told(line: str) -> None:
    print(line, file=sys.stderr)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidRequest(
            f"{text!r} is no list of numbers.", hint="For example --sizes 10000,100000."
        ) from error
