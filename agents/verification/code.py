"""Checks of Python code, by running it in the sandbox.

Each assert runs by itself, so that one wrong assert does not hide what the others say, and a failed
one says what the code returned instead. Several programs share one start of the sandbox, in which
each has a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.verification.checks import RUNS, Check, last_line

__all__ = ["Trial", "run_asserts", "run_programs"]

SECONDS = 2.0
_MOST_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Trial:
    """What one program did.

    Attributes:
        checks: That it runs, then one for each assert.
        values: What each call gave, as text; "!" and the error's name where it raised one, ""
            where the program did not come so far.
    """

    checks: tuple[Check, ...]
    values: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether the program itself ran to its end."""
        return bool(self.checks and self.checks[0].passed)


async def run_asserts(services: Services, code: str, asserts: Sequence[str]) -> list[Check]:
    """Runs code, then each assert by itself; the first check is that it runs."""
    found = await run_programs(services, [code], asserts)
    return list(found[0].checks)


async def run_programs(
    services: Services,
    programs: Sequence[str],
    asserts: Sequence[str],
    calls: Sequence[str] = (),
    *,
    seconds: float = SECONDS,
) -> list[Trial]:
    """Runs every program with the same asserts and calls, in one start of the sandbox.

    Args:
        services: Reaches the tools server.
        programs: Python source; each runs in a process of its own.
        asserts: What has to hold after a program.
        calls: Expressions whose values are wanted after a program.
        seconds: For a program, and for an assert.
    """
    # Unguessable, so that the code cannot print a report of its own.
    mark = f"@@{secrets.token_hex(8)} "
    payload = {
        "mark": mark,
        "programs": list(programs),
        "asserts": list(asserts),
        "calls": list(calls),
        "seconds": seconds,
    }
    longest = int((3 * seconds + 1) * len(programs)) + 2
    outcome = await services.call_tool(
        "run_python",
        {
            "code": f"{_harness()}\nmain({json.dumps(payload)!r})\n",
            "seconds": min(_MOST_SECONDS, longest),
        },
    )
    data = outcome.data or {}
    if "stdout" not in data:
        # The tool refused: that says nothing about the code.
        refused = Check(RUNS, None, last_line(outcome.text))
        return [Trial((refused,), ("",) * len(calls)) for _ in programs]
    printed = data["stdout"]
    reports = _reports(printed, mark)
    stopped = last_line(outcome.text)
    return [_trial(reports.get(number), asserts, calls, stopped) for number in range(len(programs))]


def _reports(printed: str, mark: str) -> dict[int, list[Any]]:
    """What is said of each program, by its number; a report that was cut off is left out."""
    found: dict[int, list[Any]] = {}
    for line in printed.splitlines():
        if line.startswith(mark):
            with contextlib.suppress(ValueError):
                number, said = json.loads(line.removeprefix(mark))
                found[number] = said
    return found


@cache
def _harness() -> str:
    folder = importlib.resources.files("ryzanstein.agents.verification")
    return folder.joinpath("harness.py").read_text(encoding="utf-8")


def _trial(
    reports: list[Any] | None, asserts: Sequence[str], calls: Sequence[str], stopped: str
) -> Trial:
    if not reports:
        said = "It ended before it could be checked." if reports == [] else stopped
        return Trial((Check(RUNS, False, said),), ("",) * len(calls))
    checks = [Check(*report) for report in reports[: 1 + len(asserts)]]
    if checks[0].passed:
        ended = "The code ended, or took too long, before this was reached."
        checks += [Check(source, False, ended) for source in asserts[len(checks) - 1 :]]
    values = [value for _, _, value in reports[1 + len(asserts) :]]
    values += [""] * (len(calls) - len(values))
    return Trial(tuple(checks), tuple(values))
