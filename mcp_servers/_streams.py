"""Ends the streams that have no end of their own: with the server, or with their client's token.

An older client holds a GET open for what the server may have to say, a newer one a
`subscriptions/listen`. Without this, the first would be waited for as if it were a call under way
(the other ends as the protocol has it), and both would outlive a token that was revoked.
"""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ryzanstein.mcp_servers._auth import Auth

__all__ = ["Streams"]

LOOKS_EVERY_SECONDS = 10.0


class Streams:
    """Tells such streams that their client has gone, once they are to end.

    Args:
        inner: The application.
        auth: Knows whether a client would still be let in; None lets everybody in.
        ending: Set when the server is to end; None where nothing says so.
    """

    def __init__(self, inner: ASGIApp, auth: Auth | None, ending: anyio.Event | None) -> None:
        self._inner = inner
        self._auth = auth
        self._ending = ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "http" and scope["path"].startswith("/mcp"):
            ending = self._ending if scope["method"] == "GET" else None
            if scope["method"] == "GET" or _listens(scope):
                receive = self._until(ending, scope, receive)
                await _completed(self._inner, scope, receive, send)
                return
        await self._inner(scope, receive, send)

    def _until(self, ending: anyio.Event | None, scope: Scope, receive: Receive) -> Receive:
        async def received() -> Message:
            message: Message = {"type": "http.disconnect"}
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch, ending, scope, group.cancel_scope)
                message = await receive()
                group.cancel_scope.cancel()
            return message

        return received

    async def _watch(
        self, ending: anyio.Event | None, scope: Scope, stream: anyio.CancelScope
    ) -> None:
        while self._auth is None or self._auth.holds(scope):
            with anyio.move_on_after(LOOKS_EVERY_SECONDS):
                await (anyio.sleep_forever() if ending is None else ending.wait())
                break
        stream.cancel()


async def _completed(inner: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Ends the answer too, where the stream was left open as if nobody were there to read it."""
    is_open = False

    async def sent(message: Message) -> None:
        nonlocal is_open
        is_open = message["type"] == "http.response.start" or bool(message.get("more_body"))
        await send(message)

    await inner(scope, receive, sent)
    if is_open:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _listens(scope: Scope) -> bool:
    return Headers(scope=scope).get("mcp-method") == "subscriptions/listen"
