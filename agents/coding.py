"""Writes Python for a task and checks it: asserts first, then code, one reflection if it fails.

The asserts come from the task where it states examples, and from the model before it has seen its
own code. What the first attempt fails on is shown to the model once, with what the code returned;
the better of both attempts is the answer. A model's own assert that the model takes back is
dropped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ryzanstein.agents import verify
from ryzanstein.agents.conversation import Conversation
from ryzanstein.agents.services import Services
from ryzanstein.agents.verify import Check

__all__ = ["Attempt", "Told", "write_code"]

CODE_TOKENS = 500
ASSERT_TOKENS = 160
EXPLAIN_TOKENS = 90
# What follows the code itself: the checks are run apart from it, and cost tokens here.
STOPS = ["```", "\nassert ", "\n# Test", "\n# Example", "\nif __name__", "\nprint("]

Told = Callable[[str, str], Awaitable[None]]


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


async def write_code(
    task: str,
    opening: str,
    talk: Conversation,
    services: Services,
    told: Told,
    original: str = "",
) -> Attempt:
    """Returns the best attempt of at most two.

    Args:
        task: What the user asked.
        opening: The task and what is known, for the first turn.
        talk: The conversation, with its system text only.
        services: Runs the code.
        told: Hears of stage and message.
        original: Code that is to be corrected; empty where new code is asked for.
    """
    given = verify.given_asserts(task)
    name = verify.function_name(task) or verify.function_name(original)
    own: list[str] = []
    if not given:
        own = await _own_asserts(opening, name, talk)
        opening = ""
    await told("act", "writes the code")
    code = await _code(f"{opening}\n\n{_asked(task, original)}".strip(), talk)
    first = await _tried(code, [*given, *own], services, told, original)
    if not first.failed:
        return first
    await told("reflect", f"{len(first.failed)} of {len(first.checks)} checks failed")
    return await _second(task, first, given, own, talk, services, told, original)


def _asked(task: str, original: str) -> str:
    if original:
        return f"{task}\nNow write the corrected Python code, complete, with the fault mended."
    return "Now write the complete Python code that does this. Only the code, with its imports."


async def _own_asserts(opening: str, name: str, talk: Conversation) -> list[str]:
    question = (
        "Before writing the code, write three simple asserts that correct code passes, "
        "one on each line. Choose values whose result is certain."
    )
    start = f"assert {name}(" if name else "assert "
    found = await talk.ask(
        f"{opening}\n\n{question}",
        max_tokens=ASSERT_TOKENS,
        prefix=f"```python\n{start}",
        stop=["```", "\n\n"],
    )
    return verify.parsed_asserts(start + found.text, name)


async def _code(question: str, talk: Conversation) -> str:
    found = await talk.ask(question, max_tokens=CODE_TOKENS, prefix="```python\n", stop=STOPS)
    return found.text.strip() + "\n"


async def _tried(
    code: str, asserts: Sequence[str], services: Services, told: Told, original: str
) -> Attempt:
    await told("verify", f"runs the code with {len(asserts)} asserts")
    checks = await verify.run_asserts(services, code, asserts)
    if original:
        changed = not _same_code(code, original)
        said = "" if changed else "It is the code that was to be corrected, unchanged."
        checks.append(Check("something was corrected", changed, said))
    return Attempt(code, tuple(checks))


async def _second(
    task: str,
    first: Attempt,
    given: Sequence[str],
    own: Sequence[str],
    talk: Conversation,
    services: Services,
    told: Told,
    original: str,
) -> Attempt:
    """One reflection: correct the code, or take back an assert of one's own."""
    faults = "\n".join(f"- {check.name}: {check.detail}" for check in first.failed)
    question = (
        f"The code was run. These checks failed:\n{faults}\n"
        f"The task was: {task}\n"
        "Write the complete corrected Python code. If the code is right and an assert is wrong, "
        "write the same code again."
    )
    code = await _code(question, talk)
    failed = {check.name for check in first.failed}
    if _same_code(code, first.code) and failed <= set(own):
        kept = [line for line in own if line not in failed]
        checks = tuple(check for check in first.checks if check.name not in failed)
        return Attempt(first.code, checks) if kept else first
    second = await _tried(code, [*given, *own], services, told, original)
    return second if second.passed > first.passed else first


def _same_code(one: str, other: str) -> bool:
    return "".join(one.split()) == "".join(other.split())
