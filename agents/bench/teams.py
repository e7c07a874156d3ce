"""Teams against one agent on twenty tasks of several parts: parts right, tasks right, cost.

Both get the same tasks, tools, model and limits. A task is solved where every part of it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from ryzanstein.agents.bench.intervals import difference, mcnemar, wilson
from ryzanstein.agents.bench.team_scene import make_scene
from ryzanstein.agents.bench.team_tasks import TASKS, TeamTask
from ryzanstein.errors import RyzansteinError

__all__ = ["Ask", "measure"]

# Gives a task to a team, or to one agent where the team is None; returns the result as JSON.
Ask = Callable[[str, str | None], Awaitable[dict[str, Any]]]
_Said = Callable[[str], None]
# The numbers of a list are no results.
_NUMBERING = re.compile(r"^\s*\d{1,2}[.)]\s", re.M)


async def measure(
    ask: Ask, fresh: Callable[[], Path], *, limit: int | None = None, say: _Said | None = None
) -> dict[str, Any]:
    """Gives every task to one agent and to a team.

    Args:
        ask: Gives a task away.
        fresh: Makes an empty folder and store for the next task, and returns the folder.
        limit: How many tasks; None takes all.
        say: Hears a line a task.

    Returns:
        tasks, and for `one` and `team`: parts right, tasks right, their confidence intervals,
        tokens and seconds; the difference of both; every task's outcome.
    """
    tasks = TASKS[:limit]
    ways: dict[str, list[dict[str, Any]]] = {"one": [], "team": []}
    for task in tasks:
        for way, team in (("one", None), ("team", task.team)):
            home = fresh()
            make_scene(home)
            found = await _tried(task, team, ask, home)
            ways[way].append(found)
            if say is not None:
                say(
                    f"{task.id:22}{way:6}{found['right']}/{found['parts']} {found['seconds']:.1f} s"
                )
    return {
        "suite": "teams",
        "tasks": len(tasks),
        **{way: _summary(found) for way, found in ways.items()},
        "difference": _difference(ways["one"], ways["team"]),
        "outcomes": ways,
    }


async def _tried(task: TeamTask, team: str | None, ask: Ask, home: Path) -> dict[str, Any]:
    began = time.monotonic()
    fault = ""
    try:
        result = await ask(task.text, team)
    except RyzansteinError as error:
        result, fault = {}, str(error)
    answer = str(result.get("answer", ""))
    right = [check(_NUMBERING.sub("", answer), home) for check in task.checks]
    return {
        "id": task.id,
        "parts": len(right),
        "right": sum(right),
        "solved": all(right),
        "agents": [one["agent"] for one in result.get("parts", ())] or [result.get("agent", "")],
        "tokens": int(result.get("tokens", 0)),
        "seconds": round(time.monotonic() - began, 2),
        "fault": fault,
        "answer": answer[:600],
    }


def _summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    parts = sum(one["parts"] for one in found)
    right = sum(one["right"] for one in found)
    solved = sum(one["solved"] for one in found)
    return {
        "parts": parts,
        "parts_right": right,
        "share_of_parts": round(right / parts, 4) if parts else None,
        "parts_interval": wilson(right, parts),
        "tasks_solved": solved,
        "tasks_interval": wilson(solved, len(found)),
        "tokens": sum(one["tokens"] for one in found),
        "seconds": round(sum(one["seconds"] for one in found), 1),
    }


def _difference(one: Sequence[dict[str, Any]], team: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the shares of tasks solved, team minus one, paired by task."""
    before, after = ([bool(item["solved"]) for item in found] for found in (one, team))
    mean, low, high = difference(before, after)
    return {"tasks": mean, "interval": (low, high), "p": mcnemar(before, after)}
