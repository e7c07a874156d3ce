"""GSM8K: word problems; a chain of thought against programs that are run and vote.

    direct     one greedy answer, step by step, whose last number counts
    verified   programs that compute the answer, run in the sandbox; the value most of them give
               wins, and the chain of thought has a vote too

Cobbe et al., "Training Verifiers to Solve Math Word Problems", 2021; Gao et al., "PAL:
Program-aided Language Models", 2023; Wang et al., "Self-Consistency", 2023.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.agents.bench.data import read_lines
from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.running.conversation import Conversation
from ryzanstein.agents.verification.candidates import Plan, plans
from ryzanstein.agents.verification.checks import numbers
from ryzanstein.agents.verification.code import run_programs
from ryzanstein.errors import InvalidRequest

__all__ = ["FILE", "SOURCE", "Question", "Solved", "load", "right", "solve"]

FILE = "gsm8k-test.jsonl"
SOURCE = "github.com/openai/grade-school-math"
THOUGHT_TOKENS = 400
# Without a beginning a small model guesses at once instead of thinking.
_THOUGHT = "Let's think step by step.\n"
PROGRAM_TOKENS = 260
PROGRAMS = 5
TEMPERATURE = 0.7
_SHORTEST = "def solution():\n"
_STOPS = ["```", "\nprint(", "\nsolution(", "\n# "]
_GOLD = re.compile(r"####\s*(-?[\d,.]+)")


@dataclass(frozen=True, slots=True)
class Question:
    """What the model sees."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Solved:
    """Both answers, None where there is none, and what they took."""

    direct: float | None
    verified: float | None
    direct_tokens: int
    direct_seconds: float
    votes: tuple[float | None, ...]


def load(path: Path, limit: int | None) -> list[tuple[Question, float]]:
    """The first questions of the file, each with its answer apart.

    Raises:
        InvalidRequest: The file cannot be read, or an answer has no "#### number".
    """
    found: list[tuple[Question, float]] = []
    for line in read_lines(path, "question", "answer"):
        if limit is not None and len(found) == limit:
            break
        gold = _GOLD.search(line["answer"])
        values = numbers(gold.group(1)) if gold else []
        if not values:
            raise InvalidRequest(f"{path}: an answer has no number after ####.")
        found.append((Question(f"gsm8k/{len(found)}", line["question"]), values[0]))
    return found


def right(value: float | None, gold: float) -> bool:
    """Whether an answer is the gold one."""
    return value is not None and abs(value - gold) <= 1e-4 * max(1.0, abs(gold))


async def solve(question: Question, talk: Conversation, services: Services) -> Solved:
    """Answers a question directly, then by programs until the vote is decided."""
    thought = await talk.branch().ask(
        f"{question.text}\n\nSolve it step by step. End with a line: The answer is NUMBER.",
        max_tokens=THOUGHT_TOKENS,
        prefix=_THOUGHT,
        stop=["\n\n\n"],
    )
    direct = _stated(thought.text)
    votes = [direct]
    for plan in plans(PROGRAMS, TEMPERATURE):
        if _decided(votes, PROGRAMS + 1):
            break
        votes.append(await _by_program(question, talk, services, plan))
    return Solved(direct, _winner(votes), thought.tokens, thought.seconds, tuple(votes))


def _stated(text: str) -> float | None:
    """The number after the last "answer is", else the last number."""
    after = re.split(r"answer(?:\s+is|:)", text, flags=re.I)
    values = numbers(after[-1]) if len(after) > 1 else []
    if values:
        return values[0]
    values = numbers(text)
    return values[-1] if values else None


async def _by_program(
    question: Question, talk: Conversation, services: Services, plan: Plan
) -> float | None:
    # A program that ran to a number leaves nothing to reflect on, so that one is drawn like others.
    heat = TEMPERATURE if plan.number else 0.0
    found = await talk.branch().ask(
        f"{question.text}\n\nWrite a Python function solution() that computes the answer step by "
        "step from the numbers of the text, with a variable for each quantity, and returns it.",
        max_tokens=PROGRAM_TOKENS,
        prefix=f"```python\n{_SHORTEST}",
        stop=_STOPS,
        temperature=heat,
        seed=plan.number,
    )
    code = _SHORTEST + found.text.rstrip() + "\n"
    trials = await run_programs(services, [code], (), ["float(solution())"])
    value = trials[0].values[0]
    try:
        return float(value)
    except ValueError:
        return None


def _key(value: float) -> float:
    return round(value, 4)


def _tally(votes: Sequence[float | None]) -> list[tuple[float, int]]:
    return Counter(_key(one) for one in votes if one is not None).most_common()


def _decided(votes: Sequence[float | None], most: int) -> bool:
    """Whether the votes still to come cannot change who wins."""
    ranked = [*_tally(votes), (0.0, 0), (0.0, 0)]
    return ranked[0][1] - ranked[1][1] > most - len(votes)


def _winner(votes: Sequence[float | None]) -> float | None:
    """The value with the most votes; of equals the one that a program gave first."""
    ranked = _tally(votes)
    if not ranked:
        return None
    leading = {value for value, count in ranked if count == ranked[0][1]}
    order = [_key(one) for one in [*votes[1:], votes[0]] if one is not None]
    return next(value for value in order if value in leading)
