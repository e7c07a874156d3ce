"""Which of the experiences found for a task are worth telling: the one or two most useful.

    usefulness = relevance and outcome (as searched)
               + 0.75 for a breakthrough of the asking agent's tier, on a task like this one
               + 0.25 for another run of a strategy whose breakthrough stands

Of those that say the same, same strategy and same end, one is told. A breakthrough of the tier is
always among them; else a failure on a task like this one is, since it warns. More of them crowd a
small model's prompt, and one or two worked best where it was measured (ReasoningBank, 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ryzanstein.memory.experience_fields import NO_REASON
from ryzanstein.memory.insight import ALIKE
from ryzanstein.memory.records import Experience, ExperienceHit, Reason

__all__ = ["lifted", "useful"]

_BREAKTHROUGH = 0.75
_STRATEGY = 0.25


def lifted(hit: ExperienceHit, tier: int | None, strategies: Iterable[str | None]) -> ExperienceHit:
    """Adds to a hit what breakthroughs and failures say of it.

    Args:
        hit: As searched.
        tier: The asking agent's.
        strategies: Keys of the strategies whose breakthroughs near the task stand.
    """
    one, reasons = hit.experience, list(hit.reasons)
    if _standing(one):
        whom = (
            f", for every agent of tier {one.tier}" if tier is not None and _of(hit, tier) else ""
        )
        detail = f"breakthrough, {one.breakthrough:.1f} deviations above runs like it{whom}"
        reasons.append(Reason("breakthrough", detail, _BREAKTHROUGH if _near(hit) else 0.0))
    elif one.refuted:
        reasons.append(Reason("refuted", "a breakthrough that later runs refuted", 0.0))
    if not _standing(one) and one.strategy_key is not None and one.strategy_key in strategies:
        reasons.append(Reason("strategy", "strategy of a breakthrough", _STRATEGY))
    if _warns(hit):
        reasons.append(Reason("warning", f"failed: {_why(one)}"[:300], 0.0))
    return replace(hit, score=sum(reason.weight for reason in reasons), reasons=tuple(reasons))


def useful(hits: Sequence[ExperienceHit], tier: int | None, limit: int) -> list[ExperienceHit]:
    """The most useful of lifted hits, best first."""
    ranked = sorted(hits, key=lambda hit: -hit.score)
    told: dict[object, ExperienceHit] = {}
    for hit in ranked:
        told.setdefault(_says(hit.experience), hit)
    chosen = list(told.values())[:limit]
    chosen += [hit for hit in ranked if hit not in chosen][: limit - len(chosen)]
    if limit > 1 and not _brought_in(chosen, ranked, lambda hit: _of(hit, tier)):
        _brought_in(chosen, ranked, _warns)
    return sorted(chosen, key=lambda hit: -hit.score)


def _brought_in(
    chosen: list[ExperienceHit],
    ranked: Sequence[ExperienceHit],
    wanted: Callable[[ExperienceHit], bool],
) -> bool:
    """Puts the best wanted hit in the last place, unless one is there; says whether one is."""
    if any(wanted(hit) for hit in chosen):
        return True
    best = next((hit for hit in ranked if wanted(hit)), None)
    if best is not None:
        chosen[-1] = best
    return best is not None


def _says(one: Experience) -> object:
    """What a hit tells; two of the same tell it twice."""
    return one.id if one.strategy_key is None else (one.strategy_key, one.outcome == "failed")


def _standing(one: Experience) -> bool:
    return one.breakthrough is not None and not one.refuted


def _near(hit: ExperienceHit) -> bool:
    return hit.similarity >= ALIKE


def _of(hit: ExperienceHit, tier: int | None) -> bool:
    """Whether it is a breakthrough of a tier on a task like this one."""
    one = hit.experience
    return _standing(one) and _near(hit) and tier is not None and one.tier == tier


def _warns(hit: ExperienceHit) -> bool:
    one = hit.experience
    return one.outcome == "failed" and _near(hit) and bool(_why(one))


def _why(one: Experience) -> str:
    """Returns what is known of a failure."""
    if one.lesson and one.reason.startswith(NO_REASON):
        return one.lesson
    return (one.reason if one.reason != NO_REASON else "") or one.lesson
