from __future__ import annotations

import pytest

from ryzanstein.agents.running.plan import MOST_PARTS, parts


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (
            "First count the lines of a.txt, then sum the amounts in b.csv.",
            ("count the lines of a.txt", "sum the amounts in b.csv."),
        ),
        (
            "Do this:\n1. Count the lines in a.txt\n2. What is 2 + 2?",
            ("Count the lines in a.txt", "What is 2 + 2?"),
        ),
        (
            "1. Write a function gcd(a, b)\n2. What is 2**40?",
            ("Write a function gcd(a, b)", "What is 2**40?"),
        ),
        (
            "Do this: 1. Add up sales.csv. 2. Which port does server.ini set?",
            ("Add up sales.csv.", "Which port does server.ini set?"),
        ),
        (
            "Do this: 1. What is 2 + 2? 2. Sort names.txt. 3. Write a Python function add(a, b).",
            ("What is 2 + 2?", "Sort names.txt.", "Write a Python function add(a, b)."),
        ),
        ("Steps: (1) count the files, (2) name one.", ("count the files,", "name one.")),
        ("What is 3 * 4? And who wrote notes.md?", ("What is 3 * 4?", "And who wrote notes.md?")),
        (
            "Calculate 3 * 4; then divide the result by 9.",
            ("Calculate 3 * 4", "divide the result by 9."),
        ),
    ],
)
def test_what_the_user_wrote_as_several_parts_is_split(task: str, expected: tuple[str]) -> None:
    assert parts(task) == expected


@pytest.mark.parametrize(
    "task",
    [
        "How many lines has a.txt?",
        "Make a file todo.txt with:\n- milk\n- eggs",
        "Write a Python function that\n- checks the input\n- returns the sum",
        "Write a Python function: 1. Read the file. 2. Sort the lines.",
        "Rules: 1. Read the file. 2. Print the sum. Write a Python function that does it.",
        "Rules:\n- Read the file\n- Print the sum\nWrite a Python function that follows them.",
        "It was then that she left. Why?",
        "Explain version 1. 2. is newer",
        "What is 1. 5 plus 2. 5?",
        "Calculate 3 + 1. 2. is what?",
        "If x > 3 then print it",
        "Who maintains the project in README.md, and what is its licence?",
        "",
    ],
)
def test_what_is_one_thing_stays_one(task: str) -> None:
    assert parts(task) == (task,)


def test_there_are_never_more_parts_than_a_run_can_take() -> None:
    task = "\n".join(f"{at}. Calculate {at} + 1" for at in range(1, 20))
    found = parts(task)
    assert len(found) == MOST_PARTS
    assert "Calculate 19 + 1" in found[-1]


def test_white_space_without_end_is_read_once() -> None:
    text = f"Count the lines{' ' * 100_000}of a.txt"
    assert parts(text) == (text,)
    assert parts(f"Count the lines of a.txt{' ' * 1000}and then add 5.")[1] == "add 5."
