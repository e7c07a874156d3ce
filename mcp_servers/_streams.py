"""Ends the streams of older clients that have no end of their own, when the server is to end.

Such a client holds a GET open for what the server may have to say; without this it would be waited
for as if it were a call under way. Those of newer clients end as the protocol has it.
"""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Streams"]


class Streams:
    """Tells such streams that their client has gone, once the server is ending.

    Args:
        inner: The application.
        ending: Set when it is; None where nothing says so.
    """

    def __init__(self, inner: ASGIApp, ending: anyio.Event | None) -> None:
        self._inner = inner
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if self._ending is not None and _is_stream(scope):
            receive = _until(self._ending, receive)
        await self._inner(scope, receive, send)


def _is_stream(scope: Scope) -> bool:
    if scope["type"] != "http" or not scope["path"].startswith("/mcp"):
        return False
    return bool(scope["method"] == "GET")


def _until(ending: anyio.Event, receive: Receive) -> Receive:
    async def received() -> Message:
        message: Message = {"type": "http.disconnect"}

        async def wait() -> None:
            await ending.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            message = await receive()
            group.cancel_scope.cancel()
        return message

    return received
