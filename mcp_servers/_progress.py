"""Whoever waits for a call hears every now and then that it is still at work.

A tool says how far it is where it knows; in between, and where it knows nothing, this says so for
it, so that no call is silent for longer than a client cares to wait.

    tool ──> report_progress ─┬─> client, always more than before, as the protocol wants
    silence of a second ──────┘
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.session import ServerSession

__all__ = ["beating"]

SILENT_SECONDS = 1.0
# Whoever calls these takes silence for a sign that the engine hangs.
_SAYS_ITSELF = frozenset({"chat", "complete_code", "generate_text"})
# What a beat adds: less than any step a tool counts, so that its own reports stay the larger ones.
_STEP = 1e-6


async def beating(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Says of a call that is silent that it is under way; middleware of every server."""
    listens = ctx.method == "tools/call" and (ctx.meta or {}).get("progress_token") is not None
    if not listens or (ctx.params or {}).get("name") in _SAYS_ITSELF:
        return await call_next(ctx)
    session = _Beating(ctx.session)
    beats = asyncio.ensure_future(session.beat())
    try:
        return await call_next(replace(ctx, session=session))  # type: ignore[arg-type]
    finally:
        beats.cancel()


class _Beating:
    """A session that reports progress, and beats in between."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session
        self._last = monotonic()
        self._shown = 0.0
        self._total: float | None = None
        self._message: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        self._last, self._total = monotonic(), total
        self._message = message or self._message
        if progress > self._shown or self._shown == 0:
            self._shown = progress
            await self._session.report_progress(progress, total, message)

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._last + SILENT_SECONDS - monotonic()))
            if monotonic() - self._last < SILENT_SECONDS:
                continue
            self._last = monotonic()
            self._shown += max(_STEP, abs(self._shown) * _STEP)
            await self._session.report_progress(
                self._shown, self._total, self._message or "is at work"
            )
