"""LoCoMo's own JSON: long conversations of two people over many sessions.

    {"sample_id": "conv-26",
     "conversation": {"speaker_a": …, "speaker_b": …,
       "session_1_date_time": "1:56 pm on 8 May, 2023",
       "session_1": [{"speaker": …, "dia_id": "D1:1", "text": …, "blip_caption": …, "query": …}]}}

Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents", 2024.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from ryzanstein.memory.sources.moments import moment
from ryzanstein.memory.sources.turns import Conversation, Turn, conversation_id

__all__ = ["is_locomo", "read_locomo"]

_SESSION = re.compile(r"session_(\d+)")


def is_locomo(sample: object) -> bool:
    """Whether this is one of LoCoMo's samples, or its conversation alone."""
    if not isinstance(sample, dict):
        return False
    inner = sample.get("conversation", sample)
    return isinstance(inner, dict) and bool(_sessions(inner))


def read_locomo(sample: Mapping[str, Any], *, name: str, zone: tzinfo = UTC) -> Conversation:
    """Returns the conversation of one sample.

    Raises:
        ValueError: A turn or a time is wrong; it is named.
    """
    inner = sample.get("conversation", sample)
    turns = [turn for key in _sessions(inner) for turn in _session(inner, key, zone)]
    return Conversation(conversation_id(sample.get("sample_id"), name, turns), turns)


def _sessions(inner: Mapping[str, Any]) -> list[str]:
    found = [
        (int(match[1]), key)
        for key, value in inner.items()
        if (match := _SESSION.fullmatch(key)) and isinstance(value, list)
    ]
    return [key for _, key in sorted(found)]


def _session(inner: Mapping[str, Any], key: str, zone: tzinfo) -> Iterator[Turn]:
    written = inner.get(f"{key}_date_time")
    happened: datetime | None = None
    if written:
        try:
            happened = moment(written, zone=zone)
        except ValueError as error:
            raise ValueError(f"{key}_date_time: {error}") from error
    for number, one in enumerate(inner[key], start=1):
        where = f"{key}, turn {number}"
        if not isinstance(one, dict) or not isinstance(one.get("text"), str):
            raise ValueError(f"{where}: it has no text")
        caption = one.get("blip_caption")
        shown = [f"photo of {caption}"] if isinstance(caption, str) and caption else []
        shown += [one["query"]] if isinstance(one.get("query"), str) and one["query"] else []
        text = one["text"].strip() or "; ".join(shown)
        if not text:
            continue
        speaker = one.get("speaker")
        place = one.get("dia_id")
        yield Turn(
            text=text,
            place=place if isinstance(place, str) and place else where,
            speaker=speaker if isinstance(speaker, str) else None,
            happened=happened,
            session=key,
            about=tuple(shown),
        )
