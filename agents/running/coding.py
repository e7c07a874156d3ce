"""Writes Python for a task: candidates one after another, until one passes its checks.

The checks come from the task where it states examples, from what its functions are called where one
undoes another, else from the model before it has seen its own code. Every candidate is asked for on
a branch of the conversation, so that it costs its own tokens alone; the branch of the one that is
chosen becomes the conversation. Where the model's own asserts are all there is and most candidates
agree on another value, that check is left undecided: one of the two is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.complexity import Complexity
from ryzanstein.agents.running.conversation import Conversation, OutOfBudget
from ryzanstein.agents.running.run import Run
from ryzanstein.agents.verification import candidates, code, examples, inputs, properties
from ryzanstein.agents.verification.candidates import Candidate, Plan
from ryzanstein.agents.verification.checks import Check
from ryzanstein.errors import InferenceError

__all__ = ["Attempt", "Draft", "Job", "search", "write_code"]

CODE_TOKENS = 500
ASSERT_TOKENS = 160
OWN_ASSERTS = 6
# Where the task's own examples tell right from wrong, a further candidate is worth its tokens, and
# the run's budget of tokens usually ends the search first;
# where the model's own asserts all fail, it takes a few results to tell what most agree on.
LEAST_CANDIDATES = 32
LEAST_DOUBTFUL = 5
# With less to spare, a further candidate would come out cut.
LEAST_TOKENS = 200
# Of the run's seconds, after which the best so far is taken: it still has to be explained.
TIME_SHARE = 0.6
LEAST_TEMPERATURE = 0.8
TOP_P = 0.95
BRIEF = "Use as few lines as possible, without comments."
# What follows the code itself: the checks are run apart from it, and cost tokens here.
STOPS = ["```", "\nassert ", "\n# Test", "\n# Example", "\nif __name__", "\nprint(", "\ndef test_"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Code and what its checks said."""

    code: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """The checks that did not hold."""
        return [check for check in self.checks if check.passed is False]


@dataclass(frozen=True, slots=True)
class Draft:
    """Code, the conversation that ends with it, and what writing it took."""

    code: str
    talk: Conversation
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Job:
    """What code is wanted, and what to write and check it with.

    Attributes:
        task: What the user asked.
        talk: A conversation that has its system text only.
        services: Reaches the sandbox.
        complexity: Says how many candidates, and at which temperature.
        tell: Hears of every stage and what it does.
    """

    task: str
    talk: Conversation
    services: Services
    complexity: Complexity
    tell: Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class _Tests:
    """Asserts the task gives, asserts the model wrote, and what code is to be filled or mended."""

    given: tuple[str, ...]
    own: tuple[str, ...]
    original: str
    stub: examples.Stub | None

    @property
    def asserts(self) -> tuple[str, ...]:
        return (*self.given, *self.own)


async def write_code(run: Run, opening: str, original: str = "") -> Attempt:
    """Returns the best attempt, and leaves the conversation as if it had been the only one.

    Args:
        run: The run, whose conversation has its system text only.
        opening: The task and what is known, for the first turn.
        original: Code that is to be corrected; empty where new code is asked for.
    """
    job = Job(run.task, run.talk, run.services, run.complexity, run.tell)
    found = await search(job, opening, original)
    best = found[0]
    run.talk.adopt(best.value.talk)
    return Attempt(best.value.code, best.checks)


async def search(job: Job, opening: str, original: str = "") -> list[Candidate[Draft]]:
    """Makes candidates until one passes, and returns all, the best first."""
    stub = None if original else examples.stub(job.task)
    given = examples.examples(job.task)
    if not given and stub is not None:
        given = properties.round_trips(stub)
    name = examples.function_name(job.task) or examples.function_name(original)
    own = [] if given else await _own_asserts(job, opening, name)
    tests = _Tests(tuple(given), tuple(own), original, stub)
    question = f"{opening}\n\n{_asked(job.task, tests)}".strip()

    async def make(plan: Plan, best: Candidate[Draft] | None) -> Draft | None:
        if best is None:
            return await _draft(job, question, plan, best, tests)
        budget = job.talk.budget
        if job.talk.spare < LEAST_TOKENS or budget.elapsed > TIME_SHARE * budget.seconds:
            return None
        try:
            return await _draft(job, question, plan, best, tests)
        except (InferenceError, OutOfBudget):
            return None  # what there is already is worth more than the fault

    async def test(draft: Draft) -> Sequence[Check]:
        return await _tested(job, draft.code, tests)

    found = await candidates.best_of(make, test, _planned(job.complexity, tests))
    if len(found) > 1 and not found[0].holds:
        found = await _agreed(job, found, tests, name)
    return found


def _planned(complexity: Complexity, tests: _Tests) -> list[Plan]:
    count, temperature = complexity.candidates, complexity.temperature
    if not tests.original:
        count = max(count, LEAST_CANDIDATES) if tests.given else max(count, LEAST_DOUBTFUL)
        temperature = max(temperature, LEAST_TEMPERATURE)
    return candidates.plans(count, temperature)


