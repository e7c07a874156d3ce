"""GET from public addresses only: each address is resolved once, checked, and that one dialled.

Redirects are followed by hand, a few times, and each target is checked like the first address. An
address that the user configured, such as a search engine on this machine, may be private; what it
redirects to may not.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from ryzanstein.errors import ConnectionFailed, ToolError
from ryzanstein.tools.addresses import public_address
from ryzanstein.tools.context import ToolContext
from ryzanstein.tools.permission import require_reach

if TYPE_CHECKING:
    import ssl

    import httpx2

__all__ = ["HTML", "Answer", "Wanted", "cleaned_url", "get"]

HTML = frozenset({"text/html", "application/xhtml+xml"})
_SECONDS = 20.0
_MOST_REDIRECTS = 5
_HEADERS = {
    "User-Agent": "ryzanstein (fetches single pages on request)",
    "Accept-Encoding": "gzip, deflate",
}
_TEXT = re.compile(
    r"text/.*|application/(json|xml|javascript|x-ndjson|yaml|toml|sql)|application/.*\+(json|xml)"
)
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer may be.

    Attributes:
        largest: Bytes of its body, unpacked.
        text: It has to be text.
        into: Where the body is written, instead of being kept; a larger one is refused then.
        headers: Besides the usual ones; they go to the first origin only.
        configured: The user configured the address: it may be private.
    """

    largest: int
    text: bool = True
    into: BinaryIO | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    configured: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        url: Where it came from in the end.
        status: HTTP's.
        kind: Media type, lower case, or an empty string.
        charset: A codec that Python knows.
        body: Empty where it was written elsewhere.
        size: Bytes of the body.
        cut: Whether it is longer, and only its beginning is here.
    """

    url: str
    status: int
    kind: str
    charset: str
    body: bytes
    size: int
    cut: bool


def cleaned_url(text: str) -> str:
    """Takes off what models put around an address."""
    return text.strip().strip("`<>\"'")


async def get(ctx: ToolContext, url: str, wanted: Wanted) -> Answer:
    """Fetches a URL.

    Raises:
        ToolError: A private address, a body of another kind, too many redirects, an error page.
        ApprovalRequired: Outside text was read, and the user did not point to this host.
        ConnectionFailed: The host cannot be reached.
    """
    import httpx2

    # No proxy and no .netrc from the environment: either would go around the pinned address.
    options: dict[str, Any] = {"trust_env": False, "follow_redirects": False, "verify": _tls()}
    async with httpx2.AsyncClient(**options) as client:
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                answer = await _once(client, ctx, httpx2.URL(url), wanted)
            except httpx2.InvalidURL as error:
                raise ToolError(
                    f"{url} is no address: {error}.", hint="Give http(s)://…."
                ) from None
            except httpx2.TimeoutException as error:
                raise ConnectionFailed(
                    f"{url} did not answer within {_SECONDS:g} s.", hint="Try again later."
                ) from error
            except httpx2.HTTPError as error:
                said = str(error) or type(error).__name__
                raise ConnectionFailed(f"{url}: {said}.", hint="Check the address.") from error
            if isinstance(answer, Answer):
                return answer
            if _origin(httpx2.URL(answer)) != _origin(httpx2.URL(url)):
                wanted = dataclasses.replace(wanted, headers={}, configured=False)
            url = answer
    raise ToolError(
        f"There are more than {_MOST_REDIRECTS} redirects.", hint="Give the final address."
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    """Reads the trusted certificates once: each client of its own would take 20 ms for them."""
    import httpx2

    return httpx2.create_ssl_context(trust_env=False)


async def _once(
    client: httpx2.AsyncClient, ctx: ToolContext, url: httpx2.URL, wanted: Wanted
) -> Answer | str:
    """Makes one request to a checked address; returns the answer or where it leads."""
    if url.scheme not in {"http", "https"} or not url.host:
        raise ToolError(
            f"{url} is no web address.", hint="Give an address with http:// or https://."
        )
    if url.port is not None and not 0 < url.port < 65536:
        raise ToolError(f"{url.port} is no port.", hint="Give a port from 1 to 65535, or none.")
    if url.userinfo:
        raise ToolError("The address holds a password.", hint="Leave out user:password@.")
    allowed = ctx.allow_private_hosts
    if wanted.configured:
        allowed |= {url.host.lower()}
    else:
        require_reach(ctx, str(url))
    address = await public_address(url.host, _origin(url)[2], allowed)
    request = client.build_request(
        "GET",
        url.copy_with(host=address),
        headers={**_HEADERS, **wanted.headers, "Host": url.netloc.decode("ascii")},
        # The certificate is checked against the name, although the address is dialled.
        extensions={"sni_hostname": url.raw_host.decode("ascii")},
        timeout=_SECONDS,
    )
    answer = await client.send(request, stream=True)
    try:
        if answer.has_redirect_location:
            return str(url.join(answer.headers["Location"]))
        return await _read(answer, url, wanted)
    finally:
        await answer.aclose()


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)


async def _read(answer: httpx2.Response, url: httpx2.URL, wanted: Wanted) -> Answer:
    kind, charset = _kind(answer.headers)
    if not 200 <= answer.status_code < 300:
        raise ToolError(
            f"{url} answered {answer.status_code} {answer.reason_phrase}.",
            hint="Check the address; the page may not exist or may need a login.",
        )
    if wanted.text and kind and not (kind in HTML or _TEXT.fullmatch(kind)):
        raise ToolError(
            f"{url} is {kind}, which is no text.", hint="Fetch a page of text, or download_file."
        )
    body, size = bytearray(), 0
    async for chunk in answer.aiter_bytes(65536):
        size += len(chunk)
        if wanted.into is None:
            body += chunk
        elif size <= wanted.largest:
            wanted.into.write(chunk)
        if size > wanted.largest:
            break
    if wanted.into is not None and size > wanted.largest:
        raise ToolError(
            f"{url} is larger than {wanted.largest >> 20} MiB.", hint="Fetch something smaller."
        )
    if wanted.text and not kind and b"\0" in body[:8192]:
        raise ToolError(f"{url} is no text.", hint="Fetch a page of text, or download_file.")
    if kind in HTML and not charset:
        charset = _declared(bytes(body[:2048]))
    kept = bytes(body[: wanted.largest])
    cut = size > wanted.largest
    return Answer(str(url), answer.status_code, kind, _known(charset), kept, size, cut)


def _kind(headers: Mapping[str, Any]) -> tuple[str, str]:
    value = str(headers.get("Content-Type", ""))
    found = _CHARSET.search(value)
    return value.partition(";")[0].strip().lower(), found[1] if found else ""


def _declared(head: bytes) -> str:
    found = _CHARSET.search(head.decode("latin-1"))
    return found[1] if found else ""


def _known(charset: str) -> str:
    try:
        # Raises for Python's codecs that turn bytes into bytes, too.
        b"ab".decode(charset or "utf-8", "replace")
    except LookupError:
        return "utf-8"
    return charset or "utf-8"
