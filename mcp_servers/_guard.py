"""Answers only requests that were meant for this server, and that read the same to everybody.

    Host none, several or foreign       400 none or several, 421 foreign
    Origin foreign                      403
    body announced in two ways          400

Any page in a browser could reach a port of this machine or of its network through a name that it
makes resolve there (DNS rebinding); so a name must be one of ours, whatever address is listened
on. Numbers are safe: they cannot be made to point elsewhere, and only those of this machine count.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LOCAL", "Guard", "machine_names"]

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """Refuses requests whose Host, or Origin where there is one, is not this server's own.

    Args:
        inner: What to protect.
        hosts: The names and addresses of this server, lower case, without ports.
    """

    def __init__(self, inner: ASGIApp, hosts: Collection[str]) -> None:
        self._inner = inner
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers 400, 421 or 403."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._inner)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        lengths = headers.getlist("content-length")
        if len(lengths) > 1 or (lengths and "transfer-encoding" in headers):
            # Closed, since nobody knows where the next request begins.
            close = {"Connection": "close"}
            return PlainTextResponse("The length of the body is said in two ways.", 400, close)
        if len(hosts) != 1:
            return PlainTextResponse("A request has one Host.", 400)
        if _name(f"//{hosts[0]}") not in self._hosts:
            return PlainTextResponse("This is not the host you asked for.", 421)
        if any("//" not in one[1:] or _name(one) not in self._hosts for one in origins):
            return PlainTextResponse("Pages of other origins have no access.", 403)
        return None


def machine_names() -> frozenset[str]:
    """Returns this machine's name and addresses, for a server that listens on all of them."""
    import psutil

    addresses = {
        one.address.partition("%")[0]
        for group in psutil.net_if_addrs().values()
        for one in group
        if one.family in {socket.AF_INET, socket.AF_INET6}
    }
    name = socket.gethostname().lower()
    return frozenset({name, f"{name}.local", *addresses})


def _name(url: str) -> str:
    """The host of a URL that has nothing but a scheme, a host and a port; else an empty text."""
    try:
        parts = urlsplit(url)
        # The port is looked at for its syntax only: behind a tunnel it may be another.
        plain = not parts.path and not set("@?#") & set(url) and parts.port != 0
        return (parts.hostname or "") if plain else ""
    except ValueError:
        return ""