def _asked(task: str, tests: _Tests) -> str:
    if tests.original:
        return f"{task}\nNow write the corrected Python code, complete, with the fault mended."
    if tests.stub is not None:
        return "Complete the Python function of the task."
    return f"{task}\nNow write the complete Python code. Only the code, with its imports."


async def _own_asserts(job: Job, opening: str, name: str) -> list[str]:
    question = (
        "Before writing the code, write three short asserts that correct code passes, one on each "
        "line: first a simple case, then one for each rule that the task names. "
        "Choose values whose result is certain."
    )
    start = f"assert {name}(" if name else "assert "
    found = await job.talk.branch().ask(
        f"{opening}\n\n{question}",
        max_tokens=ASSERT_TOKENS,
        prefix=f"```python\n{start}",
        stop=["```", "\n\n"],
    )
    return examples.parsed_asserts(start + found.text, name)[:OWN_ASSERTS]


async def _draft(
    job: Job, question: str, plan: Plan, best: Candidate[Draft] | None, tests: _Tests
) -> Draft:
    reflects = plan.reflects and best is not None
    if plan.number:
        what = "with what failed" if reflects else f"at temperature {plan.temperature:g}"
        await job.tell("reflect", f"writes candidate {plan.number + 1}, {what}")
    else:
        await job.tell("act", "writes the code")
    talk = (best.value.talk if reflects and best is not None else job.talk).branch()
    if reflects and best is not None:
        question = _reflection(job.task, best)
    elif plan.number > candidates.REFLECTS and plan.number % 2:
        # Another wording finds other solutions, and this one at half the tokens.
        question = f"{question} {BRIEF}"
    start = tests.stub.opened if tests.stub is not None else ""
    drawn: dict[str, Any] = {"seed": plan.seed, "top_p": TOP_P} if plan.temperature else {}
    found = await talk.ask(
        question,
        max_tokens=CODE_TOKENS,
        prefix=f"```python\n{start}",
        stop=STOPS,
        temperature=plan.temperature,
        **drawn,
    )
    body = found.text.rstrip()
    if tests.stub is not None:
        body = f"{tests.stub.source}{tests.stub.indent}{body.lstrip(' ')}"
    source = body.strip("\n") + "\n"
    return Draft(source, talk, found.tokens, found.seconds)


def _reflection(task: str, best: Candidate[Draft]) -> str:
    faults = "\n".join(f"- {check.name}: {check.detail}" for check in best.failed)
    return (
        f"The code was run. These checks failed:\n{faults}\n"
        f"The task was: {task}\n"
        "Write the complete corrected Python code. If the code is right and an assert is wrong, "
        "write the same code again."
    )


async def _tested(job: Job, source: str, tests: _Tests) -> list[Check]:
    await job.tell("verify", f"runs the code with {len(tests.asserts)} asserts")
    checks = await code.run_asserts(job.services, source, tests.asserts)
    if tests.original:
        changed = not _same_code(source, tests.original)
        said = "" if changed else "It is the code that was to be corrected, unchanged."
        checks.append(Check("something was corrected", changed, said))
    return checks


async def _agreed(
    job: Job, found: list[Candidate[Draft]], tests: _Tests, name: str
) -> list[Candidate[Draft]]:
    """The best first where none passed: by the asserts given, then by what most results say."""
    calls = inputs.calls(tests.asserts, name, tests.stub)
    said = [_left(one) for one in tests.own]
    programs = [one.value.code for one in found]
    trials = await code.run_programs(job.services, programs, (), [*calls, *filter(None, said)])
    shares = candidates.agreement([trial.values for trial in trials])
    order = sorted(
        range(len(found)),
        key=lambda place: (
            sum(
                check.passed is True for check in found[place].checks if check.name not in tests.own
            ),
            shares[place],
            found[place].passed,
            -found[place].plan.number,
        ),
        reverse=True,
    )
    best = found[order[0]]
    others = [found[place] for place in order[1:]]
    return [replace(best, checks=_doubted(best, others, tests.own)), *others]


def _left(source: str) -> str:
    """The left side of an assert that compares."""
    return source.removeprefix("assert ").rpartition(" == ")[0]


def _doubted(
    best: Candidate[Draft], others: Sequence[Candidate[Draft]], own: Sequence[str]
) -> tuple[Check, ...]:
    """Takes the model's own asserts as undecided where most candidates agree on another value.

    The code may be wrong in the same way each time, so such a check neither holds nor fails.
    """

    def contradicted(check: Check) -> bool:
        alike = sum((check.name, check.detail) in _failures(one) for one in others)
        return check.passed is False and check.name in own and 2 * alike >= max(1, len(others))

    return tuple(
        replace(check, passed=None) if contradicted(check) else check for check in best.checks
    )


def _failures(one: Candidate[Draft]) -> set[tuple[str, str]]:
    return {(check.name, check.detail) for check in one.failed}


def _same_code(one: str, other: str) -> bool:
    return "".join(one.split()) == "".join(other.split())
