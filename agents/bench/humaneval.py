"""HumanEval: functions written from a signature and a docstring, judged by hidden tests.

What writes and chooses the code is given a `Problem`, which has the prompt alone. The hidden tests
are in a `Hidden`, which nothing but `judge` takes, after the choice is made.

Chen et al., "Evaluating Large Language Models Trained on Code", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.agents.bench.data import read_lines
from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.routing.complexity import estimate
from ryzanstein.agents.running import coding, prompting
from ryzanstein.agents.running.conversation import Conversation
from ryzanstein.agents.verification.candidates import Candidate
from ryzanstein.agents.verification.code import run_programs

__all__ = ["FILE", "SOURCE", "Hidden", "Problem", "judge", "load", "solve"]

FILE = "HumanEval.jsonl.gz"
SOURCE = "github.com/openai/human-eval"
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What the model and the verifier see."""

    id: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Hidden:
    """What only the judge sees: the tests, and the name of the function they call."""

    test: str
    entry_point: str


def load(path: Path, limit: int | None) -> list[tuple[Problem, Hidden]]:
    """The first problems of the file, each with its hidden tests apart.

    Raises:
        InvalidRequest: The file cannot be read.
    """
    found: list[tuple[Problem, Hidden]] = []
    for line in read_lines(path, "task_id", "prompt", "test", "entry_point"):
        if limit is not None and len(found) == limit:
            break
        problem = Problem(str(line["task_id"]), line["prompt"])
        found.append((problem, Hidden(line["test"], line["entry_point"])))
    return found


async def solve(
    problem: Problem, talk: Conversation, services: Services
) -> list[Candidate[coding.Draft]]:
    """Candidates for a problem as the agents make them for a task, the chosen one first."""
    task = f"Complete this Python function.\n```python\n{problem.prompt.rstrip()}\n```"
    job = coding.Job(task, talk, services, estimate(task), _silent)
    return await coding.search(job, prompting.task_text(task, ""))


async def _silent(stage: str, message: str, **data: object) -> None:
    pass


async def judge(services: Services, codes: Sequence[str], hidden: Hidden) -> list[bool]:
    """Whether each code passes the hidden tests."""
    different = list(dict.fromkeys(codes))
    programs = [f"{code}\n\n{hidden.test}" for code in different]
    asserts = [f"assert check({hidden.entry_point}) is None"]
    trials = await run_programs(services, programs, asserts, seconds=_SECONDS)
    passed = {
        code: all(check.passed for check in trial.checks)
        for code, trial in zip(different, trials, strict=True)
    }
    return [passed[code] for code in codes]
