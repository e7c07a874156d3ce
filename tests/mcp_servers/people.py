"""Several subjects of one server over a real socket, each with a token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp_types import CallToolResult

from ryzanstein.mcp_servers._subject import subject_of
from ryzanstein.subject import Subject
from ryzanstein.tokens import Tokens


def token(
    subject: str | None = "", client: str = "ryzanstein", issuer: str | None = None, *scopes: str
) -> AccessToken:
    claims = None if issuer is None else {"iss": issuer}
    return AccessToken(
        token="", client_id=client, scopes=list(scopes), subject=subject, claims=claims
    )


class People:
    """Ada and Bob with a token each, the owner, and a server that all three can reach."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self.url = url
        self.tokens = {
            "": tokens.owner(),
            "ada": tokens.add("ada"),
            "bob": tokens.add("bob"),
            "eve": tokens.add("eve", admin=True),
        }

    def subject(self, name: str) -> Subject:
        return subject_of(token(subject=name))

    @asynccontextmanager
    async def client(self, name: str, server: str, **options: Any) -> AsyncIterator[Client]:
        headers = {"authorization": f"Bearer {self.tokens[name]}"}
        async with httpx2.AsyncClient(headers=headers, timeout=60, verify=False) as http:
            target = streamable_http_client(f"{self.url}/mcp/{server}", http_client=http)
            async with Client(target, **options) as client:
                yield client

    async def call(self, name: str, server: str, tool: str, /, **arguments: Any) -> CallToolResult:
        async with self.client(name, server) as client:
            return await client.call_tool(tool, arguments)

    async def answer(self, name: str, server: str, tool: str, /, **arguments: Any) -> Any:
        result = await self.call(name, server, tool, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    async def fault(self, name: str, server: str, tool: str, /, **arguments: Any) -> str:
        result = await self.call(name, server, tool, **arguments)
        assert result.is_error
        return str(result.content[0].text)  # type: ignore[union-attr]

    async def read(self, name: str, server: str, uri: str) -> str:
        async with self.client(name, server) as client:
            return str(getattr((await client.read_resource(uri)).contents[0], "text", ""))

    async def unread(self, name: str, server: str, uri: str) -> tuple[int, str]:
        async with self.client(name, server) as client:
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
        return caught.value.code, str(caught.value)
