"""What comes in from outside is looked at before the SDK sees it, over stdio and over HTTP alike.

    not UTF-8, not JSON, nested too deeply      -32700
    no JSON-RPC message, a batch, an unusable id, too large, an id already in flight
                                                -32600
    params that are no object                   -32602
    headers that say something else (HTTP)      -32020

The SDK drops a broken frame on stdio without a word, quotes it back over HTTP, and lets a second
request take the place of one that is still running under the same id, whose caller then waits for
ever. A refusal here names the rule and quotes nothing. The id is null where there was none to read,
as JSON-RPC 2.0 has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic_core
from mcp.shared.dispatcher import coerce_request_id
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    RequestId,
    jsonrpc_message_adapter,
)
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from pydantic import ValidationError
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ryzanstein.mcp_servers._headers import disagreement

__all__ = ["MAX_FRAME", "FrameGuard", "InFlight", "Refusal", "read_frame"]

MAX_FRAME = 8 << 20
"""Bytes of one message, the same on every transport."""


@dataclass(frozen=True)
class Refusal:
    """Why a frame goes no further: a JSON-RPC code, a rule, and the request's id if it has one."""

    code: int
    message: str
    id: RequestId | None = None

    def to_error(self) -> JSONRPCError:
        """Returns the answer."""
        error = ErrorData(code=self.code, message=self.message)
        return JSONRPCError(jsonrpc="2.0", id=self.id, error=error)


def read_frame(frame: bytes) -> JSONRPCMessage | Refusal:
    """Returns the one message of a frame, or what is wrong with it."""
    if len(frame) > MAX_FRAME:
        return Refusal(INVALID_REQUEST, f"A message may have {MAX_FRAME} bytes at most.")
    try:
        decoded = pydantic_core.from_json(frame, allow_inf_nan=False)
    except ValueError as error:
        deep = "recursion" in str(error)
        reason = "nested too deeply" if deep else "not one JSON value in UTF-8"
        return Refusal(PARSE_ERROR, f"Parse error: {reason}.")
    return _refused(decoded) or _message(decoded)


def _refused(decoded: Any) -> Refusal | None:
    if isinstance(decoded, list):
        return Refusal(INVALID_REQUEST, "Batches are not supported: send one message at a time.")
    if not isinstance(decoded, dict):
        return Refusal(INVALID_REQUEST, "A message is a JSON object.")
    given = decoded.get("id")
    usable = isinstance(given, str | int) and not isinstance(given, bool)
    number = given if usable else None
    if decoded.get("jsonrpc") != "2.0":
        return Refusal(INVALID_REQUEST, 'jsonrpc must be "2.0".', number)
    if "method" not in decoded:
        return None
    if not isinstance(decoded["method"], str):
        return Refusal(INVALID_REQUEST, "method must be a string.", number)
    if "id" in decoded and not usable:
        return Refusal(INVALID_REQUEST, "id must be a string or an integer.")
    if not isinstance(decoded.get("params"), dict | None):
        return Refusal(INVALID_PARAMS, "params must be an object.", number)
    return None


def _message(decoded: Any) -> JSONRPCMessage | Refusal:
    try:
        return jsonrpc_message_adapter.validate_python(decoded, by_name=False)
    except ValidationError:
        return Refusal(INVALID_REQUEST, "Neither a request, a notification nor a response.")


class InFlight:
    """The ids of one connection that wait for their answers; `"7"` and `7` are the same one."""

    def __init__(self) -> None:
        self._ids: set[RequestId] = set()

    def admit(self, request: JSONRPCRequest) -> Refusal | None:
        """Takes a request in, unless its id is taken."""
        key = coerce_request_id(request.id)
        if key in self._ids:
            taken = "This id belongs to a request that is not answered yet."
            return Refusal(INVALID_REQUEST, taken, request.id)
        self._ids.add(key)
        return None

    def settle(self, number: object) -> None:
        """Frees the id of a request that was answered or cancelled; anything else is no id."""
        if isinstance(number, str | int):
            self._ids.discard(coerce_request_id(number))

    def __bool__(self) -> bool:
        return bool(self._ids)


class FrameGuard:
    """Lets only whole messages through to the MCP endpoints; stands behind the limit on bodies.

    Args:
        inner: The application.
        prefix: Where the path of its MCP endpoints begins.
    """

    def __init__(self, inner: ASGIApp, prefix: str = "/mcp") -> None:
        self._inner = inner
        self._prefix = prefix
        self._sessions: dict[str, InFlight] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a message on, or answers 400 with the protocol's own error."""
        guarded = scope["type"] == "http" and scope["method"] == "POST"
        if not guarded or not scope["path"].startswith(self._prefix):
            await self._inner(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        found = read_frame(body)
        headers = Headers(scope=scope)
        session = _session(headers)
        flight = self._sessions.setdefault(session, InFlight()) if session else InFlight()
        refusal = found if isinstance(found, Refusal) else None
        if isinstance(found, JSONRPCRequest):
            header = disagreement(headers, found)
            told = f"{header} header does not match the request body."
            refusal = Refusal(HEADER_MISMATCH, told, found.id) if header else flight.admit(found)

        waiting = [found.id] if isinstance(found, JSONRPCRequest) and refusal is None else []

        def answered() -> None:
            if waiting:
                flight.settle(waiting.pop())

        try:
            if refusal is not None:
                await _refuse(refusal, scope, receive, send)
            else:
                await self._inner(scope, _replay(body, receive), _until_end(send, answered))
        finally:
            answered()
            # Also of a session that never was: made-up names must not add up.
            if not self._sessions.get(session):
                self._sessions.pop(session, None)


def _session(headers: Headers) -> str:
    # Since 2026-07-28 each POST stands alone, and its id is no one else's.
    version = headers.get("mcp-protocol-version", HANDSHAKE_PROTOCOL_VERSIONS[0])
    return headers.get("mcp-session-id", "") if version in HANDSHAKE_PROTOCOL_VERSIONS else ""


async def _body(receive: Receive) -> bytes | None:
    """Returns a request's body, None when the client left before it was whole."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def _until_end(send: Send, ended: Callable[[], None]) -> Send:
    """Says when an answer is whole, before its end is on its way: a client goes on at once."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            ended()
        await send(message)

    return sending


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    text = refusal.to_error().model_dump_json(by_alias=True, exclude_unset=True)
    await Response(text, 400, media_type="application/json")(scope, receive, send)
