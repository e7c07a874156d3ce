"""Calls tools of the servers, as any MCP client would, wherever the registry says they are."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import TYPE_CHECKING, Any

from ryzanstein.cli._approval import Around, at_terminal
from ryzanstein.errors import InvalidRequest

__all__ = ["call", "read_json", "read_text"]

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Progress


def call(
    server: str,
    tool: str,
    arguments: dict[str, Any] | None = None,
    progress: Progress | None = None,
    around: Around = contextlib.nullcontext,
) -> dict[str, Any]:
    """Calls one tool and returns its structured content.

    Where there is a terminal, the person at it is asked before something is lost.

    Args:
        server: Name of the server.
        tool: Name of the tool.
        arguments: Those that are None are left out.
        progress: Awaited with done, total and message, as often as the server reports.
        around: Entered while a question stands at the terminal.

    Raises:
        RyzansteinError: The tool failed.
    """
    import anyio

    from ryzanstein.agents.clients.services import Services
    from ryzanstein.mcp_servers._shared import shared

    async def run() -> dict[str, Any]:
        elicit = at_terminal(around)
        async with Services(shared().registry, names=(server,), elicit=elicit) as services:
            return await services.call(server, tool, arguments or {}, progress=progress)

    _import_client()
    return anyio.run(run)


def read_json(server: str, uri: str) -> dict[str, Any]:
    """Reads a JSON resource of a server.

    Raises:
        RyzansteinError: There is none, or the server cannot be reached.
    """
    import anyio

    from ryzanstein.agents.clients.services import Services
    from ryzanstein.mcp_servers._shared import shared

    async def run() -> dict[str, Any]:
        async with Services(shared().registry, names=(server,)) as services:
            return await services.read_json(server, uri)

    _import_client()
    return anyio.run(run)


def _import_client() -> None:
    """Imports what takes a second before the event loop runs: an interrupt ends that at once."""
    importlib.import_module("mcp")


def read_text(argument: str) -> str:
    """Returns an argument, or all of stdin for `-`.

    Raises:
        InvalidRequest: It is not UTF-8.
    """
    if argument != "-":
        return argument
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"stdin is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}.",
            hint="Convert it, for instance with iconv -t utf-8.",
        ) from error
