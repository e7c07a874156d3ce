"""Exact mathematics: sympy in a process of its own, with limits on time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from ryzanstein.tools import worker
from ryzanstein.tools.context import Output

__all__ = ["Expression", "Variable", "calculated", "in_worker", "results_text"]

_SECONDS = 10.0

Expression = Annotated[
    str,
    Field(min_length=1, max_length=5000, description="such as x**2*sin(x); * for times"),
]
Variable = Annotated[
    str, Field(max_length=40, description="the variable; may be left out if there is one")
]


async def in_worker(function: str, **arguments: Any) -> Any:
    """Calls a function of the worker.

    Raises:
        ToolError: It cannot be read, or its evaluation failed or took too long.
    """
    return await worker.call(function, arguments, seconds=_SECONDS)


async def calculated(function: str, **arguments: Any) -> Output:
    """Calls a function of the worker that returns {result, decimal}, perhaps with a note.

    Raises:
        ToolError: It cannot be read, or its evaluation failed or took too long.
    """
    found = await in_worker(function, **arguments)
    return Output(results_text(found), found)


def results_text(found: Mapping[str, str]) -> str:
    """Returns a result, its decimal value below it, and a note."""
    lines = [found["result"], f"= {found['decimal']}" if found["decimal"] else ""]
    note = found.get("note", "")
    return "\n".join(line for line in (*lines, f"[{note}]" if note else "") if line)
