from __future__ import annotations

import pytest

from ryzanstein.agents.verification import checks
from ryzanstein.agents.verification.checks import Check


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], None),
        ([Check("a", None)], None),
        ([Check("a", True), Check("b", None)], None),
        ([Check("a", True), Check("b", True)], True),
        ([Check("a", True), Check("b", False)], False),
    ],
)
def test_the_verdict_needs_something_that_was_told(
    given: list[Check], expected: bool | None
) -> None:
    assert checks.verdict(given) is expected


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
    assert checks.agrees(answer, result) is expected


def test_the_last_line_names_the_error() -> None:
    assert checks.last_line("Traceback\n  x\nValueError: no\n\n") == "ValueError: no"
    assert checks.last_line(" \n")


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
    assert checks.rounded(text, decimals) == expected
