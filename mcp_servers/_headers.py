"""Whether the headers of a message say what its body says, also before the protocol wanted them.

Since 2026-07-28 the version, the method and the name of what is called stand in headers too, so
that a proxy can decide by them; the SDK compares them then. A message that says it is of an older
revision would get past such a proxy with any of them, so what it carries is compared as well.
"""

from __future__ import annotations

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    decode_header_value,
    find_duplicated_routing_header,
)
from mcp_types import PROTOCOL_VERSION_META_KEY, JSONRPCRequest
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers

__all__ = ["disagreement"]


def disagreement(headers: Headers, request: JSONRPCRequest) -> str | None:
    """Returns the header that an older client's request contradicts, None where there is none."""
    twice = find_duplicated_routing_header(headers.items())
    if twice is not None:
        return twice
    version = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
        return None
    params = request.params or {}
    meta = params.get("_meta")
    inside = meta.get(PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
    name = params.get(NAME_BEARING_METHODS.get(request.method, ""))
    said = (
        (MCP_PROTOCOL_VERSION_HEADER, version, inside),
        (MCP_METHOD_HEADER, headers.get(MCP_METHOD_HEADER), request.method),
        (MCP_NAME_HEADER, decode_header_value(headers.get(MCP_NAME_HEADER)), name),
    )
    # A header that is not there contradicts nothing, but for the version, which then is an old one.
    for header, outside, within in said:
        if within is not None and outside != within and header in headers:
            return header
    return MCP_PROTOCOL_VERSION_HEADER if inside is not None and version is None else None
