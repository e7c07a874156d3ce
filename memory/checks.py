"""Bounds of what may be stored or asked; each fault is one InvalidRequest with what to do.

A text with NUL, broken Unicode or control characters is refused rather than changed behind the
caller's back: it would come back to a terminal, and a terminal obeys escapes. White space of every
kind is fine. `cleaned` repairs such a text for callers that must keep what they got.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.records import TIERS

if TYPE_CHECKING:
    from ryzanstein.memory.records import Draft

__all__ = [
    "MAX_TEXT",
    "checked_draft",
    "checked_ids",
    "checked_limit",
    "checked_moment",
    "checked_name",
    "checked_outcome",
    "checked_seconds",
    "checked_share",
    "checked_tags",
    "checked_text",
    "checked_tier",
    "checked_value",
    "cleaned",
    "possible_id",
]

MAX_TEXT = 1_000_000
_MAX_LIMIT = 1_000
_MAX_TAGS = 32
# As long as their columns; the last three only so that a mistake is noticed.
_LENGTHS: Sequence[tuple[str, int]] = (
    ("speaker", 120),
    ("conversation", 80),
    ("session", 80),
    ("task", 80),
    ("source", 4_000),
    ("place", 4_000),
    ("context", 20_000),
)
_NAME = re.compile(r"[\w.:@/+-]{1,80}")
_MAX_IDS = 10_000
# Enough for a plan of a lifetime; further away it is a wrong number.
_HORIZON = timedelta(days=36_525)
# A NUL ends strings in some databases; a lone surrogate cannot be written as UTF-8.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x01-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_ESCAPES = re.compile("(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[@-_]")


def checked_text(text: str, what: str, limit: int = MAX_TEXT) -> str:
    """Returns the text without white space around it.

    Raises:
        InvalidRequest: It is no text, empty, too long, or holds what cannot be stored.
    """
    if not isinstance(text, str):
        raise InvalidRequest(f"The {what} is no text but {type(text).__name__}.")
    stripped = text.strip()
    if not stripped:
        raise InvalidRequest(f"The {what} is empty.", hint="Give some text.")
    if len(stripped) > limit:
        raise InvalidRequest(
            f"The {what} has {len(stripped):,} characters; at most {limit:,} are kept.",
            hint="Split it into parts.",
        )
    if _UNSTORABLE.search(stripped):
        raise InvalidRequest(
            f"The {what} holds NUL or broken Unicode characters.", hint="Send it as UTF-8 text."
        )
    found = _CONTROL.search(stripped)
    if found:
        raise InvalidRequest(
            f"The {what} holds the control character U+{ord(found[0]):04X} "
            f"at position {found.start()}.",
            hint="Take terminal escapes and control characters out first.",
        )
    return stripped


def cleaned(text: str) -> str:
    """Returns what can be stored of a text that a model or a tool made: cut and repaired."""
    plain = _CONTROL.sub("", _ESCAPES.sub("", text[:MAX_TEXT]))
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", plain).strip()


def checked_name(name: str, what: str) -> str:
    """Returns the name.

    Raises:
        InvalidRequest: It is not 1 to 80 letters, digits or one of _ . : @ / + -.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r:.82} cannot be a {what}.",
            hint="Use 1 to 80 letters, digits or _ . : @ / + - without spaces.",
        )
    return name


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Returns the tags, sorted, each once.

    Raises:
        InvalidRequest: One cannot be a tag, there are more than 32, or they are one text.
    """
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise InvalidRequest(f"{tags!r:.82} is no list of tags.", hint="Put the tags into a list.")
    chosen = sorted({checked_name(tag, "tag") for tag in tags})
    if len(chosen) > _MAX_TAGS:
        raise InvalidRequest(f"{len(chosen)} tags are too many.", hint=f"Give at most {_MAX_TAGS}.")
    return tuple(chosen)


def checked_share(value: float, what: str) -> float:
    """Returns a number between 0 and 1.

    Raises:
        InvalidRequest: It is not one, or NaN.
    """
    if not isinstance(value, Real) or not 0.0 <= value <= 1.0:
        raise InvalidRequest(f"{what} is {value!r:.40}.", hint="Give a number from 0 to 1.")
    return float(value)


def checked_outcome(value: float) -> float:
    """Returns a number between -1 and 1.

    Raises:
        InvalidRequest: It is not one, or NaN.
    """
    if not isinstance(value, Real) or not -1.0 <= value <= 1.0:
        raise InvalidRequest(
            f"The outcome is {value!r:.40}.", hint="Give a number from -1 (misled) to 1 (helped)."
        )
    return float(value)


def checked_tier(tier: str) -> str:
    """Returns the tier.

    Raises:
        InvalidRequest: There is no such tier.
    """
    if tier not in TIERS:
        raise InvalidRequest(f"{tier!r:.82} is no tier.", hint=f"Use one of {', '.join(TIERS)}.")
    return tier


def checked_moment(moment: datetime, what: str) -> datetime:
    """Returns a time in UTC.

    Raises:
        InvalidRequest: It is no time with a zone, or more than a century ahead.
    """
    if not isinstance(moment, datetime) or moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidRequest(
            f"{what} is {moment!s:.40}, which is no time with a zone.",
            hint="Give a datetime with a time zone, for example of UTC.",
        )
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:
        raise InvalidRequest(f"{what} is before the year 1 or after 9999 in UTC.") from None
    if utc > datetime.now(UTC) + _HORIZON:
        raise InvalidRequest(
            f"{what} is {utc.date().isoformat()}, more than a century ahead.",
            hint="Check the year.",
        )
    return utc


def checked_value(value: str, what: str) -> str:
    """Returns what a stored text is compared with.

    Raises:
        InvalidRequest: It is no text, or holds what no stored text holds.
    """
    if not isinstance(value, str) or _UNSTORABLE.search(value):
        raise InvalidRequest(
            f"{value!r:.82} can be no {what}.", hint="Send it as UTF-8 text without NUL."
        )
    return value


def possible_id(id: object) -> bool:
    """Says whether something could be the id of a memory or an experience."""
    return isinstance(id, str) and not _UNSTORABLE.search(id)


def checked_ids(ids: Iterable[str]) -> list[str]:
    """Returns ids, each once, in order.

    Raises:
        InvalidRequest: There are none, or too many.
    """
    if not isinstance(ids, Iterable):
        raise InvalidRequest(f"{ids!r:.82} is no list of ids.", hint="Put the ids into a list.")
    chosen = list(dict.fromkeys([ids] if isinstance(ids, str) else ids))
    if not 1 <= len(chosen) <= _MAX_IDS:
        raise InvalidRequest(f"{len(chosen)} ids were given.", hint=f"Give 1 to {_MAX_IDS:,}.")
    return chosen


def checked_draft(draft: Draft) -> Draft:
    """Returns a draft with every field in bounds, its tier chosen and its times in UTC.

    Raises:
        InvalidRequest: The first field that does not fit, by name.
    """
    tier = draft.tier
    if tier is None:
        tier = "short_term" if draft.task is None else "working"
    if checked_tier(tier) == "working" and draft.task is None:
        raise InvalidRequest("A working memory belongs to a task.", hint="Give `task`, a run's id.")
    turn = draft.turn
    if turn is not None and not (isinstance(turn, Integral) and 0 <= turn < 2**31):
        raise InvalidRequest(f"The turn is {turn!r:.40}.", hint="Count turns from 0.")
    mark = draft.importance
    checked: dict[str, Any] = {
        name: _optional(getattr(draft, name), name, limit) for name, limit in _LENGTHS
    }
    return replace(
        draft,
        text=checked_text(draft.text, "text"),
        kind=checked_name(draft.kind, "kind"),
        tier=tier,
        agent=None if draft.agent is None else checked_name(draft.agent, "codename"),
        tags=checked_tags(draft.tags),
        importance=None if mark is None else checked_share(mark, "The importance"),
        **checked,
        **_moments(draft),
    )


def _optional(text: str | None, what: str, limit: int) -> str | None:
    return None if text is None else checked_text(text, what, limit)


def _moments(draft: Draft) -> dict[str, Any]:
    moments = {
        name: None if value is None else checked_moment(value, f"`{name}`")
        for name, value in (
            ("happened", draft.happened),
            ("valid_from", draft.valid_from),
            ("valid_until", draft.valid_until),
        )
    }
    begins, ends = moments["valid_from"], moments["valid_until"]
    if begins and ends and ends <= begins:
        raise InvalidRequest(
            "`valid_until` is not after `valid_from`.", hint="Swap the two times, or leave one out."
        )
    return moments


def checked_seconds(seconds: float) -> float:
    """Returns how long something may take.

    Raises:
        InvalidRequest: It is negative or no number.
    """
    if not 0 <= seconds < math.inf:
        raise InvalidRequest(f"The time is {seconds}.", hint="Give a number of seconds.")
    return seconds


def checked_limit(limit: int) -> int:
    """Returns how many results to give.

    Raises:
        InvalidRequest: It is not from 1 to 1,000.
    """
    if not isinstance(limit, Integral) or not 1 <= limit <= _MAX_LIMIT:
        raise InvalidRequest(
            f"The limit is {limit!r:.40}.", hint=f"Give a number from 1 to {_MAX_LIMIT}."
        )
    return limit
