"""Asks the person at the terminal before something is overwritten or deleted.

A server asks by elicitation; only a terminal on both sides, to be read and to be answered, makes
this command a client that can be asked. Otherwise such a call is refused with what would allow it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.client.session import ElicitationFnT

__all__ = ["Around", "at_terminal"]

# What keeps the line of progress away while a question stands there.
Around = Callable[[], contextlib.AbstractContextManager[Any]]


def at_terminal(around: Around = contextlib.nullcontext) -> ElicitationFnT | None:
    """How to ask the person; None where nobody can read or answer.

    Args:
        around: Entered while a question stands there.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    from mcp_types import ElicitRequestParams, ElicitResult

    async def ask(context: Any, params: ElicitRequestParams) -> ElicitResult:
        with around():
            yes = await _confirmed(params.message)
        if yes is None:
            return ElicitResult(action="cancel")
        return ElicitResult(action="accept" if yes else "decline", content={"approve": yes})

    return ask


async def _confirmed(message: str) -> bool | None:
    """The answer, no by default; None where the terminal was closed."""
    import anyio

    print(f"{_plain(message)} Do it? [y/N] ", end="", file=sys.stderr, flush=True)
    # Waiting for the line, unlike reading it in a thread, ends at once with Ctrl-C.
    await anyio.wait_readable(sys.stdin)
    line = sys.stdin.readline()
    return line.strip().lower() in {"y", "yes"} if line else None


def _plain(text: str) -> str:
    """A text that moves no cursor: it may name a file that anybody made."""
    return "".join(char if char.isprintable() else " " for char in text)
