"""The command line: `ryzanstein COMMAND`. `main` is the console script.

    0    done
    1    failed, with one line that says why and what to do (with --json also as JSON on stdout)
    2    wrong usage
    130  interrupted

Every command is a client of the MCP servers; nothing heavy is imported before a command needs it.
This module imports next to nothing, so that an interrupt finds a handler almost from the start.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, without the time its import takes
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line of these arguments, or of the process, and exits."""
    try:
        from ryzanstein.cli._main import main as run

        run(arguments)
    except KeyboardInterrupt:
        _say_interrupted(sys.argv if arguments is None else arguments)
        sys.exit(130)


def _say_interrupted(arguments: Sequence[str]) -> None:
    """Says it without what may be half imported."""
    if sys.stderr is not None:
        sys.stderr.write("ryzanstein: Interrupted.\n")
    if "--json" in arguments and sys.stdout is not None:
        error = '{"code": "INTERNAL_ERROR", "message": "Interrupted.", "hint": ""}'
        sys.stdout.write(f'{{"error": {error}}}\n')
