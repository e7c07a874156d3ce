"""Checks of the mathematics in an answer: arithmetic done again, solutions put into equations.

Everything is calculated exactly by the tools server; nothing here trusts a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.verification.checks import Check, numbers, same
from ryzanstein.agents.verification.statements import Relation, relations, values

__all__ = ["check_arithmetic", "check_solutions"]

MOST_EQUATIONS = 3
MOST_VALUES = 4
_EQUATION = re.compile(
    r"(?<![\w.])((?:\(?-?\d[\d,]*(?:\.\d+)?\)?\s*(?:[-+*/×÷^]|\*\*)\s*)+\(?-?\d[\d,]*(?:\.\d+)?\)?)"
    r"\s*=\s*(-?\d[\d,]*(?:\.\d+)?)"
)
_TOLERANCE = 1e-6


async def check_arithmetic(services: Services, answer: str) -> list[Check]:
    """Does every equation of numbers in the answer again; at most MOST_EQUATIONS."""
    checks = []
    for expression, stated in _EQUATION.findall(answer)[:MOST_EQUATIONS]:
        plain = expression.replace(",", "").replace("×", "*").replace("÷", "/").replace("^", "**")
        outcome = await services.call_tool("evaluate_expression", {"expression": plain})
        found = numbers(outcome.text) if outcome.ok else []
        if found:
            held = any(same(value, stated) for value in found)
            checks.append(
                Check(f"{expression.strip()} = {stated}", held, outcome.text.strip()[:100])
            )
    return checks


async def check_solutions(services: Services, task: str, answer: str) -> list[Check]:
    """Puts the values an answer states for the only unknown of an equation into it.

    Equations with one unknown each; systems and inequalities are the business of `logic`.
    """
    checks = []
    for equation in relations(task)[:MOST_EQUATIONS]:
        if equation.sign != "==" or len(equation.names) != 1:
            continue
        (name,) = equation.names
        for value in values(answer, name)[:MOST_VALUES]:
            check = await _substituted(services, equation, name, value)
            if check is not None:
                checks.append(check)
    return checks


async def _substituted(
    services: Services, equation: Relation, name: str, value: str
) -> Check | None:
    """Whether both sides are the same, up to what the stated decimals leave open; None: unclear."""
    left, right = (equation.put(side, {name: value}) for side in equation.sides)
    sides = await _numbers(services, [left, right])
    if sides is None:
        return None
    miss = abs(sides[0] - sides[1])
    decimals = len(value.partition(".")[2])
    allowed = _TOLERANCE * max(1.0, abs(sides[1]))
    if decimals:
        # How far the difference of the sides moves within the last decimal that is stated.
        step = 0.5 * 10.0**-decimals
        ends = [f"({value} + {step})", f"({value} - {step})"]
        moved = await _numbers(
            services,
            [f"({equation.put(equation.difference, {name: end})})" for end in ends],
        )
        if moved is None:
            return None
        allowed = max(allowed, *(abs(one - (sides[0] - sides[1])) for one in moved))
    return Check(
        f"{equation.text} with {name} = {value}",
        miss <= allowed,
        f"{sides[0]:.10g} and {sides[1]:.10g}",
    )


async def _numbers(services: Services, expressions: Sequence[str]) -> list[float] | None:
    found = []
    for expression in expressions:
        outcome = await services.call_tool("evaluate_expression", {"expression": expression})
        said = numbers(outcome.text.splitlines()[-1]) if outcome.ok and outcome.text else []
        if len(said) != 1:
            return None
        found.append(said[0])
    return found
