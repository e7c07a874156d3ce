"""Checks of a stated solution against the constraints of a task, by z3."""

from __future__ import annotations

import re
from typing import Any

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.verification.checks import Check
from ryzanstein.agents.verification.statements import Relation, assignments, relations

__all__ = ["check_constraints"]

_NONE = re.compile(
    r"\b(no (?:\w+ )?solutions?|unsatisfiable|cannot (?:all )?be satisfied|"
    r"contradict(?:s|ory|ion)?|impossible|inconsistent)\b",
    re.I,
)
_WHOLE = re.compile(r"\b(integers?|whole numbers?|natural numbers?|digits?)\b", re.I)
_POSITIVE = re.compile(r"\bpositive\b", re.I)
_DISTINCT = re.compile(r"\b(distinct|(?:all )?different)\b", re.I)


async def check_constraints(services: Services, task: str, answer: str) -> list[Check]:
    """Puts the values an answer states into all constraints of the task at once.

    Where the answer says that there is no solution, whether there is one. Nothing is checked where
    the task has no constraints on several unknowns, or the answer leaves one of them open.
    """
    found = relations(task)
    names = tuple(sorted({name for one in found for name in one.names}))
    if len(names) < 2 and all(one.sign == "==" for one in found):
        return []
    if not found:
        return []
    stated = assignments(answer, names)
    if stated is None:
        return await _no_solution(services, task, names, found) if _NONE.search(answer) else []
    fixed = [f"{name} == {value}" for name, value in stated.items()]
    data = await _solved(
        services, "\n".join([_declared(task, names), *_lines(task, found), *fixed])
    )
    if data is None or data.get("status") not in {"sat", "unsat"}:
        return []
    held = data["status"] == "sat"
    said = ", ".join(f"{name} = {value}" for name, value in stated.items())
    against = "" if held else "; ".join(map(str, data.get("core", ())))[:300]
    return [Check(f"{said} satisfies the constraints", held, against)]


async def _no_solution(
    services: Services, task: str, names: tuple[str, ...], found: list[Relation]
) -> list[Check]:
    data = await _solved(services, "\n".join([_declared(task, names), *_lines(task, found)]))
    if data is None or data.get("status") not in {"sat", "unsat"}:
        return []
    held = data["status"] == "unsat"
    solutions = [] if held else list(data.get("solutions", ()))
    return [Check("there is no solution", held, str(solutions[0]) if solutions else "")]


def _declared(task: str, names: tuple[str, ...]) -> str:
    return f"{', '.join(names)}: {'int' if _WHOLE.search(task) else 'real'}"


def _lines(task: str, found: list[Relation]) -> list[str]:
    lines = [str(one) for one in found]
    names = sorted({name for one in found for name in one.names})
    if _POSITIVE.search(task) and _WHOLE.search(task):
        lines += [f"{name} > 0" for name in names]
    if _DISTINCT.search(task) and len(names) > 1:
        lines.append(f"distinct({', '.join(names)})")
    return lines


async def _solved(services: Services, constraints: str) -> dict[str, Any] | None:
    outcome = await services.call_tool("solve_constraints", {"constraints": constraints})
    return dict(outcome.data) if isinstance(outcome.data, dict) else None
