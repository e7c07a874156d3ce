"""An inference server whose model says what a test wrote; a token is four characters.

model = Scripted(lambda ask: "run_python" if ask.choices else "…")
Services(registry, servers={"inference": model.server})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import MCPServer

__all__ = ["Ask", "Scripted"]


@dataclass(frozen=True)
class Ask:
    """One request: the last thing said, all that was said, and the constraint."""

    text: str
    messages: list[dict[str, str]]
    max_tokens: int
    prefix: str
    choices: list[str]
    temperature: float

    @property
    def prompt_tokens(self) -> int:
        return sum(tokens(one["content"]) + 4 for one in self.messages)


class Scripted:
    """A model; `asks` is everything it was asked."""

    def __init__(self, say: Callable[[Ask], str]) -> None:
        self.say = say
        self.asks: list[Ask] = []
        self.server = MCPServer("scripted")
        self.server.tool(name="chat")(self._chat)
        self.server.tool(name="count_tokens")(self._count)

    def _chat(
        self,
        messages: list[dict[str, str]],
        max_tokens: int = 512,
        model: str = "scripted",
        answer_prefix: str = "",
        keep_system: bool = False,
        choices: list[str] = [],  # noqa: B006
        regex: str = "",
        json_schema: dict[str, Any] = {},  # noqa: B006
        stop: list[str] = [],  # noqa: B006
        temperature: float = 0.0,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Answers."""
        text = messages[-1]["content"]
        asked = Ask(text, messages, max_tokens, answer_prefix, choices, temperature)
        self.asks.append(asked)
        said = self.say(asked)
        cut = said[: 4 * max_tokens]
        return {
            "text": cut,
            "model": model,
            "prompt_tokens": asked.prompt_tokens,
            "cached_tokens": 0,
            "tokens": tokens(cut),
            "finish_reason": "length" if len(cut) < len(said) else "stop",
            "seconds": 0.0,
        }

    def _count(
        self,
        text: str = "",
        messages: list[dict[str, str]] = [],  # noqa: B006
        model: str = "",
    ) -> dict[str, int]:
        """Counts."""
        return {"tokens": tokens(text) + sum(tokens(one["content"]) + 4 for one in messages)}


def tokens(text: str) -> int:
    return -(-len(text) // 4)
