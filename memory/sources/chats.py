"""Messages as chats export them, in JSON: told apart by their shape, not by their name.

    messages   [{"role"|"speaker"|"author"|"from": …, "content"|"text": …, "time": …}] or
               {"id", "title", "messages": [...]}, one or a list of them; content may be a list
               of parts, as OpenAI's API has it
    ChatGPT    {"title", "mapping": {id: {"message", "parent"}}, "current_node"}: a tree, of which
               the branch that ends in current_node was the conversation
    Claude     {"uuid", "name", "chat_messages": [{"sender", "text", "content", "created_at"}]}

What a system prompt or a tool said is left out and counted: nobody said it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from typing import Any

from ryzanstein.memory.sources.locomo import is_locomo, read_locomo
from ryzanstein.memory.sources.moments import moment
from ryzanstein.memory.sources.turns import Conversation, Turn, conversation_id

__all__ = ["is_conversation", "read_chats", "read_message"]

_LISTS = ("messages", "chat_messages", "turns", "utterances", "conversations", "conversation")
_SPEAKER = ("speaker", "name", "role", "author", "sender", "from", "user")
_TEXT = ("text", "content", "message", "body", "value", "parts")
_TIME = ("time", "timestamp", "date", "datetime", "created_at", "create_time", "ts", "happened")
_ID = ("id", "conversation_id", "uuid", "sample_id")
_TITLE = ("title", "name")
_UNSAID = frozenset(("system", "developer", "tool", "function"))


def read_chats(value: object, *, name: str, zone: tzinfo = UTC) -> Iterator[Conversation]:
    """Yields the conversations of a JSON value.

    Args:
        value: What the file holds, parsed.
        name: The file's, for conversations without an id.
        zone: Of times that name none.

    Raises:
        ValueError: It holds no conversation, or a message is wrong; it is named.
    """
    if isinstance(value, dict):
        yield _conversation(value, name, zone)
    elif isinstance(value, list) and value and all(is_conversation(one) for one in value):
        for number, one in enumerate(value, start=1):
            try:
                yield _conversation(one, f"{name}-{number}", zone)
            except ValueError as error:
                raise ValueError(f"conversation {number}: {error}") from error
    elif isinstance(value, list):
        yield _of_messages({}, value, name, zone)
    else:
        raise ValueError("it holds no list of messages")


def read_message(one: object, place: str, zone: tzinfo = UTC) -> Turn | None:
    """Returns one message as a turn; None for what nobody said or that has no words.

    Raises:
        ValueError: It is no message, or its time is none.
    """
    if not isinstance(one, dict):
        raise ValueError("it is not an object")
    key = next((key for key in _TEXT if key in one), None)
    if key is None:
        raise ValueError("it has no text")
    author = one.get("author")
    role = one.get("role") or (author.get("role") if isinstance(author, dict) else author)
    text = _words(one[key]).strip() or _words(one.get("content")).strip()
    if str(role) in _UNSAID or not text:
        return None
    when = next((one[key] for key in _TIME if one.get(key) not in (None, "")), None)
    session = one.get("session")
    return Turn(
        text=text,
        place=place,
        speaker=next((found for key in _SPEAKER if (found := _speaker(one.get(key)))), None),
        happened=None if when is None else moment(when, zone=zone),
        session=str(session) if isinstance(session, str | int) else None,
    )


def is_conversation(one: object) -> bool:
    """Whether a JSON value is a conversation of its own, not a message."""
    if not isinstance(one, dict):
        return False
    return "mapping" in one or is_locomo(one) or any(isinstance(one.get(k), list) for k in _LISTS)


def _conversation(one: Mapping[str, Any], name: str, zone: tzinfo) -> Conversation:
    if is_locomo(one):
        return read_locomo(one, name=name, zone=zone)
    if isinstance(one.get("mapping"), dict):
        return _of_messages(one, _branch(one), name, zone)
    key = next((key for key in _LISTS if isinstance(one.get(key), list)), None)
    if key is None:
        raise ValueError("it holds no list of messages")
    return _of_messages(one, one[key], name, zone)


def _of_messages(
    about: Mapping[str, Any], messages: Sequence[object], name: str, zone: tzinfo
) -> Conversation:
    title = next((about[key] for key in _TITLE if isinstance(about.get(key), str)), "")
    turns = []
    for number, one in enumerate(messages, start=1):
        try:
            turn = read_message(one, f"message {number}", zone)
        except ValueError as error:
            raise ValueError(f"message {number}: {error}") from error
        if turn is not None:
            turns.append(replace(turn, about=(title,)) if title else turn)
    given = next((about[key] for key in _ID if about.get(key)), None)
    return Conversation(conversation_id(given, name, turns), turns, len(messages) - len(turns))


def _branch(tree: Mapping[str, Any]) -> list[object]:
    """The messages from a tree's root to its current node."""
    nodes: dict[str, Any] = tree["mapping"]
    at = tree.get("current_node") or next(reversed(nodes), None)
    found: list[object] = []
    seen: set[str] = set()
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = nodes[at] if isinstance(nodes[at], dict) else {}
        message = node.get("message")
        if isinstance(message, dict) and not _hidden(message):
            found.append(message)
        at = node.get("parent")
    return found[::-1]


def _hidden(message: Mapping[str, Any]) -> bool:
    extra = message.get("metadata")
    flagged = isinstance(extra, dict) and extra.get("is_visually_hidden_from_conversation")
    return bool(flagged) or message.get("weight") == 0


def _speaker(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("name") or value.get("role")
    return value if isinstance(value, str) and value.strip() else None


def _words(content: object) -> str:
    """The words of a content: a text, parts of which some are texts, or an object around them."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n\n".join(filter(None, map(_words, content)))
    if isinstance(content, dict) and content.get("type", "text") in ("text", "input_text"):
        return _words(content.get("text") or content.get("parts"))
    return ""
