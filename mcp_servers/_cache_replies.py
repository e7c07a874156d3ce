"""What the cache server answers: states, kept answers, and counts of both."""

from __future__ import annotations

from typing import Literal

from pydantic.json_schema import SkipJsonSchema as Aside

from ryzanstein.mcp_servers._factory import Reply

__all__ = [
    "CacheStats",
    "Cleared",
    "Kept",
    "Looked",
    "Place",
    "StateBrief",
    "StatePage",
    "StoredResponse",
]

Place = Literal["memory", "disk"]


class CacheStats(Reply):
    """How well the prefix cache and the kept answers work."""

    states: int
    bytes: int
    hits: int
    misses: Aside[int]
    prompt_tokens: Aside[int]
    cached_tokens: Aside[int]
    hit_share: float
    saved_states: Aside[int] = 0
    saved_bytes: Aside[int] = 0
    responses: int = 0
    response_bytes: Aside[int] = 0
    response_hits: int = 0
    response_misses: Aside[int] = 0

    def brief(self) -> str:
        """Returns the main numbers in a sentence."""
        return (
            f"{self.states} states, {self.bytes / 1e6:.1f} MB; "
            f"{self.hits} hits, {self.misses} misses; "
            f"{100 * self.hit_share:.0f} % of the prompt tokens came from the cache; "
            f"{self.saved_states} states on disk, {self.saved_bytes / 1e6:.1f} MB; "
            f"{self.responses} answers, {self.response_bytes / 1e6:.1f} MB, "
            f"{self.response_hits} hits, {self.response_misses} misses."
        )


class StateBrief(Reply):
    """One state that is kept."""

    id: str
    label: str
    model: str
    place: Aside[Place]
    tokens: int
    bytes: int
    idle_seconds: Aside[float | None] = None

    def brief(self) -> str:
        """Returns one line."""
        return (
            f"{self.id} ({self.place}) {self.model}: {self.tokens} tokens, "
            f"{self.bytes / 1e6:.1f} MB, {self.label}"
        )


class StatePage(Reply):
    """States in memory, then on disk, the latest used first."""

    states: list[StateBrief]
    next_cursor: str | None = None

    def brief(self) -> str:
        """Returns one line a state."""
        lines = [state.brief() for state in self.states]
        if self.next_cursor:
            lines.append(f"More with cursor={self.next_cursor}.")
        return "\n".join(lines) or "No states are kept."


class Kept(StateBrief):
    """A state that was saved or restored."""

    seconds: Aside[float]

    def brief(self) -> str:
        """Returns one line."""
        return f"{super().brief()} ({self.seconds:.3f} s)"


class Cleared(Reply):
    """What was given back; `states` counts answers where those were meant."""

    states: int
    bytes: int

    def brief(self) -> str:
        """Returns one sentence."""
        return f"{self.states} entries are dropped, {self.bytes / 1e6:.1f} MB are free."


class Looked(Reply):
    """What was found for a question."""

    found: bool
    id: str = ""
    response: str = ""
    prompt: Aside[str] = ""
    similarity: float = 0.0
    age_seconds: Aside[float] = 0.0

    def brief(self) -> str:
        """Returns the answer, and the question where it was another one."""
        if not self.found:
            return "No answer is kept. Ask the model, then store_response."
        near = f" Asked as: {self.prompt}" if self.similarity < 1 else ""
        return f"[{self.id}, {self.age_seconds:.0f} s old, data.{near}]\n{self.response}"


class StoredResponse(Reply):
    """An answer that is kept; `expires` is ISO 8601 in UTC."""

    id: str
    expires: str

    def brief(self) -> str:
        """Returns one sentence."""
        return f"Kept as {self.id} until {self.expires}."
