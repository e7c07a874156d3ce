"""Tokens of OAuth servers: a real issuer on a real socket, and what it must not be able to do."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ryzanstein.config import Settings
from ryzanstein.errors import ConfigError
from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.mcp_servers._serve import auth_of

Serve = Callable[..., Awaitable[str]]
Sign = Callable[..., str]
PUBLIC = "https://box.example/ai"
KEYS = {
    "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ec": ec.generate_private_key(ec.SECP256R1()),
    "stranger": ec.generate_private_key(ec.SECP256R1()),
}


class Issuer:
    """An authorisation server: its metadata, its keys, and what it says about opaque tokens."""

    def __init__(self) -> None:
        self.url = ""
        self.up = True
        self.published = ["rsa"]
        self.named: str | None = None
        self.opaque: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.metadata),
                Route("/keys", self.keys),
                Route("/introspect", self.introspect, methods=["POST"]),
            ]
        )

    async def metadata(self, request: Request) -> Response:
        return JSONResponse({"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"})

    async def keys(self, request: Request) -> Response:
        if not self.up:
            return Response(status_code=500)
        return JSONResponse({"keys": [_public(name) for name in self.published]})

    async def introspect(self, request: Request) -> Response:
        token = str((await request.form())["token"])
        self.asked.append((token, request.headers.get("authorization", "")))
        return JSONResponse(self.opaque.get(token, {"active": False}))


def _public(name: str) -> dict[str, Any]:
    kind: Any = jwt.algorithms.RSAAlgorithm if name == "rsa" else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(KEYS[name].public_key(), as_dict=True), "kid": name, "use": "sig"}


@pytest.fixture
async def issuer(listening: Serve) -> Issuer:
    made = Issuer()
    made.url = await listening(made.application())
    return made


@pytest.fixture
def settings(tmp_path: Path, issuer: Issuer) -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        folders = {name: tmp_path / name for name in ("data_dir", "config_dir", "cache_dir")}
        given = {"public_url": PUBLIC, "oauth_issuers": (issuer.url,), **changes}
        return Settings(**folders, **given)

    return make


@pytest.fixture
async def url(serving: Serve, settings: Callable[..., Settings]) -> str:
    return await _served(serving, settings())


async def _served(serving: Serve, settings: Settings) -> str:
    servers = {name: make_server(name, name, "Nothing.") for name in ("memory", "tools")}
    return await serving(servers, auth=auth_of(settings, ("/mcp/memory", "/mcp/tools")))


@pytest.fixture
def sign(issuer: Issuer) -> Sign:
    """Signs a good token; options replace claims, or leave those out that are None."""

    def make(key: str = "rsa", header: dict[str, Any] | None = None, **changes: Any) -> str:
        claims = {
            "iss": issuer.url,
            "aud": PUBLIC,
            "sub": "ann",
            "client_id": "editor",
            "exp": time.time() + 600,
            "scope": "read",
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        algorithm = "RS256" if key == "rsa" else "ES256"
        signing: Any = KEYS[key]
        named = {"kid": key, "typ": "JWT", **(header or {})}
        return jwt.PyJWS().encode(json.dumps(kept).encode(), signing, algorithm, named)

    return make


async def ask(url: str, token: str, path: str = "/v1/models") -> httpx2.Response:
    async with httpx2.AsyncClient() as client:
        return await client.get(url + path, headers={"authorization": f"Bearer {token}"})


async def test_a_token_made_for_this_server_is_accepted(url: str, sign: Sign) -> None:
    assert (await ask(url, sign())).status_code == 200
    assert (await ask(url, sign(aud=["https://other.example", PUBLIC + "/"]))).status_code == 200
    assert (await ask(url, sign(header={"typ": "at+JWT"}))).status_code == 200


NOT_FOR_HERE: tuple[dict[str, Any], ...] = (
    {"aud": "https://other.example"},
    {"aud": "https://box.example"},
    {"aud": PUBLIC + "/mcp/memory"},
    {"aud": []},
    {"aud": None},
    {"aud": {"https://box.example/ai": 1}},
    {"iss": "https://evil.example"},
    {"iss": ["https://evil.example"]},
    {"iss": None},
    {"exp": None},
    {"exp": 1.0},
    {"exp": "soon"},
    {"nbf": time.time() + 3600},
    {"sub": None},
    {"sub": ""},
    {"sub": " "},
    {"sub": "x" * 300},
    {"sub": 7},
    {"cnf": {"jkt": "x"}},
    {"header": {"typ": "logout+jwt"}},
    {"header": {"kid": "nobody"}},
    {"key": "stranger"},
    {"key": "stranger", "header": {"kid": "rsa"}},
)


async def test_a_token_that_is_not_for_here_is_refused(url: str, sign: Sign) -> None:
    for changes in NOT_FOR_HERE:
        answer = await ask(url, sign(**changes))
        assert answer.status_code == 401, changes
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def _text(part: bytes | dict[str, Any]) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_signatures_that_anybody_can_make_are_refused(url: str, sign: Sign) -> None:
    head, body, signature = sign().split(".")
    public = KEYS["rsa"].public_key()
    key = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    none, shared = (_text({"alg": name, "kid": "rsa"}) for name in ("none", "HS256"))
    by_public_key = hmac.new(key, f"{shared}.{body}".encode(), "sha256").digest()
    forged = [
        f"{none}.{body}.",
        f"{shared}.{body}.{_text(by_public_key)}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        f"{head}.{body}",
        "..",
        "a.b.c",
    ]
    for token in forged:
        assert (await ask(url, token)).status_code == 401


async def test_a_token_for_one_server_opens_that_one_only(url: str, sign: Sign) -> None:
    token = sign(aud=f"{PUBLIC}/mcp/memory")
    assert (await ask(url, token, "/mcp/memory")).status_code != 401
    assert (await ask(url, token, "/mcp/tools")).status_code == 401


async def test_metrics_want_the_scope_of_this_program(url: str, sign: Sign) -> None:
    for scope, status in (("read", 403), ("admin", 403), ("x ryzanstein:admin", 200)):
        assert (await ask(url, sign(scope=scope), "/metrics")).status_code == status
    assert (await ask(url, sign(scope=None, scp=["ryzanstein:admin"]), "/metrics")).is_success


async def test_a_scope_can_be_demanded(
    serving: Serve, settings: Callable[..., Settings], sign: Sign
) -> None:
    url = await _served(serving, settings(oauth_scopes=("agents",)))
    assert (await ask(url, sign(scope="read agents"))).status_code == 200
    refused = await ask(url, sign())
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert 'scope="agents"' in refused.headers["www-authenticate"]


async def test_a_client_is_told_where_tokens_come_from(url: str, issuer: Issuer) -> None:
    async with httpx2.AsyncClient() as client:
        refused = await client.get(f"{url}/mcp/memory")
        place = "https://box.example/.well-known/oauth-protected-resource/ai/mcp/memory"
        assert f'resource_metadata="{place}"' in refused.headers["www-authenticate"]
        path = "/.well-known/oauth-protected-resource/ai"
        for suffix in ("", "/mcp/memory", "/mcp/tools"):
            metadata = (await client.get(url + path + suffix)).json()
            assert metadata["resource"] == PUBLIC + suffix
            assert [one.rstrip("/") for one in metadata["authorization_servers"]] == [issuer.url]
        strange = await client.get(url + "/mcp/x%0d%0aSet-Cookie:%20a=b")
        assert strange.status_code == 401 and "set-cookie" not in strange.headers


async def test_a_new_key_is_fetched_and_an_old_one_is_worthless(
    url: str, sign: Sign, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein.mcp_servers._issuer._AGAIN_SECONDS", -1.0)
    assert (await ask(url, sign())).status_code == 200
    issuer.published = ["ec"]
    assert (await ask(url, sign("ec"))).status_code == 200
    assert (await ask(url, sign())).status_code == 401


async def test_an_issuer_that_is_down_is_no_fault_of_the_token(
    url: str, sign: Sign, issuer: Issuer
) -> None:
    issuer.up = False
    answer = await ask(url, sign())
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert issuer.url not in answer.text


async def test_metadata_of_another_issuer_are_not_believed(
    url: str, sign: Sign, issuer: Issuer
) -> None:
    issuer.named = "https://evil.example"
    assert (await ask(url, sign())).status_code == 503


async def test_an_issuer_can_be_asked_about_each_token(
    serving: Serve, settings: Callable[..., Settings], issuer: Issuer
) -> None:
    url = await _served(
        serving,
        settings(
            oauth_introspection_url=f"{issuer.url}/introspect",
            oauth_client_id="box",
            oauth_client_secret="hush",
        ),
    )
    good = {"active": True, "sub": "ann", "aud": PUBLIC, "exp": time.time() + 600}
    issuer.opaque = {
        "good": good,
        "other": {**good, "aud": "https://other.example"},
        "nobody": {**good, "sub": ""},
        "ended": {**good, "exp": 1},
        "foreign": {**good, "iss": "https://evil.example"},
        "maybe": {**good, "active": "true"},
    }
    codes = {token: (await ask(url, token)).status_code for token in (*issuer.opaque, "unknown")}
    assert codes == {token: 200 if token == "good" else 401 for token in codes}
    assert (await ask(url, "good")).status_code == 200
    tokens = [token for token, _ in issuer.asked]
    assert tokens.count("good") == 1
    assert {header for _, header in issuer.asked} == {"Basic Ym94Omh1c2g="}


@pytest.mark.parametrize("opaque", [False, True])
async def test_wrong_tokens_of_an_address_lock_nobody_else_of_it_out(
    serving: Serve, settings: Callable[..., Settings], issuer: Issuer, sign: Sign, opaque: bool
) -> None:
    asks = {"oauth_introspection_url": f"{issuer.url}/introspect"} if opaque else {}
    url = await _served(serving, settings(**asks))
    good = "good" if opaque else sign()
    issuer.opaque = {
        name: {"active": True, "sub": "ann", "aud": PUBLIC, "exp": time.time() + 600}
        for name in ("good", "new")
    }
    assert (await ask(url, good)).status_code == 200
    codes = [(await ask(url, f"wrong-{guess}")).status_code for guess in range(62)]
    assert codes[-1] == 429
    assert (await ask(url, good)).status_code == 200
    assert (await ask(url, "new")).status_code == 429
    assert len(issuer.asked) <= 61


async def test_own_tokens_hold_beside_those_of_issuers_and_are_shown_to_none(
    url: str, settings: Callable[..., Settings], issuer: Issuer
) -> None:
    from ryzanstein.tokens import Tokens

    token = Tokens(settings().data_dir).owner()
    assert (await ask(url, token, "/metrics")).status_code == 200
    assert not issuer.asked


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"public_url": None}, "needs the URL"),
        ({"public_url": "http://box.example"}, "not encrypted"),
        ({"public_url": "box.example"}, "no plain URL"),
        ({"public_url": "https://box.example/?x=1"}, "no plain URL"),
        ({"public_url": "https://[box"}, "no plain URL"),
        ({"oauth_issuers": ("http://id.example",)}, "not encrypted"),
        ({"oauth_jwks_url": "ftp://id.example/keys"}, "not encrypted"),
        ({"oauth_introspection_url": "http://id.example/ask"}, "not encrypted"),
        ({"oauth_introspection_url": "https://me:pw@id.example/ask"}, "no plain URL"),
    ],
)
def test_a_configuration_that_does_not_fit_is_told(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    folders = dict.fromkeys(("data_dir", "config_dir", "cache_dir"), tmp_path)
    given = {"public_url": PUBLIC, "oauth_issuers": ("https://id.example",), **changes}
    with pytest.raises(ConfigError, match=told):
        auth_of(Settings(**folders, **given), ())
