"""What a run leaves behind: an experience, written after verification, failures too.

outcome    verified, failed, or unknown where nothing could be checked
strategy   how it was gone about, in general, so that other tasks can be gone about alike
steps      what was done, a call a line, short enough to be put into another prompt
reason     why it failed
lessons    what to do again or to avoid: a title, when it applies, and what to do

The fitness is left to the memory, which knows what such runs cost. The answer is kept beside them
but never shown to a later run: a similar task has another answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ryzanstein.agents.running.step import Step
from ryzanstein.agents.verification.checks import Check

__all__ = ["MOST", "as_used", "chosen", "experience", "reminder"]

# One or two work best; more of them crowd a small model's prompt.
MOST = 2
LEAST_SIMILARITY = 0.55
LEAST_FACT_SIMILARITY = 0.35
# From here on a fact is what a question asks for, and no tool is needed.
TOLD_SIMILARITY = 0.55
DONE_CHARACTERS = 500
ANSWER_CHARACTERS = 2000
MOST_STEPS = 20
_LINE = 240
_SENTENCE = 300


def experience(
    task: str,
    steps: Sequence[Step],
    checks: Sequence[Check],
    verified: bool | None,
    answer: str,
    *,
    stopped: str = "",
) -> dict[str, Any]:
    """The fields of an experience that follow from a run.

    Args:
        task: What was asked.
        steps: What was done.
        checks: What was checked.
        verified: What the checks came to.
        answer: For the user; "" where none came of it.
        stopped: What ended the run before its answer.
    """
    outcome = {True: "verified", False: "failed", None: "unknown"}[verified]
    why = _reason(checks, answer, stopped)
    return {
        "task": task[:ANSWER_CHARACTERS],
        "outcome": "failed" if why else outcome,
        "strategy": strategy(steps),
        "tools": list(dict.fromkeys(step.tool for step in steps if step.kind == "tool")),
        "steps": [_line(step) for step in steps][:MOST_STEPS],
        "reason": why,
        "lessons": lessons(steps, checks, why),
        "answer": answer[:ANSWER_CHARACTERS],
    }


def strategy(steps: Sequence[Step]) -> str:
    """How it was gone about: which kinds of steps, in order, without what they were about."""
    said = {
        "look": "looked into what the task names",
        "check": "wrote asserts first, then the code, and ran both",
    }
    ways = [said.get(step.kind) or step.tool for step in steps if step.ok or step.kind == "check"]
    together = [way for at, way in enumerate(ways) if way and ways[at - 1 : at] != [way]]
    return ", then ".join(together)[:_SENTENCE] or "answered from what was known"


def lessons(steps: Sequence[Step], checks: Sequence[Check], why: str) -> list[dict[str, str]]:
    """What to avoid after a failure; else what went wrong on the way, and what held."""
    way = strategy(steps)
    if why:
        tried = f"This was tried: {way}. Check such an answer before giving it, or go another way."
        return [_lesson("Avoid what failed", why, tried)]
    taught = []
    found = _recovered(steps)
    if found is not None:
        wrong, right = found
        went = f"What worked instead: {_called(right)}" if right else "Nothing after it worked."
        taught.append(_lesson(f"{wrong.tool} failed first", _last_line(wrong), went))
    if checks and all(check.passed for check in checks):
        taught.append(_lesson("What held", way, f"{len(checks)} checks passed: do it so again."))
    return taught


def _reason(checks: Sequence[Check], answer: str, stopped: str) -> str:
    """Why a run failed, or "" where it did not."""
    failed = [check for check in checks if check.passed is False]
    if failed:
        return f"A check failed: {failed[0].name}: {failed[0].detail}"[:_SENTENCE]
    return "" if answer else stopped or "No answer came of it."


def _recovered(steps: Sequence[Step]) -> tuple[Step, Step | None] | None:
    """The first call that failed, and the call after it that worked."""
    calls = [step for step in steps if step.kind == "tool"]
    at = next((at for at, step in enumerate(calls) if not step.ok), None)
    if at is None:
        return None
    return calls[at], next((step for step in calls[at:] if step.ok), None)


def _lesson(title: str, description: str, content: str) -> dict[str, str]:
    return {
        "title": title[:80],
        "description": description[:_SENTENCE],
        "content": content[: 2 * _SENTENCE],
    }


def _line(step: Step) -> str:
    """A step in brief."""
    if step.kind == "tool":
        return _called(step) if step.ok else f"{step.tool} failed: {_last_line(step)}"[:_LINE]
    if step.kind == "look":
        return f"looked at {step.arguments.get('path', 'what the task names')}"[:_LINE]
    if step.kind == "check":
        return "ran the code with its asserts: " + ("all held" if step.ok else "not all held")
    return f"{step.kind} {step.tool}".strip()


def _called(step: Step) -> str:
    values = [str(value).strip() for value in step.arguments.values()]
    return f"{step.tool}: {' | '.join(values)}"[:_LINE]


def _last_line(step: Step) -> str:
    told = step.observation.strip().splitlines()
    return told[-1] if told else "no output"


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
    went = {
        "verified": "It worked.",
        "rated": f"A person rated it {hit.get('rating') or 0:.0%}.",
        "failed": f"It failed: {hit.get('reason') or 'nobody knows why'}",
    }.get(hit["outcome"], "Nobody could check it.")
    steps = "\n".join(hit.get("steps") or [hit.get("strategy", "")])
    done = f"\nDone then: {steps[:DONE_CHARACTERS]}" if steps else ""
    learnt = f"\nLearnt: {hit['lesson'][:DONE_CHARACTERS]}" if hit.get("lesson") else ""
    return f"A task like this one was: {hit['task'][:300]}{done}\n{went}{learnt}"
