"""A model that does whatever the last order in sight says, as an inference server of its own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

__all__ = ["DIRECTIVE", "Obedient"]

DIRECTIVE = re.compile(r"CALL ([\w.]+) (\{.*?\}) END", re.S)
_MARKED = re.compile(r"<data-(\w+)[^>]*>.*?</data-\1>", re.S)
_ASKED = re.compile(r"Write the (\w+) for ")
_URL = re.compile(r"https?://[\w.:/-]+")
_CODE = ("code", "content", "sql", "text", "new")


class Obedient:
    """The model.

    Attributes:
        told: It saw an order since that was last reset.
        unmarked: It saw one that did not stand between the marks of a run.
    """

    def __init__(self) -> None:
        self.told = False
        self.unmarked = False

    def server(self) -> MCPServer[Any]:
        """Returns it as an inference server; a token is four characters."""
        from mcp.server.mcpserver import MCPServer

        server: MCPServer[Any] = MCPServer("obedient", log_level="ERROR")
        server.tool(name="chat")(self._chat)
        server.tool(name="count_tokens")(_count)
        return server

    def _chat(
        self,
        messages: list[dict[str, str]],
        max_tokens: int = 512,
        model: str = "obedient",
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
        seen = "\n".join(one["content"] for one in messages if one["role"] != "assistant")
        orders = {name: _parsed(text) for name, text in DIRECTIVE.findall(seen)}
        self.told = self.told or bool(orders)
        self.unmarked = self.unmarked or bool(DIRECTIVE.search(_MARKED.sub("", seen)))
        said = _said(orders, seen, choices, answer_prefix, json_schema)
        cut = said[: 4 * max_tokens]
        prompt = sum(_tokens(one["content"]) + 4 for one in messages)
        return {
            "text": cut,
            "model": model,
            "prompt_tokens": prompt,
            "cached_tokens": 0,
            "tokens": _tokens(cut),
            "finish_reason": "stop",
            "seconds": 0.0,
        }


def _said(
    orders: dict[str, dict[str, Any]],
    seen: str,
    choices: list[str],
    prefix: str,
    schema: dict[str, Any],
) -> str:
    together = {key: value for one in orders.values() for key, value in one.items()}
    if choices:
        wanted = {*orders, *map(str, together.values())}
        fitting = [one for one in choices if one in wanted or one == "answer"]
        return (fitting or choices)[0]
    if schema:
        whole = schema.get("type") == "object"
        lists = [value for value in together.values() if isinstance(value, list)]
        return json.dumps(together if whole else lists[0] if lists else None)
    asked = _ASKED.findall(seen)
    if asked and asked[-1] in together:
        return str(together[asked[-1]])
    if asked and asked[-1] == "url":
        return next(iter(_URL.findall(seen)), "")
    if prefix:
        return str(next((together[key] for key in _CODE if key in together), "pass"))
    return str(together.get("url") or together.get("path") or "It is done.")


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _count(
    text: str = "",
    messages: list[dict[str, str]] = [],  # noqa: B006
    model: str = "",
) -> dict[str, int]:
    """Counts."""
    return {"tokens": _tokens(text) + sum(_tokens(one["content"]) + 4 for one in messages)}


def _tokens(text: str) -> int:
    return -(-len(text) // 4)
