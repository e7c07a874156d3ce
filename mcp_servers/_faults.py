"""Which errors of a request reach its client, and as what.

    MCPError, bad params of a method    as they are
    this project's errors               -32602 where the caller can mend it, else -32603; with text
    anything else                       -32603, and no word of what it was
    a result that is no UTF-8           with `?` for what is not: names of files may be any bytes

The SDK answers connections of 2025 with the text of whatever was raised, under code 0.
"""

from __future__ import annotations

import json
import logging
from typing import Any

import pydantic_core
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError

from ryzanstein.errors import (
    ERROR_META,
    AgentNotFound,
    InvalidRequest,
    ModelNotFound,
    RyzansteinError,
    ToolNotFound,
)
from ryzanstein.mcp_servers._subject import without_places

__all__ = ["within_protocol"]

log = logging.getLogger("ryzanstein.mcp_servers")


async def within_protocol(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """Turns what a handler raised into an error of the protocol.

    Raises:
        MCPError: The request failed.
        ValidationError: Its params do not fit the method; the SDK answers that.
    """
    try:
        return _encodable(await call_next(ctx))
    except (MCPError, ValidationError):
        raise
    except RyzansteinError as error:
        mendable = isinstance(error, AgentNotFound | InvalidRequest | ModelNotFound | ToolNotFound)
        code = INVALID_PARAMS if mendable else INTERNAL_ERROR
        data = {ERROR_META: without_places(error).to_wire()}
        raise MCPError(code, f"{error.code}: {error}", data) from error
    except Exception as error:
        log.exception("%s failed", ctx.method)
        raise MCPError(
            INTERNAL_ERROR, f"{ctx.method} failed; the server's log says why."
        ) from error


def _encodable(result: HandlerResult) -> HandlerResult:
    """Returns a result that can be written: half a surrogate would end the connection."""
    try:
        pydantic_core.to_json(result)
    except pydantic_core.PydanticSerializationError:
        plain = pydantic_core.to_jsonable_python(result, by_alias=True)
        text = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
        replaced: dict[str, Any] = json.loads(text)
        return replaced
    return result
