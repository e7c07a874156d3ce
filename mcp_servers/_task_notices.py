"""Tasks on a stream of subscriptions/listen: each change of status is told, and not only asked for.

subscriptions/listen, taskIds ──> acknowledged with those that there are
──> notifications/tasks, as tasks/get would have answered
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from mcp.server.session import ServerSession
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import RequestId, SubscriptionsAcknowledgedNotification
from pydantic import BaseModel

from ryzanstein.mcp_servers._task import Task

__all__ = ["TaskStream"]


class _Notice(BaseModel):
    """A notification whose params go as they are."""

    method: str
    params: dict[str, Any]


class TaskStream:
    """The session of one listener, which also hears of tasks.

    Args:
        session: Its session.
        request_id: Of its request to listen.
        tasks: Those it hears of.
    """

    def __init__(
        self, session: ServerSession, request_id: RequestId | None, tasks: Sequence[Task]
    ) -> None:
        self._session, self._request_id, self._tasks = session, request_id, tasks
        self._changed: asyncio.Queue[Task] = asyncio.Queue()
        self._acknowledged = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def send_notification(
        self, notification: Any, related_request_id: RequestId | None = None
    ) -> None:
        """Sends what the server tells; the acknowledgement names the tasks too."""
        if not isinstance(notification, SubscriptionsAcknowledgedNotification):
            await self._session.send_notification(notification, related_request_id)
            return
        wire = notification.model_dump(by_alias=True, mode="json", exclude_none=True)
        if self._tasks:
            wire["params"]["notifications"]["taskIds"] = [task.id for task in self._tasks]
        await self._send(wire["method"], wire["params"])
        self._acknowledged.set()

    async def tell(self) -> None:
        """Sends every change from the acknowledgement on, until it is cancelled."""
        for task in self._tasks:
            task.listeners.append(self._changed.put_nowait)
        try:
            await self._acknowledged.wait()
            meta = {SUBSCRIPTION_ID_META_KEY: self._request_id}
            while True:
                task = await self._changed.get()
                await self._send("notifications/tasks", {**task.wire(), "_meta": meta})
        finally:
            for task in self._tasks:
                task.listeners.remove(self._changed.put_nowait)

    async def _send(self, method: str, params: dict[str, Any]) -> None:
        notice: Any = _Notice(method=method, params=params)
        await self._session.send_notification(notice, self._request_id)
