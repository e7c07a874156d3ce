"""How often each of many callers may do something, in windows that slide."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from ryzanstein.errors import ConfigError

if TYPE_CHECKING:
    from limits import RateLimitItem

__all__ = ["Rate", "too_many"]


class Rate:
    """Counts what each key did in a time, in this process.

    Args:
        text: Such as "600/minute" or "10 per 5 seconds".

    Raises:
        ConfigError: It says no rate.
    """

    def __init__(self, text: str) -> None:
        from limits.aio.storage import MemoryStorage
        from limits.aio.strategies import SlidingWindowCounterRateLimiter

        self._item = _rate(text)
        self._counted = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def hit(self, key: str) -> float | None:
        """Counts one more; returns how many seconds to wait where that is too many."""
        return None if await self._counted.hit(self._item, key) else await self._wait(key)

    async def over(self, key: str) -> float | None:
        """Returns how many seconds to wait where one more would be too many."""
        return None if await self._counted.test(self._item, key) else await self._wait(key)

    async def _wait(self, key: str) -> float:
        stats = await self._counted.get_window_stats(self._item, key)
        return max(stats.reset_time - time.time(), 1.0)


def too_many(wait: float) -> Response:
    """The answer to a request that is one too many."""
    seconds = math.ceil(wait)
    body = {"error": "too_many_requests", "error_description": f"Try again in {seconds} s."}
    return JSONResponse(body, 429, {"Retry-After": str(seconds)})


def _rate(text: str) -> RateLimitItem:
    from limits import parse

    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} is no rate.", hint='Write it like "600/minute", or leave it empty.'
        ) from error
