"""Best of n: candidates one after another until one passes its checks.

    first     greedy
    second …  drawn at a temperature, each with a seed of its own
    third     greedy again, shown what the best one so far fails on

What all candidates are asked with is the same, and in the engine's cache, so each one costs its own
tokens alone. Where none passes, the best is the one with the most checks that held; of equals, the
one whose results most others agree with (Shi et al., "Natural Language to Code Translation with
Execution", 2022), then the earliest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ryzanstein.agents.verification.checks import Check

__all__ = ["Candidate", "Plan", "agreement", "best_of", "plans"]

T = TypeVar("T")
# Which candidate is shown the failures of those before it.
REFLECTS = 2
# What so many draws did not find is sought further away.
WIDER_FROM, WIDER = 16, 1.25


@dataclass(frozen=True, slots=True)
class Plan:
    """How one candidate is made.

    Attributes:
        number: Its place, from 0.
        temperature: 0 is greedy.
        seed: Of the draw.
        reflects: It is shown what failed.
    """

    number: int
    temperature: float = 0.0
    seed: int = 0
    reflects: bool = False


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """One answer and what its checks said."""

    value: T
    checks: tuple[Check, ...]
    plan: Plan

    @property
    def passed(self) -> int:
        """How many checks held."""
        return sum(check.passed is True for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """The checks that did not."""
        return [check for check in self.checks if check.passed is False]

    @property
    def holds(self) -> bool:
        """Whether something was checked and nothing failed."""
        return self.passed > 0 and not self.failed


Make = Callable[[Plan, Candidate[T] | None], Awaitable[T | None]]
Test = Callable[[T], Awaitable[Sequence[Check]]]


def plans(n: int, temperature: float) -> list[Plan]:
    """How n candidates are made; without a temperature only greedy ones, which are two."""
    if temperature <= 0:
        n = min(n, 2)
    made = [Plan(0)]
    for number in range(1, n):
        if number == min(REFLECTS, n - 1):
            made.append(Plan(number, reflects=True))
        else:
            heat = temperature * (WIDER if number >= WIDER_FROM else 1.0)
            made.append(Plan(number, heat, seed=number))
    return made


async def best_of(
    make: Make[T], test: Test[T], planned: Sequence[Plan], enough: int = 1
) -> list[Candidate[T]]:
    """Makes candidates until enough of them hold, and returns all, the best first.

    Args:
        make: Makes one, given its plan and the best candidate so far; None ends the search.
        test: Checks one.
        planned: From `plans`; at least one.
        enough: How many have to hold before the search ends.
    """
    found: list[Candidate[T]] = []
    for plan in planned:
        best = max(found, key=lambda one: one.passed, default=None)
        value = await make(plan, best)
        if value is None:
            break
        found.append(Candidate(value, tuple(await test(value)), plan))
        if sum(one.holds for one in found) >= enough:
            break
    return sorted(found, key=lambda one: (one.holds, one.passed), reverse=True)


def agreement(values: Sequence[Sequence[str]]) -> list[float]:
    """How much each candidate's results are those of the others, 0 to 1.

    Args:
        values: For each candidate its result of every input, "" where there is none.

    Returns:
        The mean over inputs of the share of all candidates that gave the same; an error counts as
        no result.
    """
    if not values or not values[0]:
        return [0.0] * len(values)
    counts = [Counter(column) for column in zip(*values, strict=True)]
    return [
        sum(
            count[value] / len(values)
            for value, count in zip(row, counts, strict=True)
            if value and not value.startswith("!")
        )
        / len(row)
        for row in values
    ]
