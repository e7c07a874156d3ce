"""A server over stdio: one message a line, and nothing but messages on stdout.

    stdin  -> thread -> socket pair -> frames -> the SDK's loop
    stdout <- thread <- messages    <-------------'

Descriptor 1 is stderr from the moment the wire is taken until the process ends, so that what a
library prints, at import or at exit, misses the protocol. Descriptor 0 is empty for children.
Input comes through a socket because a thread that waits for a line cannot be woken: an interrupt
ends the server at once.

A client's first request settles the protocol's revision for the connection, but `server/discover`
does not: clients ask that to find out, and those that go on with `initialize` would be refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.runner import serve_dual_era_loop, serve_loop
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse
from pydantic_core import PydanticSerializationError

from ryzanstein.errors import ConnectionFailed
from ryzanstein.mcp_servers._frames import MAX_FRAME, InFlight, Refusal, read_frame

if TYPE_CHECKING:
    from mcp.server.lowlevel.server import Server
    from mcp.server.mcpserver import MCPServer

__all__ = ["Era", "Wire", "run_stdio", "serve_stdio", "take_wire"]

log = logging.getLogger("ryzanstein.mcp_servers")

Era = Literal["auto", "legacy"]
_CHUNK = 65_536
_Sent = MemoryObjectSendStream[SessionMessage]
_Received = MemoryObjectReceiveStream[SessionMessage]


@dataclass(frozen=True)
class Wire:
    """The descriptors that stdin and stdout were."""

    source: int
    sink: int


def take_wire() -> Wire:
    """Takes stdin and stdout for the protocol, for as long as the process lives.

    Raises:
        ConnectionFailed: One of them is closed.
    """
    # Where one is closed its descriptor may be another file by now; Python noted it when it began.
    if sys.stdin is None or sys.stdout is None:
        raise ConnectionFailed(
            "stdin or stdout is closed, and the protocol needs both.",
            hint="Let an MCP client start this command, or use --transport streamable-http.",
        )
    sys.stdout.flush()
    wire = Wire(os.dup(0), os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # stderr is closed
        os.dup2(nothing, 1)
    os.close(nothing)
    return wire


def run_stdio(server: MCPServer[Any], era: Era = "auto", wire: Wire | None = None) -> None:
    """Serves until stdin ends.

    Args:
        server: What to serve.
        era: `legacy` knows `initialize` only and no `server/discover`.
        wire: What `take_wire` returned, if that was done before.

    Raises:
        ConnectionFailed: stdin or stdout is closed.
        KeyboardInterrupt: It was interrupted or terminated; what was under way is cancelled.
    """
    # A client that ends its servers by SIGTERM means the same: what runs is left in order.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    anyio.run(serve_stdio, server, era, wire)


async def serve_stdio(server: MCPServer[Any], era: Era = "auto", wire: Wire | None = None) -> None:
    """Serves until stdin ends; see `run_stdio`."""
    from ryzanstein.mcp_servers._background import hand_back

    wire = wire or take_wire()
    connection = _Connection(server._lowlevel_server, wire)
    try:
        await connection.serve(era)
    finally:
        with anyio.CancelScope(shield=True):
            await hand_back()


@dataclass
class _Connection:
    server: Server[Any]
    wire: Wire
    flight: InFlight = field(default_factory=InFlight)

    async def serve(self, era: Era) -> None:
        received, requests = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        answers, sent = anyio.create_memory_object_stream[SessionMessage](0)
        refusals = answers.clone()
        async with self.server.lifespan(self.server) as state, anyio.create_task_group() as group:
            group.start_soon(self._write, sent, group.cancel_scope)
            group.start_soon(self._read, received, refusals, era, state)
            if era == "legacy":
                await serve_loop(self.server, requests, answers, lifespan_state=state)
            else:
                await serve_dual_era_loop(self.server, requests, answers, lifespan_state=state)

    async def _read(
        self,
        received: MemoryObjectSendStream[SessionMessage | Exception],
        refusals: _Sent,
        era: Era,
        state: Any,
    ) -> None:
        settled = era == "legacy"
        frames = _frames(self.wire.source)
        async with received, refusals, contextlib.aclosing(frames):
            async for frame in frames:
                found = self._checked(read_frame(frame))
                if isinstance(found, Refusal):
                    await refusals.send(SessionMessage(found.to_error()))
                    continue
                message = SessionMessage(found)
                if isinstance(found, JSONRPCRequest):
                    if not settled and found.method == "server/discover":
                        await refusals.send(await self._probed(message, state))
                        continue
                    settled = True
                await received.send(message)

    def _checked(self, found: Any) -> Any:
        """Returns a message, or why its id cannot be used."""
        if isinstance(found, JSONRPCRequest):
            return self.flight.admit(found) or found
        if isinstance(found, JSONRPCNotification) and found.method == "notifications/cancelled":
            # A cancelled request is never answered, which is where its id would be freed.
            self.flight.settle((found.params or {}).get("requestId"))
        return found

    async def _probed(self, probe: SessionMessage, state: Any) -> SessionMessage:
        """Answers `server/discover` on a connection of its own, so that nothing is settled."""
        ask, asked = anyio.create_memory_object_stream[SessionMessage | Exception](1)
        answering, answer = anyio.create_memory_object_stream[SessionMessage](1)
        serve = partial(serve_dual_era_loop, self.server, asked, answering, lifespan_state=state)
        async with answer, anyio.create_task_group() as group:
            group.start_soon(serve)
            async with ask:
                await ask.send(probe)
                found = await answer.receive()
        return found

    async def _write(self, sent: _Received, scope: anyio.CancelScope) -> None:
        async with sent:
            async for message in sent:
                if isinstance(message.message, JSONRPCResponse | JSONRPCError):
                    self.flight.settle(message.message.id)
                try:
                    await anyio.to_thread.run_sync(_put, self.wire.sink, message)
                except OSError:  # nobody reads any more
                    scope.cancel()
                except PydanticSerializationError:
                    log.exception("A message cannot be written as JSON.")


def _put(sink: int, message: SessionMessage) -> None:
    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
    line = memoryview(f"{text}\n".encode())
    while line:
        line = line[os.write(sink, line) :]


async def _frames(source: int) -> AsyncGenerator[bytes]:
    """Yields the lines of a descriptor, without blank ones; of a huge one only the beginning."""
    feed, served = socket.socketpair()
    served.setblocking(False)
    threading.Thread(target=_pump, args=(source, feed), daemon=True).start()
    loop = asyncio.get_running_loop()
    kept = bytearray()
    try:
        while data := await loop.sock_recv(served, _CHUNK):
            *ends, rest = data.split(b"\n")
            for end in ends:
                if (line := bytes(kept + end)).strip():
                    yield line
                kept.clear()
            if len(kept) <= MAX_FRAME:
                kept += rest
        if kept.strip():
            yield bytes(kept)
    finally:
        served.close()


def _pump(source: int, feed: socket.socket) -> None:
    with feed, contextlib.suppress(OSError):  # the other side was closed
        while data := os.read(source, _CHUNK):
            feed.sendall(data)
