"""Where the public data sets of the measures lie on this machine."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ryzanstein.errors import InvalidRequest

__all__ = ["Log", "find_data", "read_lines"]

_FOLDERS = ("", "data", "shared/data", "../shared/data")


def find_data(given: Path | None, usual: str, source: str) -> Path:
    """Returns the file to measure with.

    Args:
        given: What the user named; None looks for the usual name in $RYZANSTEIN_BENCH_DATA, the
            working directory, and `data`, `shared/data` and `../shared/data` from there.
        usual: The file's usual name.
        source: Where it is to be had, for the error.

    Raises:
        InvalidRequest: There is no such file.
    """
    if given is not None:
        if not given.is_file():
            what = "is a folder" if given.is_dir() else "does not exist"
            hint = f"Name the file {usual} with --data; it comes from {source}."
            raise InvalidRequest(f"{given} {what}.", hint=hint)
        return given
    folders = [Path(os.environ.get("RYZANSTEIN_BENCH_DATA") or "."), *map(Path, _FOLDERS)]
    for folder in folders:
        if (folder / usual).is_file():
            return folder / usual
    raise InvalidRequest(
        f"{usual} is not here.",
        hint=f"Get it from {source} and name it with --data FILE, "
        "or its folder with RYZANSTEIN_BENCH_DATA.",
    )


def read_lines(path: Path, *needed: str) -> Iterator[dict[str, Any]]:
    """Reads a file of one JSON object a line, compressed or not.

    Raises:
        InvalidRequest: It cannot be read, or a line is no object with the needed keys.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                found = json.loads(line)
                missing = [key for key in needed if not isinstance(found, dict) or key not in found]
                if missing:
                    raise ValueError(f"it has no {' and no '.join(map(repr, missing))}")
                yield found
    except (OSError, EOFError, ValueError) as error:
        # What cannot be decoded is met in the line behind the last one that was read.
        at = number if isinstance(error, json.JSONDecodeError) else number + 1
        reason = str(error).rstrip(".")
        raise InvalidRequest(
            f"{path}, line {at}: {reason}.", hint="Each line has to be one JSON object."
        ) from error


class Log:
    """A line of JSON for each problem that was solved, so that a run that was stopped goes on.

    Args:
        path: The file; None keeps nothing.
        head: What the lines are of, such as suite and model; stands in each of them.
    """

    def __init__(self, path: Path | None, head: Mapping[str, Any]) -> None:
        self._path = path
        self._head = dict(head)

    def lines(self, *needed: str) -> Iterator[dict[str, Any]]:
        """Reads what was written, without the head.

        Raises:
            InvalidRequest: It is of something else, or a line has not the needed keys.
        """
        if self._path is None or not self._path.exists():
            return
        for line in read_lines(self._path, *self._head, *needed):
            if any(line.pop(key) != value for key, value in self._head.items()):
                *names, last = self._head
                raise InvalidRequest(
                    f"{self._path} is the log of another {', '.join(names)} or {last}.",
                    hint="Name another --log.",
                )
            yield line

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes a line behind the others."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**self._head, **line}, ensure_ascii=False) + "\n")
