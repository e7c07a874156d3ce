from __future__ import annotations

from pathlib import Path

import pytest

from ryzanstein.agents.clients.services import Services
from ryzanstein.agents.verification import verify
from ryzanstein.agents.verification.data import check_data
from ryzanstein.agents.verification.statements import assignments, relations, values

SOLVED = [
    ("What is that?", "17 * 23 = 391, and 2 + 2 = 5.", [True, False]),
    ("Solve x^2 - 5x + 6 = 0.", "The solutions are x = 2 and x = 3.", [True, True]),
    ("Solve x^2 - 5x + 6 = 0.", "x = 2 or 4", [True, False]),
    ("Solve x^2 = 2", "x is 1.414", [True]),
    ("Solve x^2 = 2", "x = 1.5", [False]),
    ("Find x and y: x + y = 10, x - y = 2.", "x = 6, y = 4", [True]),
    ("Find x and y: x + y = 10, x - y = 2.", "x = 7, y = 3", [False]),
    ("Integers a, b: 0 < a < b, a*b = 12, a + b = 8", "a = 2, b = 6", [True]),
    ("Distinct digits a, b with a + b = 4", "a = 2, b = 2", [False]),
    ("Is there an x with x > 3 and x < 2?", "There is no solution.", [True]),
    ("Is there an x with x > 3 and x < 5?", "It is impossible.", [False]),
    ("Solve x + y = 3", "I do not know.", []),
    ("Write a poem", "Roses are red.", []),
]


async def test_what_an_answer_states_is_calculated_again(place: Path) -> None:
    async with Services(names=("tools",)) as services:
        for task, answer, expected in SOLVED:
            checks = await verify(services, task, answer)
            assert [check.passed for check in checks] == expected, task


def test_relations_are_read_with_their_unknowns() -> None:
    found = relations("Let f(x) = 3. If 2x + 3y <= 10 and a > b > 1, what is 2 + 2?")
    assert [str(one) for one in found] == ["2*x + 3*y <= 10", "a > b", "b > 1"]
    assert found[0].names == ("x", "y")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("a + x = 5", []),
        ("x = 6 - 2", []),
        ("Try x = 1.\nThat fails.\nSo x = 2\nx = 3", ["2", "3"]),
        ("x = 1/2 or −3", ["1/2", "-3"]),
        ("2x = 4", []),
        ("max = 4", []),
    ],
)
def test_a_value_is_what_is_stated_last(answer: str, expected: list[str]) -> None:
    assert values(answer, "x") == expected


def test_every_unknown_needs_a_value() -> None:
    assert assignments("x = 1 and y = 2", ("x", "y")) == {"x": "1", "y": "2"}
    assert assignments("x = 1", ("x", "y")) is None


SCHEMA = '{"type": "array", "items": {"type": "integer"}}'


@pytest.mark.parametrize(
    ("task", "answer", "expected"),
    [
        ("Give me JSON with the keys name and age", 'Here: {"name": "A", "age": 3}.', [True, True]),
        ("Give me JSON with the keys name and age", '{"name": "A"}', [True, False]),
        (
            "As JSON with keys name and age (integer)",
            '{"name": "A", "age": "3"}',
            [True, True, False],
        ),
        ("As JSON with keys name and age (integer)", '{"name": "A", "age": 3}', [True, True, True]),
        (
            "As JSON with fields x: number, ok: boolean",
            '[{"x": 1.5, "ok": 1}]',
            [True, True, False],
        ),
        ("As JSON with keys a and ok, where ok is a boolean", '{"a": 1, "ok": true}', [True] * 3),
        ("Return JSON", "no idea", [False]),
        ("Return JSON", '{"a": 1', [False]),
        (f"Return JSON that fits {SCHEMA}", "```json\n[1, 2]\n```", [True, True]),
        (f"Return JSON that fits {SCHEMA}", '```\n[1, "x"]\n```', [True, False]),
        ('Return JSON, schema {"items": 3}', "[1]", [True, None]),
        ("Return JSON with exactly three objects", '[{"a": 1}]', [True, False]),
        ("Format it as CSV with columns a, b and 2 rows", "a,b\n1,2\n3,4", [True, True, True]),
        ("Format it as CSV with columns for both", "a,b\n1,2", [True]),
        ("Format it as CSV", "a,b\n1,2,3", [False]),
        ("Format it as CSV", "", [False]),
        ("How many lines has data.json?", "3", []),
        ("Write a JSON parser", "def parse(): ...", []),
    ],
)
def test_data_that_is_asked_for_reads_and_has_its_shape(
    task: str, answer: str, expected: list[bool | None]
) -> None:
    assert [check.passed for check in check_data(task, answer)] == expected
