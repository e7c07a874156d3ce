"""Runs a server over stdio so that an interrupt ends it while it waits for input.

    stdin -> thread -> socket pair -> descriptor 0 -> server

The server reads its input in a thread that nothing can wake; after an interrupt it would wait for
the next line. So it reads from a socket instead, whose other side this module can shut.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

__all__ = ["run_stdio"]

_CHUNK = 65_536


def run_stdio(server: MCPServer[Any]) -> None:
    """Serves until stdin ends.

    Raises:
        KeyboardInterrupt: An interrupt ended it; what was under way is cancelled.
    """
    if os.name != "posix":  # asyncio watches signals there only
        server.run("stdio")
    elif anyio.run(_serve, server, _pumped_stdin()):
        raise KeyboardInterrupt


def _pumped_stdin() -> socket.socket:
    """Puts a socket in the place of stdin, fed from it; returns the side that feeds."""
    feed, served = socket.socketpair()
    source = os.dup(0)
    os.dup2(served.fileno(), 0)
    served.close()
    threading.Thread(target=_pump, args=(source, feed), daemon=True).start()
    return feed


def _pump(source: int, feed: socket.socket) -> None:
    try:
        while data := os.read(source, _CHUNK):
            feed.sendall(data)
        feed.shutdown(socket.SHUT_WR)
    except OSError:
        return  # shut by the other side


async def _serve(server: MCPServer[Any], feed: socket.socket) -> bool:
    """Runs the server; says whether an interrupt ended it."""
    interrupted = False

    async def watch() -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                interrupted = True
                with contextlib.suppress(OSError):  # stdin had just ended by itself
                    feed.shutdown(socket.SHUT_RDWR)
                group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await server.run_stdio_async()
        group.cancel_scope.cancel()
    return interrupted
