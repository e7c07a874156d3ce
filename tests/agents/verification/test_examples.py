from __future__ import annotations

import pytest

from ryzanstein.agents.verification.examples import (
    examples,
    function_name,
    parsed_asserts,
    stub,
)


def test_a_task_states_its_examples_in_several_ways() -> None:
    task = (
        "Write fibonacci(n), with fibonacci(0) = 0 and fibonacci(7) == 13.\n"
        ">>> fibonacci(2)\n1\n"
        "assert fibonacci(3) == 2\n"
    )
    assert set(examples(task)) == {
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
    assert examples(task) == []


def test_the_function_is_the_first_name_with_arguments() -> None:
    assert function_name("I need a function word_counts(text), please") == "word_counts"
    assert function_name("no function here") == ""


def test_only_asserts_that_parse_and_call_the_function_are_kept() -> None:
    text = "assert f(1) == 2\nassert f(1) == 2\nassert f(\nprint(f(2))\nassert g(1) == 1\n"
    assert parsed_asserts(text, "f") == ["assert f(1) == 2"]


PLURAL = """Complete this function.
```python
from typing import List

def helper(x):
    return x

def plural(words: List[str], n: int = 2) -> str:
    \"\"\"Joins words.
    >>> plural(["a"], 1)
    'a'
    >>> plural(["a", "b"]) == "a b"
    True
    plural([], 3) => ""
    plural(["c", "d"], 1) returns "c"    # the first
    plural(["x"], 5) ➞ "x" - 1
    plural(aa) == 3
    For words = ["q"], n = 1 the output should be "q"
    Input: ["w"], 9
    Output: "w"
    \"\"\"
```"""


def test_a_stub_ends_where_its_body_begins() -> None:
    found = stub(PLURAL)
    assert found is not None
    assert (found.name, found.parameters) == ("plural", ("words", "n"))
    assert found.annotations == ("List[str]", "int")
    assert found.source.startswith("from typing") and found.source.endswith('"""\n')


@pytest.mark.parametrize(
    "task",
    [
        "Write a function f(x)",
        "Fix this:\n```python\ndef f(x):\n    return x\n```",
        "```python\ndef f(x:\n```",
        "```python\n```",
        "",
    ],
)
def test_what_has_a_body_or_does_not_parse_is_no_stub(task: str) -> None:
    assert stub(task) is None


def test_a_stub_may_stand_without_a_fence_and_say_pass() -> None:
    found = stub("Please fill in:\ndef f(x):\n    import math\n    ...\n")
    assert found is not None
    assert found.source == "def f(x):\n    import math\n"


def test_examples_are_found_in_every_form_and_doubtful_ones_left_out() -> None:
    assert set(examples(PLURAL)) == {
        """assert plural(['a'], 1) == 'a'""",
        """assert plural(['a', 'b']) == 'a b'""",
        """assert plural([], 3) == \"\"""",
        """assert plural(["c", "d"], 1) == "c\"""",
        """assert plural(words = ["q"], n = 1) == "q\"""",
        """assert plural(["w"], 9) == "w\"""",
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("f(3) -> 19 - 5 - 6 = 8", "assert f(3) == 8"),
        ("f(1) ==> True", "assert f(1) == True"),
        ("f(1) => true", "assert f(1) == True"),
        ("f(2)   # returns 'x'", "assert f(2) == 'x'"),
        (
            "f([1, [2]], (3,)) should return {'a': (1, 2)}",
            "assert f([1, [2]], (3,)) == {'a': (1, 2)}",
        ),
        ('f("a)b") == "c"', 'assert f("a)b") == "c"'),
        ("f(-1.5) gives -2e3", "assert f(-1.5) == -2e3"),
        (">>> f(\n... 1)\n2", "assert f(1) == 2"),
    ],
)
def test_a_result_is_read_as_people_write_it(line: str, expected: str) -> None:
    assert examples(line) == [expected]


@pytest.mark.parametrize(
    "line",
    ["f(x) == g(x)", "f(1) isn't 2", 'f(1) == ""a"', "f(1", "f(1) = [2", ">>> f(1)\n>>> f(2)"],
)
def test_what_states_no_result_is_no_example(line: str) -> None:
    assert examples(line) == []
