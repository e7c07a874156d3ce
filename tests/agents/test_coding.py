from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.agents.clients.services import Completion, Services
from ryzanstein.agents.routing.complexity import Complexity
from ryzanstein.agents.running import coding
from ryzanstein.agents.running.conversation import Budget, Conversation
from ryzanstein.agents.verification.candidates import Candidate, agreement, best_of, plans
from ryzanstein.agents.verification.checks import Check
from ryzanstein.agents.verification.examples import stub
from ryzanstein.agents.verification.inputs import calls
from ryzanstein.agents.verification.properties import round_trips

TASK = '''Complete it.
```python
def twice(n: int) -> int:
    """Doubles.
    >>> twice(2)
    4
    >>> twice(5)
    10
    """
```'''
WRONG, RIGHT = "    return n ** 2", "    return n + n"


class Scripted(Services):
    """The real tools server, and a model that says what it is told to, in order."""

    def __init__(self, *answers: str) -> None:
        super().__init__(names=("tools",))
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def chat(self, messages: Sequence[Mapping[str, str]], **options: Any) -> Completion:
        self.asked.append({"messages": list(messages), **options})
        text = self.answers.pop(0)
        return Completion(text, "scripted", 50, 40, 10, "stop", 0.1)

    async def count_tokens(self, text: Any, **_: Any) -> int:
        return len(str(text)) // 4


def job(services: Services, task: str, tokens: int = 4000, n: int = 3) -> coding.Job:
    async def tell(stage: str, message: str, **data: Any) -> None:
        pass

    talk = Conversation(services, Budget(tokens, 60), window=4000)
    complexity = Complexity("direct", (), 4, n, 0.3)
    return coding.Job(task, talk, services, complexity, tell)


async def test_the_first_candidate_that_passes_ends_the_search(place: Path) -> None:
    async with Scripted(WRONG, WRONG, RIGHT, "never asked") as services:
        found = await coding.search(job(services, TASK), TASK)
    assert [one.plan.number for one in found] == [2, 0, 1]
    assert found[0].holds
    assert found[0].value.code.endswith(f"{RIGHT}\n")
    assert found[0].value.code.startswith("def twice")
    first, second, third = services.asked
    assert first["temperature"] == 0 and second["temperature"] > 0 and second["seed"] == 1
    assert first["messages"] == second["messages"]
    assert first["answer_prefix"].endswith('"""\n   ')
    assert "twice(5) gave 25" in third["messages"][-1]["content"]
    assert third["temperature"] == 0


async def test_without_tokens_the_best_so_far_is_the_answer(place: Path) -> None:
    async with Scripted(WRONG) as services:
        found = await coding.search(job(services, TASK, tokens=200), TASK)
    assert len(found) == 1
    assert [check.passed for check in found[0].checks] == [True, True, False]


async def test_asserts_written_first_are_undecided_where_most_results_are_others(
    place: Path,
) -> None:
    task = "Write a Python function twice(n) that doubles a number."
    good, bad = f"def twice(n):\n{RIGHT}", f"def twice(n):\n{WRONG}"
    asserts = "2) == 5\nassert twice(3) == 6\n"
    async with Scripted(asserts, good, good, bad, good, bad) as services:
        found = await coding.search(job(services, task), task)
    assert found[0].value.code == f"{good}\n"
    passed = {check.name: check.passed for check in found[0].checks}
    assert passed["assert twice(3) == 6"] is True
    assert passed["assert twice(2) == 5"] is None
    assert "assert" not in str(services.asked[1]["messages"])
    briefly = [coding.BRIEF in str(one["messages"]) for one in services.asked]
    assert briefly == [False, False, False, False, True, False]


async def test_code_that_comes_back_as_it_was_corrects_nothing(place: Path) -> None:
    original = "def twice(n):\n    return n\n"
    task = "Fix twice(n): twice(2) == 4"
    async with Scripted(original, original, original) as services:
        found = await coding.search(job(services, task), task, original)
    assert not found[0].holds
    assert found[0].checks[-1].passed is False


async def test_candidates_are_made_until_one_holds() -> None:
    seen: list[int] = []

    async def make(plan: Any, best: Candidate[int] | None) -> int | None:
        seen.append(plan.number)
        return plan.number if plan.number < 3 else None

    async def test(value: int) -> list[Check]:
        return [Check("is large", value > 5)]

    found = await best_of(make, test, plans(8, 0.5))
    assert seen == [0, 1, 2, 3]
    assert [one.value for one in found] == [0, 1, 2]


def test_plans_begin_greedy_and_reflect_once() -> None:
    made = plans(5, 0.7)
    assert [one.temperature for one in made] == [0.0, 0.7, 0.0, 0.7, 0.7]
    assert [one.number for one in made if one.reflects] == [2]
    assert len({(one.temperature, one.seed, one.reflects) for one in made}) == 5
    assert [one.reflects for one in plans(2, 0.7)] == [False, True]
    assert len(plans(5, 0.0)) == 2
    assert len(plans(1, 0.7)) == 1


def test_agreement_is_the_share_that_gave_the_same() -> None:
    shares = agreement([["1", "2"], ["1", "3"], ["1", "! ValueError"]])
    assert shares[0] == pytest.approx((1 + 1 / 3) / 2)
    assert shares[2] == pytest.approx(1 / 2)
    assert agreement([[], []]) == [0.0, 0.0]
    assert agreement([]) == []


def test_inputs_are_varied_around_those_that_are_known() -> None:
    made = calls(["assert f([1, 2], 'ab') == 3"], "f")
    assert made[0] == "f([1, 2], 'ab')"
    assert len(made) == len(set(made)) > 8
    assert "f([2, 1], 'ab')" in made and "f([1, 2], 'ba')" in made
    assert calls([], "f") == []
    assert calls(["assert f(g(1)) == 2"], "f") == []


def test_inputs_come_from_the_annotations_where_no_example_has_any() -> None:
    given = stub("def f(n: int, words: List[str]):\n    '''What.'''\n")
    assert "f(2, [5, 3, 8, 3])" in calls([], "f", given)
    unknown = stub("def f(n):\n    '''What.'''\n")
    assert calls([], "f", unknown) == []


def test_what_undoes_another_function_is_checked_by_both() -> None:
    pair = "def encode_x(s: str):\n    return s\n\ndef decode_x(s: str):\n    '''Undoes it.'''\n"
    given = stub(pair)
    assert given is not None
    assert round_trips(given)[0] == "assert decode_x(encode_x('abc')) == 'abc'"
    other = stub("def decode_x(s: str):\n    '''What.'''\n")
    assert other is not None
    assert round_trips(other) == []
