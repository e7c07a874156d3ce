"""How many sessions of the older protocol one subject may hold, so that none is left without.

The SDK opens so many for everybody together; who never ends them would keep others out.
"""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict

from mcp.server.streamable_http import MCP_SESSION_ID_HEADER
from mcp.server.streamable_http_manager import DEFAULT_SESSION_IDLE_TIMEOUT
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ryzanstein.mcp_servers._rates import too_many
from ryzanstein.subject import current

__all__ = ["Sessions"]

_RETRY_SECONDS = 60.0


class Sessions:
    """Refuses a session more than a subject may hold; stands where the subject is known.

    Args:
        inner: The application.
        most: Of one subject.
    """

    def __init__(self, inner: ASGIApp, most: int) -> None:
        self._inner = inner
        self._most = most
        self._used: defaultdict[str, OrderedDict[str, float]] = defaultdict(OrderedDict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 429 to one that would open a session too many."""
        if scope["type"] != "http" or not scope["path"].startswith("/mcp"):
            await self._inner(scope, receive, send)
            return
        named = Headers(scope=scope).get(MCP_SESSION_ID_HEADER)
        mine = self._live(current().key)
        if named is None and len(mine) >= self._most and _may_open(scope):
            await too_many(_RETRY_SECONDS)(scope, receive, send)
            return
        if named in mine:
            self._touch(mine, str(named))
        if scope["method"] == "DELETE":
            mine.pop(str(named), None)

        async def seen(message: Message) -> None:
            opened = _opened(message)
            if named is None and opened is not None:
                self._touch(mine, opened)
            await send(message)

        await self._inner(scope, receive, seen)

    def _live(self, subject: str) -> OrderedDict[str, float]:
        """The sessions of a subject, without those that have been idle for too long."""
        mine = self._used[subject]
        oldest = time.monotonic() - DEFAULT_SESSION_IDLE_TIMEOUT
        while mine and next(iter(mine.values())) < oldest:
            mine.popitem(last=False)
        return mine

    @staticmethod
    def _touch(mine: OrderedDict[str, float], session: str) -> None:
        mine[session] = time.monotonic()
        mine.move_to_end(session)


def _may_open(scope: Scope) -> bool:
    version = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
    return scope["method"] == "POST" and (version is None or version in HANDSHAKE_PROTOCOL_VERSIONS)


def _opened(message: Message) -> str | None:
    """The id of the session that an answer opens."""
    if message["type"] != "http.response.start" or message["status"] >= 400:
        return None
    return Headers(raw=list(message.get("headers", ()))).get(MCP_SESSION_ID_HEADER)
