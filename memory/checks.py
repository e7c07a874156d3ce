"""Bounds of what may be stored or asked; each fault is one InvalidRequest with what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ryzanstein.errors import InvalidRequest

__all__ = [
    "MAX_TEXT",
    "checked_limit",
    "checked_name",
    "checked_share",
    "checked_tags",
    "checked_text",
    "cleaned",
]

MAX_TEXT = 1_000_000
_MAX_LIMIT = 1_000
_MAX_TAGS = 32
_NAME = re.compile(r"[\w.:@/+-]{1,80}")
# A NUL ends strings in some databases; a lone surrogate cannot be written as UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def checked_text(text: str, what: str) -> str:
    """Returns the text without white space around it.

    Raises:
        InvalidRequest: It is empty, too long, or holds what cannot be stored.
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidRequest(f"The {what} is empty.", hint="Give some text.")
    if len(stripped) > MAX_TEXT:
        raise InvalidRequest(
            f"The {what} has {len(stripped):,} characters; at most {MAX_TEXT:,} are kept.",
            hint="Split it into parts.",
        )
    if _UNSTORABLE.search(stripped):
        raise InvalidRequest(
            f"The {what} holds NUL or broken Unicode characters.", hint="Send it as UTF-8 text."
        )
    return stripped


def cleaned(text: str) -> str:
    """Returns what can be stored of a text that a model or a tool made: cut and repaired."""
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text[:MAX_TEXT]).strip()


def checked_name(name: str, what: str) -> str:
    """Returns the name.

    Raises:
        InvalidRequest: It is not 1 to 80 letters, digits or one of _ . : @ / + -.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:80]!r} cannot be a {what}.",
            hint="Use 1 to 80 letters, digits or _ . : @ / + - without spaces.",
        )
    return name


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Returns the tags, sorted, each once.

    Raises:
        InvalidRequest: One cannot be a tag, or there are more than 32.
    """
    chosen = sorted({checked_name(tag, "tag") for tag in tags})
    if len(chosen) > _MAX_TAGS:
        raise InvalidRequest(f"{len(chosen)} tags are too many.", hint=f"Give at most {_MAX_TAGS}.")
    return tuple(chosen)


def checked_share(value: float, what: str) -> float:
    """Returns a number between 0 and 1.

    Raises:
        InvalidRequest: It is not one, or NaN.
    """
    if not 0.0 <= value <= 1.0:
        raise InvalidRequest(f"{what} is {value}.", hint="Give a number from 0 to 1.")
    return float(value)


def checked_limit(limit: int) -> int:
    """Returns how many results to give.

    Raises:
        InvalidRequest: It is not from 1 to 1,000.
    """
    if not 1 <= limit <= _MAX_LIMIT:
        raise InvalidRequest(
            f"The limit is {limit}.", hint=f"Give a number from 1 to {_MAX_LIMIT}."
        )
    return limit
