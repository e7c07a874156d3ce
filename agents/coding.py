"""Writes Python for a task and checks it: asserts first, then code, one reflection if it fails.

The asserts come from the task where it states examples, and from the model before it has seen its
own code. What the first attempt fails on is shown to the model once, with what the code returned;
the better of both attempts is the answer. Where both versions agree on another value than one of
the model's own asserts, that check is left undecided: one of the two is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ryzanstein.agents import verify
from ryzanstein.agents.run import Run
from ryzanstein.agents.verify import Check

__all__ = ["Attempt", "write_code"]

CODE_TOKENS = 500
ASSERT_TOKENS = 160
# What follows the code itself: the checks are run apart from it, and cost tokens here.
STOPS = ["```", "\nassert ", "\n# Test", "\n# Example", "\nif __name__", "\nprint("]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Code and what its checks said."""

    code: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> int:
        """How many checks held."""
        return sum(check.passed is True for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """The checks that did not."""
        return [check for check in self.checks if check.passed is False]


@dataclass(frozen=True, slots=True)
class _Tests:
    """Asserts the task gives, asserts the model wrote, and code that is to be corrected."""

    given: tuple[str, ...]
    own: tuple[str, ...]
    original: str

    @property
    def asserts(self) -> tuple[str, ...]:
        return (*self.given, *self.own)


async def write_code(run: Run, opening: str, original: str = "") -> Attempt:
    """Returns the best attempt of at most two.

    Args:
        run: The run, whose conversation has its system text only.
        opening: The task and what is known, for the first turn.
        original: Code that is to be corrected; empty where new code is asked for.
    """
    given = verify.given_asserts(run.task)
    own: list[str] = []
    if not given:
        name = verify.function_name(run.task) or verify.function_name(original)
        own = await _own_asserts(run, opening, name)
        opening = ""
    tests = _Tests(tuple(given), tuple(own), original)
    await run.tell("act", "writes the code")
    code = await _code(run, f"{opening}\n\n{_asked(run.task, original)}".strip())
    first = await _tried(run, code, tests)
    if not first.failed:
        return first
    await run.tell("reflect", f"{len(first.failed)} of {len(first.checks)} checks failed")
    return await _second(run, first, tests)


def _asked(task: str, original: str) -> str:
    if original:
        return f"{task}\nNow write the corrected Python code, complete, with the fault mended."
    return f"{task}\nNow write the complete Python code. Only the code, with its imports."


async def _own_asserts(run: Run, opening: str, name: str) -> list[str]:
    question = (
        "Before writing the code, write three short asserts that correct code passes, one on each "
        "line: first a simple case, then one for each rule that the task names. "
        "Choose values whose result is certain."
    )
    start = f"assert {name}(" if name else "assert "
    found = await run.talk.ask(
        f"{opening}\n\n{question}",
        max_tokens=ASSERT_TOKENS,
        prefix=f"```python\n{start}",
        stop=["```", "\n\n"],
    )
    return verify.parsed_asserts(start + found.text, name)


async def _code(run: Run, question: str) -> str:
    found = await run.talk.ask(question, max_tokens=CODE_TOKENS, prefix="```python\n", stop=STOPS)
    return found.text.strip() + "\n"


async def _tried(run: Run, code: str, tests: _Tests) -> Attempt:
    await run.tell("verify", f"runs the code with {len(tests.asserts)} asserts")
    checks = await verify.run_asserts(run.services, code, tests.asserts)
    if tests.original:
        changed = not _same_code(code, tests.original)
        said = "" if changed else "It is the code that was to be corrected, unchanged."
        checks.append(Check("something was corrected", changed, said))
    return Attempt(code, tuple(checks))


async def _second(run: Run, first: Attempt, tests: _Tests) -> Attempt:
    """One reflection: correct the code, or take back an assert of one's own."""
    faults = "\n".join(f"- {check.name}: {check.detail}" for check in first.failed)
    question = (
        f"The code was run. These checks failed:\n{faults}\n"
        f"The task was: {run.task}\n"
        "Write the complete corrected Python code. If the code is right and an assert is wrong, "
        "write the same code again."
    )
    code = await _code(run, question)
    second = await _tried(run, code, tests)
    best = second if second.passed > first.passed else first
    return _doubted(best, first, second, tests)


def _doubted(best: Attempt, first: Attempt, second: Attempt, tests: _Tests) -> Attempt:
    """Takes the model's own asserts as undecided where two versions agree on another value.

    The code may be wrong twice in the same way, so such a check neither holds nor fails.
    """
    both = {(check.name, check.detail) for check in first.failed}
    both &= {(check.name, check.detail) for check in second.failed}
    checks = tuple(
        replace(check, passed=None)
        if check.name in tests.own and (check.name, check.detail) in both
        else check
        for check in best.checks
    )
    return Attempt(best.code, checks)


def _same_code(one: str, other: str) -> bool:
    return "".join(one.split()) == "".join(other.split())
