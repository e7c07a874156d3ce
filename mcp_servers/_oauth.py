"""Tokens of OAuth servers, which this server accepts where they were made for it.

    RFC 9068  JWT, checked with the issuer's published keys (RFC 8414 or OpenID metadata -> JWKS)
    RFC 7662  any token, about which the issuer is asked
    RFC 8707  the audience is this server's public URL, or that URL with the path of one MCP server
    RFC 9728  /.well-known/oauth-protected-resource[/mcp/NAME] says which issuers to ask for a token

A token without an audience of ours, without a subject, or bound to a key that its bearer would have
to prove is refused. The scope `ryzanstein:admin` is what "admin" is on tokens of our own; an
"admin" of somebody else's vocabulary means nothing here.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import create_protected_resource_routes
from pydantic import AnyHttpUrl
from starlette.routing import Route

from ryzanstein.config import Settings
from ryzanstein.errors import ConfigError
from ryzanstein.mcp_servers._auth import MCP_PATH, Verifier
from ryzanstein.mcp_servers._issuer import Issuer, fetched, require_safe
from ryzanstein.tokens import ADMIN

if TYPE_CHECKING:
    import jwt

__all__ = ["ADMIN_SCOPE", "metadata_routes", "verifier"]

ADMIN_SCOPE = "ryzanstein:admin"
# Only signatures that a public key checks: with a shared secret anybody who can check can sign.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
_TYPES = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})
_LEEWAY_SECONDS = 30
_KEEP_SECONDS = 60.0
_KEEP_ANSWERS = 1024
_MAX_SUBJECT = 255


def verifier(settings: Settings) -> Verifier | None:
    """Makes what checks OAuth tokens; None where no issuer is configured.

    Raises:
        ConfigError: What is configured does not fit together.
    """
    if not settings.oauth_issuers:
        return None
    if settings.public_url is None:
        raise ConfigError(
            "OAuth needs the URL by which clients reach this server.",
            hint="Set public_url (RYZANSTEIN_PUBLIC_URL); tokens must be made for it.",
        )
    require_safe("public_url", settings.public_url)
    resource = settings.public_url.rstrip("/")
    for issuer in settings.oauth_issuers:
        require_safe("oauth_issuers", issuer)
    if settings.oauth_introspection_url is None:
        issuers = {name: Issuer(name, settings.oauth_jwks_url) for name in settings.oauth_issuers}
        return _Signed(resource, issuers)
    return _Asked(
        resource,
        settings.oauth_issuers,
        require_safe("oauth_introspection_url", settings.oauth_introspection_url),
        settings.oauth_client_id or "",
        settings.oauth_client_secret or "",
    )


def metadata_routes(settings: Settings, paths: tuple[str, ...]) -> list[Route]:
    """Returns the routes that say where tokens come from, for the server and each path of it."""
    if not settings.oauth_issuers or settings.public_url is None:
        return []
    issuers = [AnyHttpUrl(issuer) for issuer in settings.oauth_issuers]
    resource = settings.public_url.rstrip("/")
    return [
        route
        for path in ("", *paths)
        for route in create_protected_resource_routes(
            resource_url=AnyHttpUrl(resource + path),
            authorization_servers=issuers,
            scopes_supported=[*settings.oauth_scopes, ADMIN_SCOPE],
            resource_name="Ryzanstein",
        )
    ]


@dataclass(frozen=True, slots=True)
class _Signed:
    """Checks signed tokens with the keys of their issuers."""

    resource: str
    issuers: Mapping[str, Issuer]

    async def verify(self, token: str, path: str, ask: bool) -> AccessToken | None:
        """Returns whose a token is, None where it is not valid for this path."""
        import jwt

        try:
            unchecked = jwt.decode_complete(token, options={"verify_signature": False})
            header, issuer = unchecked["header"], self.issuers.get(unchecked["payload"].get("iss"))
            algorithm, kind = header.get("alg"), header.get("typ")
            if issuer is None or algorithm not in ALGORITHMS or _folded(kind) not in _TYPES:
                return None
            key = await issuer.key(header.get("kid"), algorithm, ask)
            claims = None if key is None else _checked(token, key, algorithm, issuer.name)
        except (jwt.PyJWTError, TypeError, AttributeError):
            return None
        return None if claims is None else _accepted(claims, issuer.name, self.resource, path)


def _folded(kind: Any) -> Any:
    return kind.lower() if isinstance(kind, str) else kind


def _checked(token: str, key: jwt.PyJWK, algorithm: str, issuer: str) -> Mapping[str, Any]:
    import jwt

    claims: Mapping[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        issuer=issuer,
        leeway=_LEEWAY_SECONDS,
        options={"require": ["exp", "iss", "aud", "sub"], "verify_aud": False},
    )
    return claims


@dataclass(frozen=True, slots=True)
class _Asked:
    """Asks the issuer about each token, and believes the answer for a minute."""

    resource: str
    issuers: tuple[str, ...]
    url: str
    client_id: str
    client_secret: str
    _kept: OrderedDict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=OrderedDict)

    async def verify(self, token: str, path: str, ask: bool) -> AccessToken | None:
        """Returns whose a token is, None where it is not valid for this path."""
        claims = await self._claims(token, ask)
        if claims.get("active") is not True:
            return None
        issuer = claims.get("iss", self.issuers[0] if len(self.issuers) == 1 else None)
        if issuer not in self.issuers or not isinstance(claims.get("exp"), int | float):
            return None
        return _accepted(claims, str(issuer), self.resource, path)

    async def _claims(self, token: str, ask: bool) -> Mapping[str, Any]:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        until, claims = self._kept.get(digest, (0.0, {}))
        if until > time.monotonic():
            return claims
        if not ask:
            return {}
        claims = await fetched(
            self.url,
            form={"token": token, "token_type_hint": "access_token"},
            credentials=(self.client_id, self.client_secret) if self.client_id else None,
        )
        self._kept[digest] = time.monotonic() + _KEEP_SECONDS, claims
        while len(self._kept) > _KEEP_ANSWERS:
            self._kept.popitem(last=False)
        return claims


def _accepted(
    claims: Mapping[str, Any], issuer: str, resource: str, path: str
) -> AccessToken | None:
    """Returns whose a token of these claims is, None where it is not for this path."""
    audience = _audience(claims.get("aud"), resource, path)
    subject = claims.get("sub")
    if audience is None or "cnf" in claims:
        return None
    if not isinstance(subject, str) or not subject.strip() or len(subject) > _MAX_SUBJECT:
        return None
    return AccessToken(
        token="",
        client_id=str(claims.get("client_id") or claims.get("azp") or subject),
        scopes=_scopes(claims.get("scope", claims.get("scp"))),
        expires_at=int(claims["exp"]) + _LEEWAY_SECONDS,
        resource=audience,
        subject=subject,
        claims={"iss": issuer},
    )


def _audience(given: Any, resource: str, path: str) -> str | None:
    """The one of a token's audiences that is asked for, as a URL without a slash at its end."""
    named = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    mine = {resource, resource + path if MCP_PATH.fullmatch(path) else resource}
    return next((one for name in named if (one := str(name).rstrip("/")) in mine), None)


def _scopes(given: Any) -> list[str]:
    named = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    scopes = [str(one) for one in named if one != ADMIN]
    return [*scopes, ADMIN] if ADMIN_SCOPE in scopes else scopes
