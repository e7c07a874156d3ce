"""Who stays in which tier: plain functions of plain values, without a database.

    importance  = mark, or a start raised by novelty; then use, repetition and outcome
    strength    = importance · 2^(-age / half-life of the tier)
    retention   = log2(importance) + last touch / half-life

Every part of the importance moves it a share of the way that is left to 1 or to 0, so the parts
add up and it stays within bounds. Retention is forward decay (Cormode et al., 2009): it orders the
memories of a tier by their strength at every later time, so it is stored and indexed once per
change, and finding the weakest of a million costs a look into an index. That needs one half-life
for a whole tier; what a memory has proved is in its importance instead.

    leaves         when                        goes to
    working        its task ended, or faded    short_term if it earned it, else the archive
    short_term     more than 100               long_term if worth keeping, else the archive
    long_term      more than 10,000            the archive
    short_term     used or repeated 3 times    long_term (promoted)
    long_term      using it misled             short_term (demoted: it has to prove itself anew)

Nothing here deletes, and what was marked 1.0 is never moved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime

from ryzanstein.memory.records import Memory, Reason

__all__ = [
    "FADED",
    "HALF_LIFE",
    "ROOM",
    "Move",
    "after_use",
    "blended_outcome",
    "excess",
    "faded_below",
    "importance",
    "importance_parts",
    "leaves",
    "retention",
    "strength",
    "strength_parts",
    "touched",
    "weighed",
]

_DAY = 86_400.0
# Seconds after which a memory that nobody touches has half its strength.
HALF_LIFE = {
    "working": _DAY / 12,
    "short_term": _DAY,
    "long_term": 90 * _DAY,
    "episodic": 365 * _DAY,
    "semantic": 730 * _DAY,
}
ROOM = {"short_term": 100, "long_term": 10_000}
# Room is made for this share of a tier at once: most writes then only count.
_SLACK = {"short_term": 10, "long_term": 100}
# A working memory whose task never ended goes once it is this weak: after some ten hours.
FADED = 0.01

_START = 0.4
_NOVEL = 0.3
_USED, _USES_HALF = 0.6, 5
_REPEATED, _REPEATS_HALF = 0.5, 4
_HELPED, _MISLED = 0.5, 0.8
_WORTH_KEEPING = 0.3
_WORTH_A_LOOK = 0.5
_EARNED = 3
_MISLEADING = -0.5
_NEWEST_OUTCOME = 0.5
_LEAST = 2.0**-20  # the logarithm wants more than nothing


@dataclass(frozen=True, slots=True)
class Move:
    """A change of tier; `tier` None means the archive."""

    tier: str | None
    action: str
    reason: str


def importance(
    mark: float | None, novelty: float, uses: int, reinforced: int, outcome: float
) -> float:
    """Returns how much a memory matters, 0 to 1, whatever its age.

    Args:
        mark: What somebody said it is, 0 to 1; None where nobody did.
        novelty: 0 to 1; counts where there is no mark.
        uses: How often it was found or used.
        reinforced: How often it was remembered again.
        outcome: -1 (using it misled) to 1 (it helped).
    """
    parts = importance_parts(mark, novelty, uses, reinforced, outcome)
    return min(1.0, max(0.0, sum(part.weight for part in parts)))


def importance_parts(
    mark: float | None, novelty: float, uses: int, reinforced: int, outcome: float
) -> tuple[Reason, ...]:
    """Returns what the importance adds up from; the parts that are zero are left out."""
    if mark is not None:
        parts = [Reason("mark", f"marked {mark:.2f}", mark)]
    else:
        parts = [
            Reason("start", "not marked", _START),
            Reason("novelty", f"novelty {novelty:.2f}", (1 - _START) * _NOVEL * novelty),
        ]
    value = sum(part.weight for part in parts)
    for kind, detail, share in (
        ("use", f"used {uses} times", _USED * uses / (uses + _USES_HALF)),
        (
            "repetition",
            f"remembered again {reinforced} times",
            _REPEATED * reinforced / (reinforced + _REPEATS_HALF),
        ),
        ("outcome", f"outcome {outcome:+.2f}", outcome * (_HELPED if outcome > 0 else _MISLED)),
    ):
        weight = share * (1 - value if share > 0 else value)
        value += weight
        parts.append(Reason(kind, detail, weight))
    return tuple(part for part in parts if part.weight or part.kind == "mark")


def weighed(memory: Memory) -> Memory:
    """Returns a memory with the importance that its mark, novelty, use and outcome make."""
    value = importance(memory.mark, memory.novelty, memory.uses, memory.reinforced, memory.outcome)
    return replace(memory, importance=value)


def strength(importance: float, age: float, half_life: float) -> float:
    """Returns the importance after decay.

    Args:
        importance: 0 to 1.
        age: Seconds since the memory was stored, changed or last used; below 0 counts as 0.
        half_life: Seconds, above 0.
    """
    return float(importance * 2.0 ** (-max(age, 0.0) / half_life))


def strength_parts(memory: Memory, now: datetime) -> tuple[Reason, ...]:
    """Returns what a memory's strength adds up from: its importance's parts, and its age."""
    parts = importance_parts(
        memory.mark, memory.novelty, memory.uses, memory.reinforced, memory.outcome
    )
    whole = sum(part.weight for part in parts)
    age = max((now - touched(memory)).total_seconds(), 0.0)
    lost = strength(whole, age, HALF_LIFE[memory.tier]) - whole
    days = HALF_LIFE[memory.tier] / _DAY
    detail = f"untouched for {age / _DAY:.2g} days, halves in {days:.2g}"
    return (*parts, Reason("age", detail, lost))


def touched(memory: Memory) -> datetime:
    """Returns when a memory was last stored, changed or used."""
    return max(memory.updated, memory.last_used or memory.updated)


def retention(memory: Memory) -> float | None:
    """Returns what orders a memory among those of its tier; None where no policy moves it."""
    pinned = memory.mark is not None and memory.mark >= 1.0
    bounded = memory.tier in ROOM or memory.tier == "working"
    if pinned or not bounded or memory.archived or memory.superseded_by:
        return None
    age = touched(memory).timestamp() / HALF_LIFE[memory.tier]
    return math.log2(max(memory.importance, _LEAST)) + age


def faded_below(tier: str, now: datetime) -> float:
    """Returns the retention below which the strength is less than FADED."""
    return math.log2(FADED) + now.timestamp() / HALF_LIFE[tier]


def excess(tier: str, count: int) -> int:
    """Returns how many of a tier's weakest have to leave; 0 while there is room."""
    room = ROOM.get(tier)
    if room is None or count <= room:
        return 0
    return count - room + _SLACK[tier]


