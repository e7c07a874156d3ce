"""Bounds of what an experience may hold; each fault is one InvalidRequest with what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

from ryzanstein.errors import InvalidRequest
from ryzanstein.memory.checks import checked_text, cleaned
from ryzanstein.memory.records import OUTCOMES, Experience, Lesson

__all__ = [
    "NO_REASON",
    "checked_cost",
    "checked_lesson",
    "checked_tier",
    "flattened",
    "known_outcome",
    "known_reason",
]

NO_REASON = "no reason was given"

# Words that were used before outcomes said how they are known.
_FORMER_OUTCOMES = {"success": "verified", "failure": "failed", "unverified": "unknown"}


def known_outcome(word: str) -> str:
    """Returns the outcome; the former words success, failure and unverified are taken too.

    Raises:
        InvalidRequest: It is none, for instance of a run that is still going or was cancelled.
    """
    outcome = _FORMER_OUTCOMES.get(word, word)
    if outcome not in OUTCOMES:
        raise InvalidRequest(
            f"{word!r} is no outcome of a finished run.", hint=f"Use one of {', '.join(OUTCOMES)}."
        )
    return outcome


def known_reason(one: Experience) -> str:
    """Returns why it failed, or else that nobody said why, and its last step."""
    if one.reason or one.outcome != "failed":
        return one.reason
    return f"{NO_REASON}; the last step was: {one.steps[-1]}" if one.steps else NO_REASON


def checked_cost(cost: float) -> float:
    """Returns tokens or seconds.

    Raises:
        InvalidRequest: They are no number, negative, NaN or without end.
    """
    if not isinstance(cost, Real) or not 0.0 <= cost < float("inf"):
        raise InvalidRequest("Tokens and seconds cannot be negative or without end.")
    return cost


def checked_tier(tier: int | None) -> int | None:
    """Returns an agent's tier.

    Raises:
        InvalidRequest: It is below 1.
    """
    if tier is not None and tier < 1:
        raise InvalidRequest(f"The tier is {tier}.", hint="Tiers of agents are counted from 1.")
    return tier


def checked_lesson(given: Lesson | Mapping[str, str]) -> Lesson:
    """Returns a lesson, cleaned.

    Raises:
        InvalidRequest: It has no title, or other parts than a lesson has.
    """
    if isinstance(given, Mapping):
        unknown = set(given) - set(Lesson.__slots__)
        if unknown or "title" not in given:
            raise InvalidRequest(
                "A lesson has a title, a description and a content.",
                hint=f"Leave out {', '.join(sorted(unknown))}." if unknown else "Give it a title.",
            )
        given = Lesson(**{"description": "", "content": "", **given})
    title = checked_text(cleaned(given.title), "lesson's title")
    return Lesson(title, cleaned(given.description), cleaned(given.content))


def flattened(lesson: str, lessons: Sequence[Lesson]) -> str:
    """All that was learnt as one text, for the full text search."""
    told = [(one.title, f"{one.description} {one.content}".strip()) for one in lessons]
    texts = [f"{title}: {rest}" if rest else title for title, rest in told]
    return "\n".join(dict.fromkeys(filter(None, (lesson, *texts))))
