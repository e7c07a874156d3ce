"""A client that declares the Tasks extension, over any transport, and drives tasks by hand."""

from __future__ import annotations

from typing import Any, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClientExtension, ResultClaim
from mcp_types import CallToolResult, Request, Result
from pydantic import ConfigDict

from ryzanstein.mcp_servers._tasks import IDENTIFIER

ENDED = ("completed", "failed", "cancelled")


class Made(Result):
    """The answer to a call that became a task."""

    result_type: Literal["task"] = "task"
    model_config = ConfigDict(extra="allow")


class Knows(ClientExtension):
    """Declares the extension and leaves tasks to the test."""

    identifier = IDENTIFIER

    def claims(self) -> list[ResultClaim[Any]]:
        """Takes every task as it is."""

        async def resolve(made: Made, context: Any) -> CallToolResult:
            raise AssertionError("a task is driven by hand")

        return [ResultClaim(result_type="task", model=Made, resolve=resolve)]


async def begin(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Calls a tool; returns the wire form of the task, or of the result."""
    found = await client.session.call_tool(tool, arguments, allow_claimed=True)
    return found.model_dump(by_alias=True, mode="json", exclude_none=True)


async def ask(client: Client, method: str, task: str, **params: Any) -> dict[str, Any]:
    """Sends a request about a task and returns the wire form of the answer."""
    request = OfTask(method=method, params={"taskId": task, **params})
    found = await client.session.send_request(request, Loose)
    return found.model_dump(by_alias=True, mode="json")


async def until(client: Client, task: str, *statuses: str) -> dict[str, Any]:
    """Asks for a task until it has one of the statuses, or has ended."""
    with anyio.fail_after(60):
        while True:
            found = await ask(client, "tasks/get", task)
            if found["status"] in (*statuses, *ENDED):
                return found
            await anyio.sleep(0.02)


class OfTask(Request[dict[str, Any], str]):
    """A request about a task, which over HTTP names it in a header too."""

    name_param = "taskId"


class Loose(Result):
    """Any result."""

    model_config = ConfigDict(extra="allow")