def leaves(memory: Memory, why: str) -> Move:
    """Returns where a memory goes that has to leave its tier.

    Args:
        memory: With its importance before decay.
        why: What happened: the tier is full, the task has ended.
    """
    proved = memory.uses + memory.reinforced > 0
    value = f"importance {memory.importance:.2f}"
    if memory.outcome <= _MISLEADING:
        return Move(None, "archived", f"{why}; using it misled: outcome {memory.outcome:+.2f}")
    if memory.tier == "working" and (proved or memory.importance >= _WORTH_A_LOOK):
        return Move("short_term", "promoted", f"{why}; {'it was used' if proved else value}")
    if memory.tier == "short_term" and memory.importance >= _WORTH_KEEPING:
        return Move("long_term", "promoted", f"{why}; worth keeping: {value}")
    return Move(None, "archived", f"{why}; among the weakest: {value}")


def after_use(memory: Memory) -> Move | None:
    """Returns where a memory goes for having been used, repeated or rated; None if it stays."""
    misled = memory.outcome <= _MISLEADING
    if memory.tier == "long_term" and misled:
        reason = f"using it misled: outcome {memory.outcome:+.2f}"
        return Move("short_term", "demoted", reason)
    if memory.tier == "short_term" and memory.uses + memory.reinforced >= _EARNED and not misled:
        reason = f"used {memory.uses} times, remembered again {memory.reinforced} times"
        return Move("long_term", "promoted", reason)
    return None


def blended_outcome(before: float, now: float) -> float:
    """Returns the outcome after one more; the newest counts for half, so opinions can change."""
    return before + _NEWEST_OUTCOME * (now - before)
