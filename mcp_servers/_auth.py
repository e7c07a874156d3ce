"""Who sends a request: the bearer token is checked here, and goes no further.

    Authorization: Bearer …  ->  a verifier  ->  scope["user"], an AuthenticatedUser of the SDK

                     client_id     subject             claims         scopes
    owner's token    "ryzanstein"  ""                  None           admin
    added token      "ryzanstein"  its name            None           its own
    OAuth            the client's  sub, never empty    {"iss": …}     the token's

Behind this nobody sees a token: the header is taken out of the request and the user's
`access_token.token` is empty, so that no tool could pass it on. Without authentication there is no
`scope["user"]`; whoever can reach the server is its owner then.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_resource_metadata_url
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ryzanstein.errors import RyzansteinError
from ryzanstein.mcp_servers._rates import Rate, too_many
from ryzanstein.tokens import ADMIN, Tokens

__all__ = [
    "CLIENT_ID",
    "MCP_PATH",
    "METADATA",
    "Auth",
    "Authenticated",
    "OwnTokens",
    "Verifier",
    "is_admin",
    "user_of",
]

log = logging.getLogger("ryzanstein.mcp_servers")

CLIENT_ID = "ryzanstein"
METADATA = "/.well-known/oauth-protected-resource"
# What anybody may read: that the server is there, and where tokens come from.
_OPEN = frozenset({"/health", METADATA})
_ADMIN_ONLY = frozenset({"/metrics"})
_SECRET_HEADERS = frozenset({b"authorization", b"proxy-authorization", b"cookie"})
MCP_PATH = re.compile(r"/mcp(/[a-z]+)?")
_MAX_TOKEN = 16_384
# Of one address. Behind it no issuer is asked: there only tokens count that are known, or that a
# known key has signed. Behind a proxy all clients have one address, so those must go on to work.
_WRONG_RATE = "60/minute"


class Verifier(Protocol):
    """Knows tokens of one kind."""

    async def verify(self, token: str, path: str, ask: bool) -> AccessToken | None:
        """Returns whose a token is, with an empty `token`; None where it is not valid here.

        Args:
            token: As it was sent.
            path: What is asked for; a token may be for a part of the server only.
            ask: Whether its issuer may be asked; else what is known of it already must do.
        """


class OwnTokens:
    """The tokens that this program made itself."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def holds(self, name: str) -> bool:
        """Whether there is still a valid token of that name."""
        try:
            return any(one.name == name and one.is_valid for one in self._tokens.all())
        except RyzansteinError:
            return False

    def user(self, token: str) -> AccessToken | None:
        """Returns whose a token is, None where it is none of them; they hold everywhere."""
        try:
            found = self._tokens.find(token)
        except RyzansteinError as error:
            log.error("No token can be checked: %s", error)
            return None
        if found is None:
            return None
        return AccessToken(
            token="",
            client_id=CLIENT_ID,
            scopes=list(found.scopes),
            expires_at=found.expires,
            subject=found.name,
        )


@dataclass(frozen=True, slots=True)
class Auth:
    """How requests are authenticated.

    Attributes:
        own: This server's own tokens, which are looked at first.
        foreign: Those of OAuth servers.
        resource: The public URL of the server, where an OAuth server gives out tokens for it.
        scopes: Without all of these a token of such a server is not enough.
        routes: Where clients read which server gives out tokens; open to everybody.
    """

    own: OwnTokens
    foreign: Verifier | None = None
    resource: str = ""
    scopes: Sequence[str] = ()
    routes: Sequence[Route] = ()

    async def user(self, token: str, path: str, *, ask: bool = True) -> AuthenticatedUser | None:
        """Returns the user of a token, None where it is not valid.

        Args:
            token: As it was sent.
            path: What is asked for.
            ask: Whether its issuer may be asked.

        Raises:
            ServerUnavailable: Whether it is valid cannot be found out now.
        """
        if not token or len(token) > _MAX_TOKEN:
            return None
        found = self.own.user(token)
        if found is None and self.foreign is not None:
            found = await self.foreign.verify(token, path, ask)
        if found is None or _has_expired(found):
            return None
        return AuthenticatedUser(found.model_copy(update={"token": ""}))

    def holds(self, scope: Scope) -> bool:
        """Whether whoever was let in still would be; users of issuers, until the token expires."""
        user = user_of(scope)
        if user is None or _has_expired(user):
            return False
        return user.claims is not None or self.own.holds(user.subject or "")


