from __future__ import annotations

import pytest

from ryzanstein.agents.running import prompting, step
from ryzanstein.agents.running.ground import Place, find_names, head


@pytest.mark.parametrize(
    "task",
    [
        "Write a Python function that sorts a list",
        "I need a class for a stack",
        "The function in a.py is wrong. Show me a corrected version.",
        "implement a generator of primes",
    ],
)
def test_a_task_for_code_is_seen(task: str) -> None:
    assert prompting.asks_for_code(task)


@pytest.mark.parametrize(
    "task",
    [
        "Who wrote the function in a.py?",
        "Write a letter to Ann",
        "What is my locker code?",
        "Show me the code of the gate",
        "Write a bash script that renames files",
        "Write the SQL code for this",
        "Write a program that prints 1 and save it as one.py",
    ],
)
def test_another_task_is_not_taken_for_one(task: str) -> None:
    assert not prompting.asks_for_code(task)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("How many days are there until May?", True),
        ("What is 17.5% of 40?", True),
        ("Add up the amount column", True),
        ("Who maintains the project?", False),
        ("Remember that my code is 4417.", False),
    ],
)
def test_a_task_to_compute_is_seen(task: str, expected: bool) -> None:
    assert prompting.asks_to_compute(task) is expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        *((said, True) for said in ("hello", "Thanks!", "Hi there!", "Vielen Dank.", "good night")),
        *((said, False) for said in ("hello world in rust", "Thank Ann in a letter", "", "hihi")),
        ("Hi, how many lines has a.py?", False),
        (f"hello {'hello ' * 2000}", False),
    ],
)
def test_small_talk_is_seen(task: str, expected: bool) -> None:
    assert prompting.is_small_talk(task) is expected


PLACE = Place(("README.md", "docs/README.md", "src/median.py", "shop.db", "logs/app.log"), True)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("What does README.md say?", ["README.md"]),
        ("Look at median.py.", ["src/median.py"]),
        ("Sum up ./logs/app.log and shop.db", ["logs/app.log", "shop.db"]),
        ("What is in the src folder, and in docs/?", ["src", "docs"]),
        ("What is 3.5 of 7/8?", []),
        ("Read nowhere.txt", []),
    ],
)
def test_names_in_a_task_are_found_where_they_exist(task: str, expected: list[str]) -> None:
    assert find_names(task, PLACE) == expected


def test_a_name_that_is_there_twice_is_not_guessed() -> None:
    place = Place(("a/x.txt", "b/x.txt"), True)
    assert find_names("read x.txt", place) == []


def test_the_head_of_a_long_text_says_how_long_it_is() -> None:
    text = "\n".join(f"line {i}" for i in range(500))
    assert "500 lines" in head(text)
    assert head("short\n") == "short"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("git_inspect status", "status"),
        ("`log -n 5`", "log -n 5"),
        ('"README.md"', "README.md"),
        ("git_inspect('count')", "count"),
        ("git_inspect: count", "count"),
        ("  plain  ", "plain"),
        ("", ""),
    ],
)
def test_a_line_loses_what_a_model_puts_around_it(line: str, expected: str) -> None:
    assert step.bare(line, "git_inspect") == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("Make a file todo.txt with three lines", True),
        ("Save the result as out/report.md", True),
        ("Replace the port in config/server.ini by 80", True),
        ("Add up the amount column in data/sales.csv.", False),
        ("How many lines in logs/app.log are errors?", False),
        ("Which file mentions Kestrel?", False),
        ("Remember that my code is 4417.", False),
    ],
)
def test_a_file_is_only_written_where_that_is_asked_for(task: str, expected: bool) -> None:
    assert prompting.asks_to_write(task) is expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("rounded to two decimals", 2),
        ("to 3 decimal places", 3),
        ("How much do I owe, to the cent?", 2),
        ("What is 2 + 2?", None),
    ],
)
def test_the_decimals_a_task_asks_for(task: str, expected: int | None) -> None:
    assert prompting.decimals(task) == expected


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("Remember that my code is 4417.", "My code is 4417."),
        ("Please remember the gate is green", "The gate is green"),
        ("Note for later: the key is under the mat", "The key is under the mat"),
        ("Keep in mind: tea at 4", "Tea at 4"),
        ("Do you remember my code?", ""),
        ("Remember my code is 4417. What is 2 + 2?", ""),
        ("Write a note", ""),
    ],
)
def test_the_order_to_keep_a_fact_keeps_the_users_words(task: str, expected: str) -> None:
    assert prompting.to_remember(task) == expected
