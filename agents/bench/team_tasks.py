"""Twenty tasks of several parts, each part with a result that a program can check.

Independent parts, parts that need an earlier result, parts that write files, and reviews of code
with a known fault. The words of a task are fixed: where a team fails, the platform gets changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.agents.bench.team_scene import AMOUNTS, ERRORS
from ryzanstein.agents.verification.checks import close, numbers

__all__ = ["TASKS", "TeamTask"]

Check = Callable[[str, Path], bool]
_REVIEW = "code review"
_TOTAL = round(sum(amount for _, amount in AMOUNTS), 2)
_NORTH = round(sum(amount for region, amount in AMOUNTS if region == "north"), 2)


@dataclass(frozen=True, slots=True)
class TeamTask:
    """A task, one check a part on (answer, folder), and the team that takes it."""

    id: str
    text: str
    checks: tuple[Check, ...]
    team: str = "auto"


def _states(value: float) -> Check:
    return lambda answer, _: any(close(value, found) for found in numbers(answer))


def _says(pattern: str) -> Check:
    return lambda answer, _: bool(re.search(pattern, answer, re.I))


def _wrote(name: str, pattern: str) -> Check:
    def check(answer: str, home: Path) -> bool:
        path = home / name
        return path.is_file() and bool(re.search(pattern, path.read_text(encoding="utf-8"), re.I))

    return check


def _points_at(line: int) -> Check:
    return _says(rf"\bline:?\s*\**{line}\b")


TASKS = (
    TeamTask(
        "three-facts",
        "1. What is 17.5 % of 2,348?\n2. How many lines of app.log contain ERROR?\n"
        "3. Which port does server.ini set?",
        (_states(410.9), _states(ERRORS), _says("8472")),
    ),
    TeamTask(
        "shop-and-sum",
        "How many products are in the database shop.db? What is 23 * 47? "
        "Who is the maintainer in README.md?",
        (_says(r"\b(4|four)\b"), _states(1081), _says("Okafor")),
    ),
    TeamTask("chain", "First calculate 144 * 12, then divide the result by 9.", (_states(192),)),
    TeamTask(
        "sum-and-tax",
        "1. Calculate the sum of the column amount in sales.csv.\n2. Calculate 19 % of the result.",
        (_states(_TOTAL), _states(round(_TOTAL * 0.19, 2))),
    ),
    TeamTask(
        "customer-days-cache",
        "1. Which customer has the most orders in shop.db?\n"
        "2. How many days are there between 3 March 2024 and 17 August 2024?\n"
        "3. Which backend does the cache in server.ini use?",
        (_says(r"\bAda\b"), _states(167), _says("redis")),
    ),
    TeamTask(
        "write-and-multiply",
        "1. Write the text 'harbour opens at six' into the file open.txt.\n"
        "2. Calculate 37 * 89.\n3. Find the licence in README.md.",
        (_wrote("open.txt", "harbour opens at six"), _states(3293), _says("MPL")),
    ),
    TeamTask(
        "write-then-count",
        "1. Write the text 'one two three four five' into the file words.txt.\n"
        "2. Count the words in words.txt.",
        (_wrote("words.txt", "one two three four five"), _says(r"\b(5|five)\b")),
    ),
    TeamTask(
        "code-and-power",
        "1. Write a Python function gcd(a, b) that returns the greatest common divisor.\n"
        "2. What is 2 to the power of 40?",
        (_says(r"def gcd\("), _states(1099511627776)),
    ),
    TeamTask(
        "two-functions",
        "1. Write a Python function is_even(n) that says whether a number is even.\n"
        "2. Write a Python function reverse_words(text) that reverses the order of the words.",
        (_says(r"def is_even\("), _says(r"def reverse_words\(")),
    ),
    TeamTask(
        "budget-and-release",
        "What is the budget in meeting.md? Which month does the release move to? "
        "When was the first release in README.md?",
        (_says(r"14[,.]?000"), _says("June"), _says("2019")),
    ),
    TeamTask(
        "north-and-average",
        "1. Calculate the sum of the amounts of the region north in sales.csv.\n"
        "2. Find the price of the desk in shop.db.\n3. Calculate 15 * 17.",
        (_states(_NORTH), _states(180), _states(255)),
    ),
    TeamTask(
        "most-expensive",
        "1. Which product in shop.db is the most expensive?\n"
        "2. How many workers does server.ini set?\n3. Calculate the square root of 7056.",
        (_says("desk"), _says(r"\b(3|three)\b"), _states(84)),
    ),
    TeamTask(
        "interest",
        "Calculate 4 % interest on 1,250 euros for one year, and then add the result to 1,250.",
        (_states(1300),),
    ),
    TeamTask(
        "four-small",
        "1. Calculate 81 / 3.\n2. Calculate 19 * 19.\n3. Calculate 1000 - 387.\n"
        "4. Calculate 12 % of 650.",
        (_states(27), _states(361), _states(613), _states(78)),
    ),
    TeamTask(
        "warnings-and-orders",
        "1. Count the orders in shop.db.\n2. Count the lines of sales.csv.\n"
        "3. Find the ttl_seconds in server.ini.",
        (_says(r"\b(6|six)\b"), _says(r"\b(6|six)\b"), _states(900)),
    ),
    TeamTask(
        "equation-and-prime",
        "1. Solve 3*x + 7 = 40 for x.\n2. Is 104729 a prime number?\n3. Calculate 45 * 46.",
        (_says(r"\b11\b"), _says(r"\b(yes|is (a )?prime)\b"), _states(2070)),
    ),
    TeamTask("review-average", "Review average.py: what is wrong?", (_points_at(5),), _REVIEW),
    TeamTask("review-login", "Review login.py: is it safe?", (_points_at(7),), _REVIEW),
    TeamTask("review-default", "Review items.py: find the faults.", (_points_at(1),), _REVIEW),
    TeamTask(
        "review-index", "Review items.py: which line raises an error?", (_points_at(9),), _REVIEW
    ),
)
