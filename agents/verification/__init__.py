"""Checks of an answer that need no trust in the model, and the search for one that passes them.

code          the task's examples, or asserts written before the code, run in the sandbox
mathematics   arithmetic done again, solutions put into their equations        exact arithmetic
logic         a stated solution against the constraints                        z3
data          JSON and CSV that a task asks for                                schema and shape
"""

from __future__ import annotations

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.verification.checks import Check
from ryzanstein.agents.verification.data import check_data
from ryzanstein.agents.verification.logic import check_constraints
from ryzanstein.agents.verification.mathematics import check_arithmetic, check_solutions

__all__ = ["verify"]


async def verify(services: Services, task: str, answer: str) -> list[Check]:
    """Checks whatever of an answer can be checked without running code that it contains."""
    return [
        *await check_arithmetic(services, answer),
        *await check_solutions(services, task, answer),
        *await check_constraints(services, task, answer),
        *check_data(task, answer),
    ]
