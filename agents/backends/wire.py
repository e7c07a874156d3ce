"""What a server that speaks OpenAI's API sends, read with distrust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from ryzanstein.agents.backends.base import Rubbish
from ryzanstein.errors import InferenceError

__all__ = ["Reply", "add", "count", "retry_after", "said", "whole", "without_thoughts"]


@dataclass
class Reply:
    """What has come of an answer so far."""

    text: str = ""
    model: str = ""
    finish: str = ""
    usage: Mapping[str, Any] = field(default_factory=dict)
    pieces: int = 0


def add(name: str, data: str, reply: Reply) -> None:
    """Adds one event of a stream to a reply."""
    event = _object(name, data)
    if "error" in event:
        raise InferenceError(f"{name} failed within its answer: {_error_text(event['error'])}.")
    usage = event.get("usage")
    reply.usage = usage if isinstance(usage, Mapping) else reply.usage
    reply.model = str(event.get("model") or reply.model)
    choices = event.get("choices")
    if not isinstance(choices, list):
        raise Rubbish(f"{name} sent an event that is part of no chat: {data[:80]}")
    for choice in choices[:1]:
        delta = choice.get("delta") if isinstance(choice, Mapping) else None
        if not isinstance(delta, Mapping | None):
            raise Rubbish(f"{name} sent an event that is part of no chat: {data[:80]}")
        _extend(name, reply, delta or {}, choice)


def whole(name: str, body: bytes, reply: Reply) -> None:
    """Fills a reply from an answer that was not streamed."""
    found = _object(name, body.decode(errors="replace"))
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise Rubbish(f"{name} sent an answer without a choice.")
    message = choices[0].get("message")
    if not isinstance(message, Mapping):
        raise Rubbish(f"{name} sent a choice without a message.")
    usage = found.get("usage")
    reply.usage = usage if isinstance(usage, Mapping) else {}
    reply.model = str(found.get("model") or "")
    _extend(name, reply, message, choices[0])
    reply.finish = reply.finish or "stop"


def _extend(name: str, reply: Reply, part: Mapping[str, Any], choice: Mapping[str, Any]) -> None:
    piece = part.get("content") or ""
    if not isinstance(piece, str):
        raise Rubbish(f"{name} sent text that is no text.")
    reply.text += piece
    reply.pieces += 1
    reply.finish = str(choice.get("finish_reason") or reply.finish)


def _object(name: str, text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Rubbish(f"{name} sent what is no JSON: {text[:80]!r}.") from error
    if not isinstance(found, Mapping):
        raise Rubbish(f"{name} sent JSON that is no object: {text[:80]!r}.")
    return found


def count(usage: Mapping[str, Any], key: str) -> int:
    """A number of tokens that a server says; 0 where it says nothing of use."""
    value = usage.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _error_text(error: Any) -> str:
    found = error.get("message", error) if isinstance(error, Mapping) else error
    return " ".join(str(found).split())[:200].rstrip(".")


def said(body: bytes) -> str:
    """What an answer that is no success says, in one line."""
    text = body.decode(errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return " ".join(text.split())[:200].rstrip(".")
    return _error_text(found.get("error", found) if isinstance(found, Mapping) else found)


def retry_after(header: str) -> float:
    """Seconds that a Retry-After asks for, as a number or as a date; 0 without one."""
    try:
        seconds = float(header) if header else 0.0
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time()
        except ValueError:
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def without_thoughts(text: str) -> str:
    """The answer behind what a model thinks aloud."""
    if not text.lstrip().startswith("<think>"):
        return text
    return text.partition("</think>")[2].lstrip()
