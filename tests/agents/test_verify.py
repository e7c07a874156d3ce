from __future__ import annotations

import pytest

from ryzanstein.agents import verify
from ryzanstein.agents.verify import Check


def test_a_task_states_its_examples_in_several_ways() -> None:
    task = (
        "Write fibonacci(n), with fibonacci(0) = 0 and fibonacci(7) == 13.\n"
        ">>> fibonacci(2)\n1\n"
        "assert fibonacci(3) == 2\n"
    )
    assert set(verify.given_asserts(task)) == {
        "assert fibonacci(3) == 2",
        "assert fibonacci(2) == 1",
        "assert fibonacci(0) == 0",
        "assert fibonacci(7) == 13",
    }


@pytest.mark.parametrize(
    "task",
    [
        "Write chunk(items, size) that splits a list",
        "Say (in words) what f is",
        "",
        ">>> f(",
        "f(x) =",
    ],
)
def test_a_task_without_examples_gives_no_asserts(task: str) -> None:
    assert verify.given_asserts(task) == []


def test_the_function_is_the_first_name_with_arguments() -> None:
    assert verify.function_name("I need a function word_counts(text), please") == "word_counts"
    assert verify.function_name("no function here") == ""


def test_only_asserts_that_parse_and_call_the_function_are_kept() -> None:
    text = "assert f(1) == 2\nassert f(1) == 2\nassert f(\nprint(f(2))\nassert g(1) == 1\n"
    assert verify.parsed_asserts(text, "f") == ["assert f(1) == 2"]


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ([], None),
        ([Check("a", None)], None),
        ([Check("a", True), Check("b", None)], None),
        ([Check("a", True), Check("b", True)], True),
        ([Check("a", True), Check("b", False)], False),
    ],
)
def test_the_verdict_needs_something_that_was_told(
    checks: list[Check], expected: bool | None
) -> None:
    assert verify.verdict(checks) is expected


@pytest.mark.parametrize(
    ("answer", "result", "expected"),
    [
        ("It is 411.01.", "411.012", True),
        ("It is 387.32.", "411.012", False),
        ("There are 1,200 of them", "1200", True),
        ("Whatever", "a long text without a number", None),
        ("3", "1 2 3 4 5", None),
        ("", "7", False),
        ("It is 4 April 2025.", "2025-04-04", True),
        ("It is 25 February 2025.", "2025-04-04", False),
    ],
)
def test_an_answer_states_the_result_rounded_or_not(
    answer: str, result: str, expected: bool | None
) -> None:
    assert verify.agrees(answer, result) is expected


def test_the_last_line_names_the_error() -> None:
    assert verify.last_line("Traceback\n  x\nValueError: no\n\n") == "ValueError: no"
    assert verify.last_line(" \n")


@pytest.mark.parametrize(
    ("text", "decimals", "expected"),
    [
        ("411.012", 2, "411.01"),
        ("411.012", None, "411.012"),
        ("1556.3899999999999", None, "1556.39"),
        ("AVG(price) / 135.30000000000001", 2, "AVG(price) / 135.30"),
        ("-2.5 and 7", 2, "-2.5 and 7"),
        ("2025-04-04", 1, "2025-04-04"),
        ("no number", 2, "no number"),
    ],
)
def test_a_result_is_rounded_as_the_task_asks(
    text: str, decimals: int | None, expected: str
) -> None:
    assert verify.rounded(text, decimals) == expected
