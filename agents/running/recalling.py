"""What memory gives a run, and what the run gives back: how far what was recalled helped.

    recall     facts and at most two past tasks like this one, into the prompt
    feed back  the run's checks passed: what was recalled helped; they failed: it misled

A fact's rating goes into its standing, an experience's into its fitness. A person's word weighs
more than a run: a rating that is there already moves only a quarter of the way. What warned of a
failure is not rated, since it is no strategy to be praised or blamed.
"""

from __future__ import annotations

from typing import Any

from ryzanstein.agents.running import experience
from ryzanstein.agents.running.run import Run
from ryzanstein.errors import RyzansteinError

__all__ = ["feed_back", "recall"]

FACTS = 2
# Source of what a run remembered after it had read text from outside.
OUTSIDE = "outside"
HELPED, MISLED = 0.8, 0.2
MOVES = 0.25


async def recall(run: Run) -> None:
    """Finds facts and past tasks for the run; a memory that fails leaves it without them."""
    try:
        facts = await run.services.recall(run.task, limit=FACTS)
        hits = await run.services.find_experiences(
            run.task, tier=run.profile.tier, limit=experience.MOST
        )
    except RyzansteinError as error:
        await run.failed(f"Nothing was recalled: {error}")
        facts, hits = [], []
    near = experience.chosen(facts, experience.LEAST_FACT_SIMILARITY)
    alike = experience.chosen(hits)
    run.facts = [fact["text"] for fact in near]
    run.told = bool(near) and _told(near[0])
    run.reminders = [experience.reminder(hit) for hit in alike]
    run.used = [*alike, *map(experience.as_used, near)]
    ids = [one["id"] for one in run.used]
    await run.tell("recall", f"{len(alike)} past tasks and {len(near)} facts fit", used=ids)


def _told(fact: dict[str, Any]) -> bool:
    """Whether a fact is near enough to be the answer, and no text from outside said it."""
    near = fact.get("similarity", 0.0) >= experience.TOLD_SIMILARITY
    return near and fact.get("source") != OUTSIDE


async def feed_back(run: Run, verified: bool | None) -> None:
    """Rates what was recalled by how the run went; nothing where nothing could be checked."""
    if verified is None:
        return
    for one in run.used:
        rating = _rating(one, verified)
        if rating is None:
            continue
        try:
            await run.services.rate_experience(str(one["id"]), rating)
        except RyzansteinError as error:
            await run.failed(f"What was recalled could not be rated: {error}")
            return


def _rating(one: dict[str, Any], verified: bool) -> float | None:
    """The new rating of something that was recalled; None where it is not to be rated."""
    said = HELPED if verified else MISLED
    if one["outcome"] == "fact":
        return said
    if one["outcome"] == "failed":
        return None
    old = one.get("rating")
    return said if old is None else round(old + MOVES * (said - old), 4)
