"""Asks the servers that own the models and the memory, so that no tool loads them a second time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import ToolContext

__all__ = ["ask"]


async def ask(
    ctx: ToolContext, server: str, name: str, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Calls a tool of another server and returns its fields; arguments that are None are left out.

    Raises:
        ToolError: This context reaches no other server.
        RyzansteinError: What that server raised, or what went wrong on the way to it.
    """
    if ctx.ask_server is None:
        raise ToolError(
            f"There is no {server} server here.",
            hint="Call this through the tools server (ryzanstein serve tools), or go on without.",
        )
    given = {key: value for key, value in arguments.items() if value is not None}
    return await ctx.ask_server(server, name, given)