class Authenticated:
    """Lets only requests with a valid token through, and takes the token out of them.

    Args:
        inner: What to protect.
        auth: None lets everybody through, as the owner.
    """

    def __init__(self, inner: ASGIApp, auth: Auth | None) -> None:
        self._inner = AuthContextMiddleware(inner)
        self._auth = auth
        self._wrong = Rate(_WRONG_RATE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with `scope["user"]`, or answers 401 or 403."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        sent = Headers(scope=scope).getlist("authorization")
        kept = [pair for pair in scope["headers"] if pair[0].lower() not in _SECRET_HEADERS]
        scope = {**scope, "headers": kept}
        refusal = None
        if self._auth is not None:
            refusal = await self._refusal(self._auth, sent, scope)
        await (refusal or self._inner)(scope, receive, send)

    async def _refusal(self, auth: Auth, sent: list[str], scope: Scope) -> Response | None:
        path = str(scope["path"])
        is_open = path in _OPEN or path.startswith(f"{METADATA}/")
        address = (scope.get("client") or ("",))[0]
        wait = await self._wrong.over(address) if sent else None
        try:
            user = await auth.user(_bearer(sent), path, ask=not (wait or is_open))
        except RyzansteinError as error:
            log.error("%s", error)
            return JSONResponse({"error": "temporarily_unavailable"}, 503, {"Retry-After": "5"})
        scope["user"] = user or UnauthenticatedUser()
        scope["auth"] = AuthCredentials(user.scopes if user else ())
        if is_open:
            return None
        if user is None:
            return await self._unknown(auth, path, address, bool(sent))
        needed = [ADMIN] if path in _ADMIN_ONLY else _needed(auth, user)
        missing = [one for one in needed if one not in user.scopes]
        return _answer(auth, path, 403, "insufficient_scope", missing) if missing else None

    async def _unknown(self, auth: Auth, path: str, address: str, sent: bool) -> Response:
        """The answer to a request without a valid token; wrong ones are counted."""
        if not sent:
            return _answer(auth, path, 401, "")
        wait = await self._wrong.hit(address)
        return too_many(wait) if wait else _answer(auth, path, 401, "invalid_token")


def _has_expired(token: AccessToken) -> bool:
    return token.expires_at is not None and token.expires_at <= time.time()


def user_of(scope: Any) -> AccessToken | None:
    """Returns whose request it is; None without authentication, which means the owner."""
    user = scope.get("user")
    return user.access_token if isinstance(user, AuthenticatedUser) else None


def is_admin(scope: Any) -> bool:
    """Whether a request may do what concerns everybody."""
    user = scope.get("user")
    return user is None or (isinstance(user, AuthenticatedUser) and ADMIN in user.scopes)


def _bearer(sent: list[str]) -> str:
    """The token of a request that names exactly one."""
    scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _needed(auth: Auth, user: AuthenticatedUser) -> Sequence[str]:
    """The scopes that a user must have; our own tokens carry no foreign ones."""
    return auth.scopes if user.access_token.claims is not None else ()


_TOLD = {
    "": "This server wants a bearer token.",
    "invalid_token": "The bearer token is not valid here.",
    "insufficient_scope": "The bearer token does not allow this.",
}
_HINT = "`ryzanstein token show` prints the owner's; `ryzanstein token add NAME` makes another."


def _answer(
    auth: Auth, path: str, status: int, error: str, missing: Sequence[str] = ()
) -> Response:
    """A refusal as RFC 6750 and RFC 9728 have it; below /v1 as OpenAI's clients read it."""
    told = _TOLD[error]
    said = {"error": error, "error_description": told} if error else {"realm": CLIENT_ID}
    if missing or auth.scopes:
        said["scope"] = " ".join(missing or auth.scopes)
    if auth.resource:
        # A path is written into a header only where it can do no harm there.
        suffix = path if MCP_PATH.fullmatch(path) else ""
        resource = AnyHttpUrl(auth.resource + suffix)
        said["resource_metadata"] = str(build_resource_metadata_url(resource))
    challenge = ", ".join(f'{key}="{value}"' for key, value in said.items())
    body: dict[str, Any] = {"error": error or "invalid_token", "error_description": told}
    if path.startswith("/v1/"):
        body = {"error": {"message": told, "type": "authentication_error", "code": status}}
    elif not auth.resource:
        body["hint"] = _HINT
    return JSONResponse(body, status, {"WWW-Authenticate": f"Bearer {challenge}"})
