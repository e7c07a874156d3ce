"""The keys that an OAuth server publishes, fetched when they are needed and kept for a while."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from ryzanstein.errors import ConfigError, ServerUnavailable

if TYPE_CHECKING:
    import jwt

__all__ = ["Issuer", "fetched", "require_safe"]

log = logging.getLogger("ryzanstein.mcp_servers")

_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_KEEP_SECONDS = 3600.0
# A token may name a key that is newer than ours; what is made up must not cost the issuer more.
_AGAIN_SECONDS = 10.0
_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 1 << 20


class Issuer:
    """The keys of one issuer.

    Args:
        name: Its identifier, a URL; what a token's `iss` says.
        jwks_url: Where its keys are; None means that its metadata say so.
    """

    def __init__(self, name: str, jwks_url: str | None = None) -> None:
        self.name = name
        self._url = jwks_url and require_safe("oauth_jwks_url", jwks_url)
        self._keys: list[Mapping[str, Any]] = []
        self._fetched = self._tried = float("-inf")
        self._lock = anyio.Lock()

    async def key(self, kid: str | None, algorithm: str, ask: bool) -> jwt.PyJWK | None:
        """Returns the key of that id; without one the only key there is; None where there is none.

        Args:
            kid: As a token names it.
            algorithm: What the key is used with.
            ask: Whether the issuer may be asked for keys that are new.

        Raises:
            ServerUnavailable: The issuer cannot be asked.
            jwt.PyJWTError: The key is of another kind than the algorithm.
        """
        import jwt

        found = self._find(kid)
        if ask and (found is None or self._is_due(found)):
            # Who knows a key does not wait for one that somebody made up.
            found = await self._fetched_key(kid)
        if found is None or found.get("alg", algorithm) != algorithm:
            return None
        return jwt.PyJWK(dict(found), algorithm=algorithm)

    def _is_due(self, found: Mapping[str, Any] | None) -> bool:
        now = time.monotonic()
        due = found is None or now - self._fetched > _KEEP_SECONDS
        return due and now - self._tried > _AGAIN_SECONDS

    async def _fetched_key(self, kid: str | None) -> Mapping[str, Any] | None:
        async with self._lock:
            found = self._find(kid)
            if self._is_due(found):
                self._tried = time.monotonic()
                await self._fetch(needed=found is None)
                found = self._find(kid)
            elif not self._keys:
                raise ServerUnavailable(f"The keys of {self.name} could not be read just now.")
            return found

    def _find(self, kid: str | None) -> Mapping[str, Any] | None:
        if kid is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((one for one in self._keys if one.get("kid") == kid), None)

    async def _fetch(self, needed: bool) -> None:
        """Fetches the keys; where they are not needed at once, those of before will do."""
        try:
            document = await fetched(self._url or await self._jwks_url())
        except ServerUnavailable as error:
            if needed:
                raise
            log.warning("The keys of before are used: %s", error)
            return
        keys = document.get("keys")
        given = [one for one in keys if isinstance(one, dict)] if isinstance(keys, list) else []
        self._keys = [one for one in given if one.get("use", "sig") == "sig"]
        self._fetched = time.monotonic()

    async def _jwks_url(self) -> str:
        from mcp.client.auth.utils import build_oauth_authorization_server_metadata_discovery_urls

        reason = "none is published"
        for url in build_oauth_authorization_server_metadata_discovery_urls(self.name, self.name):
            try:
                metadata = await fetched(url)
            except ServerUnavailable as error:
                reason = error.message
                continue
            if metadata.get("issuer") == self.name and isinstance(metadata.get("jwks_uri"), str):
                return require_safe("jwks_uri", metadata["jwks_uri"])
            reason = "its metadata name another issuer, or no keys"
        raise ServerUnavailable(f"The metadata of {self.name} cannot be read: {reason}")


def require_safe(name: str, url: str) -> str:
    """Returns a URL over which secrets and keys may travel: HTTPS, or this machine.

    Raises:
        ConfigError: It is none.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.query or parts.fragment or parts.username:
        raise ConfigError(f"{name}: {url!r} is no plain URL.", hint="Write https://HOST[/PATH].")
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOCAL):
        raise ConfigError(f"{name}: {url!r} is not encrypted.", hint="Use https.")
    return url


async def fetched(
    url: str,
    form: Mapping[str, str] | None = None,
    credentials: tuple[str, str] | None = None,
) -> Mapping[str, Any]:
    """Gets a JSON object, or posts a form for one; follows nobody elsewhere.

    Raises:
        ServerUnavailable: It cannot be reached, or what it answers is none.
    """
    import httpx2

    method = "GET" if form is None else "POST"
    try:
        async with (
            httpx2.AsyncClient(timeout=_TIMEOUT_SECONDS, auth=credentials) as client,
            client.stream(method, url, data=form, headers={"accept": "application/json"}) as got,
        ):
            body = b""
            async for piece in got.aiter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise ServerUnavailable(f"{url} answers too much.")
        value = json.loads(body) if got.status_code == 200 else None
    except (httpx2.HTTPError, OSError, ValueError, RecursionError) as error:
        kind = type(error).__name__
        raise ServerUnavailable(f"{url} cannot be used ({kind}).") from error
    if not isinstance(value, dict):
        raise ServerUnavailable(f"{url} answers {got.status_code}, and no JSON object.")
    return value
