"""Texts in another form: Markdown, HTML, encodings, fingerprints."""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import given_text
from ryzanstein.tools.toolbox import tool

_SECONDS = 10.0
_Text = Annotated[str, Field(max_length=200_000)]
_FileText = Annotated[
    str, Field(max_length=4096, description="a file that holds the text, in place of text")
]


@tool(
    title="Convert Markdown",
    read_only=True,
    untrusted=True,
    example={"text": "# Title\n\n- one\n- two\n"},
    main=("text", "code", "markdown"),
)
async def convert_markdown(
    ctx: ToolContext,
    text: Annotated[_Text, Field(description="the Markdown itself")] = "",
    path: _FileText = "",
    to: Annotated[Literal["html", "text"], Field(description="HTML or plain text")] = "html",
) -> Output:
    """Turn Markdown into HTML or plain text.

    Use when a page is wanted, or a text without marks. HTML inside the Markdown is escaped.

    Raises:
        ToolError: Neither text nor path is given, or it takes too long.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    done = await worker.call("markdown_to_html", {"markdown": given}, seconds=_SECONDS)
    if to == "text":
        page = await worker.call("html_text", {"html": done, "links": False}, seconds=_SECONDS)
        done = page["text"]
    return Output(done.strip() or "(nothing is left)", {"text": done, "form": to})


@tool(
    title="Convert HTML",
    read_only=True,
    untrusted=True,
    example={"text": "<h1>Title</h1><p>Some <b>bold</b> words.</p>"},
    main=("text", "code", "html"),
)
async def convert_html(
    ctx: ToolContext,
    text: Annotated[_Text, Field(description="the HTML itself")] = "",
    path: _FileText = "",
    to: Annotated[
        Literal["markdown", "text"], Field(description="Markdown or plain text")
    ] = "markdown",
    links: Annotated[bool, Field(description="keep the addresses of links")] = True,
) -> Output:
    """Turn HTML into Markdown or plain text, without scripts and styles.

    Use for a saved page or a piece of HTML; fetch_url does so itself for a page of the web.

    Raises:
        ToolError: Neither text nor path is given, or it is nested too deeply.
    """
    given = await anyio.to_thread.run_sync(given_text, ctx, text, path)
    if to == "text":
        page = await worker.call("html_text", {"html": given, "links": links}, seconds=_SECONDS)
        done: str = page["text"]
    else:
        arguments = {"html": given, "links": links}
        done = await worker.call("html_to_markdown", arguments, seconds=_SECONDS)
    return Output(done or "(nothing is left)", {"text": done, "form": to})


def _unbase64(text: str) -> bytes:
    plain = "".join(text.split()).replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


_ENCODERS: dict[str, Callable[[str], str]] = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "url": lambda text: urllib.parse.quote(text, safe=""),
    "hex": lambda text: text.encode().hex(),
    "html": html.escape,
    "json": lambda text: json.dumps(text, ensure_ascii=False),
}
_DECODERS: dict[str, Callable[[str], str | bytes]] = {
    "base64": _unbase64,
    "url": urllib.parse.unquote,
    "hex": lambda text: bytes.fromhex(text.strip().removeprefix("0x")),
    "html": html.unescape,
    "json": lambda text: str(json.loads(text, strict=False)),
}


@tool(
    title="Encode a text",
    read_only=True,
    example={"text": "a b & c", "form": "url"},
    main=("text", "json"),
    forms={"text": "code", "form": "line"},
)
async def encode_text(
    ctx: ToolContext,
    text: Annotated[_Text, Field(description="the text")],
    form: Annotated[
        Literal["base64", "url", "hex", "html", "json"], Field(description="which encoding")
    ],
    decode: Annotated[bool, Field(description="turn it back into plain text")] = False,
) -> Output:
    """Encode a text as Base64, URL, hex, HTML or JSON, or decode it.

    Use whenever a text is needed in one of these forms: it cannot be done reliably by head.

    Raises:
        ToolError: The text to decode is not in that form.
    """
    done = _decoded(text, form) if decode else _ENCODERS[form](text)
    return Output(done or "(an empty text)", {"text": done, "form": form})


def _decoded(text: str, form: str) -> str:
    try:
        done = _DECODERS[form](text)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise ToolError(f"This is no {form}: {error}.", hint="Check the text.") from error
    if isinstance(done, str):
        return done
    try:
        return done.decode("utf-8")
    except UnicodeDecodeError:
        raise ToolError(
            f"It holds {len(done):,} bytes that are no text: {done[:20].hex()}...",
            hint="Decode it in run_python.",
        ) from None


@tool(
    title="Fingerprint a text",
    read_only=True,
    example={"text": "hello", "method": "sha256"},
    main=("text", "code"),
)
async def hash_text(
    ctx: ToolContext,
    text: Annotated[_Text, Field(description="the text itself; it may be empty")],
    method: Annotated[
        Literal["sha256", "sha512", "sha1", "md5", "blake2b", "crc32"],
        Field(description="which fingerprint"),
    ] = "sha256",
) -> Output:
    """Compute the SHA-256, SHA-512, SHA-1, MD5, BLAKE2 or CRC-32 of a text.

    Use to compare texts or to check a sum; file_info gives the SHA-256 of a file.

    Raises:
        ToolError: The text is not well formed.
    """
    raw = text.encode("utf-8")
    if method == "crc32":
        done = f"{zlib.crc32(raw):08x}"
    else:
        done = hashlib.new(method, raw, usedforsecurity=False).hexdigest()
    return Output(done, {"hash": done, "method": method, "bytes": len(raw)})
