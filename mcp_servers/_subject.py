"""For whom each request is served, and what of one subject another never gets to see.

    token ── subject_of ── within_subject, around every message ── whatever asks current()

The owner is whoever speaks over stdio, and the token that the first `serve` made. A request over
HTTP is its own token's, whatever session it came in with; one between servers of this process stays
its caller's. A handle of another subject reads as one that does not exist, since each looks only
among its own:

    runs, memories, experiences   a database of its own       Shared.store
    what is under way             Own, by subject and key     runs, rounds, tasks
    files and saved states        a folder of its own         Settings.own_dir
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, TypeVar

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken, principal_components
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from starlette.types import ASGIApp, Receive, Scope, Send

from ryzanstein.errors import InvalidRequest, RyzansteinError
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.subject import OWNER, Subject, acting, current
from ryzanstein.tokens import ADMIN

__all__ = [
    "ADMIN_TOOLS",
    "ForSubject",
    "Own",
    "place",
    "principal",
    "require_allowed",
    "subject_of",
    "within_subject",
    "without_places",
]

_Value = TypeVar("_Value")

# What changes or occupies the machine for all; the other tools touch only what is the caller's own.
ADMIN_TOOLS = frozenset(
    {
        "benchmark_model",
        "convert_model",
        "load_model",
        "pull_model",
        "remove_model",
        "system_health",
        "unload_model",
    }
)
OWN_CLIENT = "ryzanstein"
# Whoever was let through without saying who it is.
NOBODY = Subject("nobody", "nobody")


def subject_of(token: AccessToken) -> Subject:
    """Returns whom a token stands for.

    A user of an issuer is the same through all its clients; without a user, the client is one. A
    token of an issuer is never the owner's, whatever it calls itself.
    """
    client, issuer, name = principal_components(token)
    if issuer is None and client == OWN_CLIENT and name == "":
        return OWNER
    who = [issuer, None if issuer and name else client, name or None]
    key = hashlib.sha256(json.dumps(who).encode()).hexdigest()[:32]
    return Subject(key, name or client, ADMIN in token.scopes)


def _of_scope(scope: Scope) -> Subject:
    """Whose a request is; the owner's where nothing is authenticated."""
    user = scope.get("user")
    if isinstance(user, AuthenticatedUser):
        return subject_of(user.access_token)
    return OWNER if user is None else NOBODY


def _of_message(ctx: ServerRequestContext[Any, Any]) -> Subject:
    """Whose message it is; one that came over no HTTP request is for whom its sender works."""
    return current() if ctx.request is None else _of_scope(ctx.request.scope)


async def within_subject(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Serves each message for whom it came from; middleware of every server."""
    with acting(_of_message(ctx)):
        async with shared().serving():
            return await call_next(ctx)


def principal(ctx: ServerRequestContext[Any, Any]) -> str:
    """Whom the state of a call over several rounds is bound to."""
    return _of_message(ctx).key


class ForSubject:
    """Serves each HTTP request for whom it came from; goes behind authentication.

    Args:
        inner: What is served.
    """

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        with acting(_of_scope(scope)):
            async with shared().serving():
                await self._inner(scope, receive, send)


def require_allowed(tool: str) -> None:
    """Refuses tools that are for whoever runs this server.

    Raises:
        InvalidRequest: The current subject may not call it.
    """
    if tool in ADMIN_TOOLS and not current().admin:
        raise InvalidRequest(
            f"{tool} is for whoever runs this server.",
            hint=f"Ask for it to be done, or for a token with the scope {ADMIN}.",
        )


def without_places(error: RyzansteinError) -> RyzansteinError:
    """Returns an error that tells nobody but the owner where on this machine something lies."""
    if current().key:
        settings = shared().settings
        for place in (settings.own_dir, settings.models_path, settings.data_dir, Path.home()):
            error.message = error.message.replace(str(place), "…")
            error.hint = error.hint.replace(str(place), "…")
    return error


def place(path: Path | str) -> str:
    """Returns where something lies, for whoever but the owner without the way there."""
    return Path(path).name if current().key else str(path)


class Own(MutableMapping[str, _Value]):
    """A dictionary of which every subject sees only what is its own."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], _Value] = {}

    def __getitem__(self, key: str) -> _Value:
        return self._values[current().key, key]

    def __setitem__(self, key: str, value: _Value) -> None:
        self._values[current().key, key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[current().key, key]

    def __iter__(self) -> Iterator[str]:
        mine = current().key
        return iter([key for subject, key in self._values if subject == mine])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def of_all(self) -> list[_Value]:
        """Returns the values of every subject, for what the whole process does with them."""
        return list(self._values.values())
