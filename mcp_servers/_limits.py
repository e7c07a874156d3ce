"""How much one subject may ask for: requests in a time, requests at once, bytes of a body.

    too many in a time     429 with Retry-After; the owner is not limited
    too many at once       429 with Retry-After, the owner too
    a body too large       413, for whoever has no token any
    a body that drags on   408

Whose token is wrong has not come this far: `_auth` counts those.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import anyio
from mcp.server.transport_security import RequestBodyLimitMiddleware
from starlette.authentication import UnauthenticatedUser
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ryzanstein.mcp_servers._auth import user_of
from ryzanstein.mcp_servers._rates import Rate, too_many

__all__ = ["Limited", "Limits"]

MAX_BODY = 8 << 20
BODY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one subject may ask for.

    Raises:
        ConfigError: The rate says none.

    Attributes:
        rate: Requests in a time, such as "600/minute"; "" means no limit.
        requests: Requests under way at once.
        sessions: Sessions of the older protocol open at once.
        body: Bytes of one request.
        body_seconds: A request's body must be here by then.
    """

    rate: str = "600/minute"
    requests: int = 256
    sessions: int = 500
    body: int = MAX_BODY
    body_seconds: float = BODY_SECONDS

    def __post_init__(self) -> None:
        """Looks at the rate now: the middleware is made when the first request comes."""
        if self.rate:
            Rate(self.rate)


class Limited:
    """Lets a subject ask for so much and no more; stands behind authentication.

    Args:
        inner: What to protect.
        limits: How much.
    """

    def __init__(self, inner: ASGIApp, limits: Limits) -> None:
        self._inner = RequestBodyLimitMiddleware(inner, limits.body)
        self._limits = limits
        self._rate = Rate(limits.rate) if limits.rate else None
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 429, 413 or 408."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        if isinstance(scope.get("user"), UnauthenticatedUser) and _has_body(scope):
            # Slow ones would keep those out who ask whether the server is well.
            await JSONResponse({"error": "content_too_large"}, 413)(scope, receive, send)
            return
        user = user_of(scope)
        key = _key(scope)
        wait = await self._rate.hit(key) if self._rate and user and user.subject else None
        if wait is None and self._under_way[key] >= self._limits.requests:
            wait = 1.0
        if wait is not None:
            await too_many(wait)(scope, receive, send)
            return
        self._under_way[key] += 1
        try:
            await self._inner(scope, _in_time(receive, self._limits.body_seconds), send)
        except _Late:  # all of a body is read before anything is answered
            await JSONResponse({"error": "request_timeout"}, 408)(scope, receive, send)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]


class _Late(Exception):
    """A body was not here in time."""


def _in_time(receive: Receive, seconds: float) -> Receive:
    """Gives up on a body that is not here in time, so that slow senders do not add up."""
    deadline = anyio.current_time() + seconds
    complete = False

    async def received() -> Message:
        nonlocal complete
        if complete:
            return await receive()
        with anyio.CancelScope(deadline=deadline) as waiting:
            message = await receive()
        if waiting.cancelled_caught:
            raise _Late
        complete = not message.get("more_body", False)
        return message

    return received


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _key(scope: Scope) -> str:
    """Whose requests are counted together; issuers cannot make each other's names."""
    if isinstance(scope.get("user"), UnauthenticatedUser):
        return "nobody"
    user = user_of(scope)
    issuer = str((user.claims or {}).get("iss", "")) if user else ""
    return f"{issuer}\n{(user.subject or '') if user else ''}"
