"""Rows of figures as a table on stderr, and types of arguments for the scripts that print them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ryzanstein.errors import RyzansteinError
from ryzanstein.machine import cpu_name

__all__ = ["Table", "names", "numbers", "report"]


class Table:
    """Prints rows as they come.

    Args:
        columns: The keys of a row that are shown, and how wide each is.
    """

    def __init__(self, columns: Mapping[str, int]) -> None:
        self._columns = columns
        words = {name: [*name.split("_"), "", ""] for name in columns}
        for line in range(3):
            self.show({name: parts[line] for name, parts in words.items()})

    def show(self, row: Mapping[str, Any]) -> None:
        """Prints one row; what it lacks stays empty."""
        cells = (
            str(row.get(name, ""))[:width].ljust(width) for name, width in self._columns.items()
        )
        print(" ".join(cells).rstrip(), file=sys.stderr)


def report(
    columns: Mapping[str, int], comparisons: Iterable[list[dict[str, Any]]], out: Path | None
) -> int:
    """Shows rows as they come, and prints all as one line of JSON; returns the exit status.

    Args:
        columns: As of `Table`.
        comparisons: Rows, made while they are asked for.
        out: A file for a copy of the line.
    """
    rows: list[dict[str, Any]] = []
    table = Table(columns)
    try:
        for found in comparisons:
            rows += found
            for row in found:
                table.show(row)
    except RyzansteinError as error:
        print(json.dumps({"error": error.to_wire()}))
        return 1
    line = json.dumps({"machine": cpu_name(), "results": rows})
    if out:
        out.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0


def names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A type of argument: names with commas between, each of them known."""

    def read(text: str) -> list[str]:
        given = text.split(",")
        for one in given:
            if one not in known:
                raise argparse.ArgumentTypeError(f"{one!r} is none of {', '.join(known)}")
        return given

    return read


def numbers(text: str) -> list[int]:
    """A type of argument: whole numbers with commas between."""
    given = [int(one) for one in text.split(",")]
    if min(given) < 1:
        raise argparse.ArgumentTypeError(f"{text} holds a number below 1")
    return given
