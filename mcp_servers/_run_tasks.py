"""Runs as tasks: a task of the orchestrator has the id of its run, whose row outlives the process.

done         completed, with the answer               failed     completed, with the error
running      working, in whatever process it is       cancelled  cancelled
interrupted  working again: who asks for it has it gone on with behind its last finished step
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp_types import CallToolRequestParams, CallToolResult

from ryzanstein.errors import AgentInvocationError, InvalidRequest, from_wire
from ryzanstein.events import new_id
from ryzanstein.mcp_servers import _kept_runs
from ryzanstein.mcp_servers._factory import Server, failure
from ryzanstein.mcp_servers._run_replies import Ran
from ryzanstein.mcp_servers._task import POLL_MS, stamp, wire_result

if TYPE_CHECKING:
    from ryzanstein.memory.records import Run

__all__ = ["RunTasks"]

# A wait begins again after so many seconds.
_LOOKS_FOR = 600.0
_STATUS = {"running": "working", "cancelled": "cancelled"}


class RunTasks:
    """Finds tasks in the table of runs, which keeps them without bound."""

    keep_ms: int | None = None

    def answers(self, server: Server) -> None:
        """Names the server that goes on with runs."""
        self._server = server

    def id_of(self, params: CallToolRequestParams) -> str:
        """The run that a call goes on with, else the id of the one that it begins."""
        given = (params.arguments or {}).get("run_id")
        return given if isinstance(given, str) and given else new_id("run")

    async def find(self, task: str) -> dict[str, Any] | CallToolRequestParams | None:
        """A run as a task, or the call that goes on with it; None where there is none."""
        try:
            kept, left = await anyio.to_thread.run_sync(_kept_runs.with_checkpoint, task)
        except InvalidRequest:
            return None
        if kept.status == "interrupted" and left:
            return CallToolRequestParams(name="run_task", arguments={"run_id": task})
        status = _STATUS.get(kept.status, "completed")
        return {
            "taskId": task,
            "status": status,
            **_message(kept.result, status),
            "createdAt": stamp(kept.created),
            "lastUpdatedAt": stamp(kept.updated),
            "ttlMs": self.keep_ms,
            "pollIntervalMs": POLL_MS,
            **({"result": wire_result(_ended(kept))} if status == "completed" else {}),
        }

    async def go_on(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any]
    ) -> HandlerResult:
        """Makes the call that goes on with a run; where another process was first, waits for it."""
        from ryzanstein.mcp_servers import _running

        found = await self._server.answer(params, ctx)
        if not (isinstance(found, CallToolResult) and found.is_error):
            return found
        run_id = str((params.arguments or {})["run_id"])
        while (state := await _running.state(run_id, _LOOKS_FOR))["status"] == "running":
            pass
        return _answered(run_id, state["result"]) if state["status"] == "done" else found

    async def cancel(self, task: str) -> bool:
        """Asks a run to stop; False where there is none."""
        from ryzanstein.mcp_servers import _running

        try:
            await _running.cancel(task)
        except InvalidRequest:
            return False
        return True


def _message(result: dict[str, Any], status: str) -> dict[str, str]:
    """What a run is at."""
    events = result.get("events") or []
    return {"statusMessage": events[-1]["message"]} if events and status == "working" else {}


def _ended(kept: Run) -> CallToolResult:
    """What the call that began a run would have answered at its end."""
    if kept.status == "done":
        return _answered(kept.id, kept.result)
    error = kept.result.get("error") or AgentInvocationError("The run ended early.").to_wire()
    return failure(from_wire(error["code"], error["message"], error.get("hint", "")))


def _answered(run_id: str, result: Mapping[str, Any]) -> CallToolResult:
    known = {name: result[name] for name in Ran.model_fields if name in result}
    return Ran(**{**known, "run_id": run_id}).to_result()
