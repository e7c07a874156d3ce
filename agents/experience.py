"""What a run leaves behind: an experience, written after verification, failures too.

strategy   what was done, as calls in order, short enough to be put into another prompt
lesson     what to do again, or what went wrong
fitness    1 verified, 0.6 answered without a check, 0.2 a failed check, 0 no answer

The answer itself is kept beside them but never shown to a later run: a similar task has another
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ryzanstein.agents.step import Step
from ryzanstein.agents.verify import Check

__all__ = ["MOST", "as_used", "chosen", "experience", "reminder"]

# One or two work best; more of them crowd a small model's prompt.
MOST = 2
LEAST_SIMILARITY = 0.55
LEAST_FACT_SIMILARITY = 0.35
# From here on a fact is what a question asks for, and no tool is needed.
TOLD_SIMILARITY = 0.55
STRATEGY_CHARACTERS = 500
ANSWER_CHARACTERS = 2000


def experience(
    task: str, steps: Sequence[Step], checks: Sequence[Check], verified: bool | None, answer: str
) -> dict[str, Any]:
    """The fields of an experience that follow from a run."""
    outcome = {True: "verified", False: "failed", None: "unknown"}[verified]
    fitness = 0.0 if not answer else {True: 1.0, None: 0.6, False: 0.2}[verified]
    return {
        "task": task[:ANSWER_CHARACTERS],
        "outcome": outcome if answer else "failed",
        "fitness": fitness,
        "strategy": strategy(steps),
        "tools": list(dict.fromkeys(step.tool for step in steps if step.kind == "tool")),
        "lesson": lesson(steps, checks, answer),
        "answer": answer[:ANSWER_CHARACTERS],
    }


def strategy(steps: Sequence[Step]) -> str:
    """The calls that worked, in order, each in one line."""
    lines = [_called(step) for step in steps if step.kind == "tool" and step.ok]
    if any(step.kind == "check" for step in steps):
        lines.append("wrote asserts first, then the code, and ran both")
    return "\n".join(lines)[:STRATEGY_CHARACTERS]


def lesson(steps: Sequence[Step], checks: Sequence[Check], answer: str) -> str:
    """What went wrong on the way, or that nothing did."""
    failed = [check for check in checks if check.passed is False]
    if failed:
        return f"A check failed: {failed[0].name}: {failed[0].detail}"[:300]
    wrong = [step for step in steps if step.kind == "tool" and not step.ok]
    if wrong:
        told = wrong[0].observation.strip().splitlines()
        return f"{wrong[0].tool} failed first: {told[-1] if told else 'no output'}"[:300]
    return "" if answer else "No answer came of it."


def _called(step: Step) -> str:
    values = [str(value).strip() for value in step.arguments.values()]
    return f"{step.tool}: {' | '.join(values)}"[:240]


def chosen(hits: Sequence[dict[str, Any]], least: float = LEAST_SIMILARITY) -> list[dict[str, Any]]:
    """The experiences worth showing: alike enough, one where the best is far ahead, else two."""
    near = [hit for hit in hits if hit.get("similarity", hit["score"]) >= least]
    return near[:MOST]


def as_used(fact: dict[str, Any]) -> dict[str, Any]:
    """A recalled fact in the form in which a result lists what was put into the prompt."""
    names = ("id", "score", "similarity")
    kept: dict[str, Any] = {name: fact[name] for name in names if name in fact}
    return {**kept, "task": fact["text"], "outcome": "fact"}


def reminder(hit: dict[str, Any]) -> str:
    """An experience as it goes into a prompt, without its answer."""
    went = "It worked." if hit["outcome"] == "verified" else f"Outcome: {hit['outcome']}."
    done = f"\nDone then: {hit['strategy']}" if hit.get("strategy") else ""
    learnt = f"\nLearnt: {hit['lesson']}" if hit.get("lesson") else ""
    return f"A task like this one was: {hit['task'][:300]}{done}\n{went}{learnt}"
