"""Where the public data sets of the measures lie on this machine."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ryzanstein.errors import InvalidRequest

__all__ = ["find_data", "read_lines"]

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
