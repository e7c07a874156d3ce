"""What the members of a team tell each other: working memories of the team's run.

They are written as soon as a part is done, so that parts which start later find them, also after a
restart; they end with the run. A team works on without its memory where that cannot be reached.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ryzanstein.agents.running.conversation import clipped
from ryzanstein.errors import RyzansteinError

if TYPE_CHECKING:
    from ryzanstein.agents.clients.services import Services
    from ryzanstein.agents.team.parts import Part

__all__ = ["Board"]

Failed = Callable[[str], Awaitable[None]]

MOST_NOTES = 3
LEAST_SIMILARITY = 0.35
# Of one finding; the whole of an answer is in the team's result.
NOTE_CHARACTERS = 1200


class Board:
    """The shared working memory of one run of a team."""

    def __init__(self, services: Services, run_id: str, failed: Failed) -> None:
        self._services = services
        self._run_id = run_id
        self._failed = failed

    async def note(self, agent: str, part: Part, answer: str) -> None:
        """Keeps what an agent found for a part."""
        words = " ".join(part.text.split())[:300]
        text = await _short(f"{agent} {_on(part.index)}{words}»: {answer}")
        try:
            await self._services.remember(
                text, tier="working", task=self._run_id, agent=agent, kind="finding"
            )
        except RyzansteinError as error:
            await self._failed(f"A finding could not be shared: {error}")

    async def notes(self, part: Part) -> list[str]:
        """What was found so far that a part may need, but for what it is given anyhow."""
        try:
            hits = await self._services.recall(
                part.text[:2000], limit=MOST_NOTES, tier=["working"], task=self._run_id
            )
        except RyzansteinError as error:
            await self._failed(f"The shared memory could not be read: {error}")
            return []
        near = [hit["text"] for hit in hits if hit.get("similarity", 0.0) >= LEAST_SIMILARITY]
        return [text for text in near if not any(_on(other) in text[:80] for other in part.after)]


def _on(index: int) -> str:
    return f"on part {index + 1} «"


async def _short(text: str) -> str:
    async def count(candidate: str) -> int:
        return len(candidate)

    return await clipped(text, NOTE_CHARACTERS, count)
