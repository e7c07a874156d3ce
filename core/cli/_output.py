"""What a command prints: one JSON document, or text for people; everything else goes to stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ryzanstein.errors import RyzansteinError, StorageError

__all__ = ["Output", "print_error", "table", "written_out"]


class Output:
    """Where a command's result goes.

    Args:
        as_json: One JSON document instead of text for people.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, value: Any, show: Callable[[], None] | None = None) -> None:
        """Prints the result: as JSON, or by `show`, or, without one, its lines."""
        with written_out():
            if self.as_json:
                print(json.dumps(value, ensure_ascii=False, indent=2, default=str))
            elif show is not None:
                show()
            else:
                print(value)

    def note(self, text: str) -> None:
        """Tells people something that is no part of the result."""
        print(text, file=sys.stderr)


@contextlib.contextmanager
def written_out() -> Iterator[None]:
    """Makes sure that what is printed inside has left this process.

    Raises:
        StorageError: stdout is closed, or the disk that it goes to is full.
        BrokenPipeError: Its reader went away.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        hint = "Give it somewhere to go."
        raise StorageError(f"stdout cannot be written: {error.strerror}.", hint=hint) from error


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table that uses the width there is."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    Console(highlight=False, soft_wrap=False).print(drawn)


def print_error(error: RyzansteinError, as_json: bool) -> None:
    """Prints one line to stderr, and with --json the error as a document on stdout."""
    line = " ".join(str(error).split())
    # Where neither stream can be written, the exit code is all that is left to say.
    with contextlib.suppress(OSError):
        print(f"ryzanstein: {line}", file=sys.stderr)
    if as_json:
        with contextlib.suppress(OSError):
            print(json.dumps({"error": error.to_wire()}, ensure_ascii=False, indent=2))
