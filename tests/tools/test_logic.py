"""Constraints through the worker process, and what must not reach z3."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult, ToolTimeout, worker
from ryzanstein.tools.families import logic

Call = Callable[..., Awaitable[ToolResult]]
QUEENS = "q: int in 0..5\n" + "\n".join(
    f"distinct(q[i] {sign} for i in range(6))" for sign in ("", "+ i", "- i")
)
PIGEONS = "\n".join(
    [f"any(p[{i}][j] for j in range(12))" for i in range(13)]
    + [f"at_most(1, [p[i][{j}] for i in range(13)])" for j in range(12)]
)


@pytest.fixture(scope="module", autouse=True)
def workers_end() -> Iterator[None]:
    yield
    worker.close_workers()


@pytest.mark.parametrize(
    ("constraints", "text"),
    [
        ("x, y: int in 0..20\nx + y == 10\nx - y == 2", "x = 6, y = 4"),
        ("x: int\nx in [4, 5]\nx % 2 = 1", "x = 5"),
        ("x: real; 2*x = 5", "x = 5/2"),
        ("x: real\nx*x = 2; x > 0", "x = 1.414213562373"),
        ("3 <= x < 4", "x = 3\n[not declared, taken as x: int]"),
        ("a <-> not b\na", "a = True, b = False\n[not declared, taken as a: bool, b: bool]"),
        ("a, b: bool\na = not b\nb", "a = False, b = True"),
        ("p: bool\n(p -> (p && !p)) or False", "p = False"),
        ("x: int in range(3, 9)\nx // 2 == 4 and x > 8 or x == 3", "x = 3"),
        ("b: bool; n: int\nn = (3 if b else 4)\nb", "b = True, n = 3"),
        ("a, b, c: bool\nexactly(2, [a, b, c])\na xor b\nb", "a = False, b = True, c = True"),
        ("x: int; y: int\nabs(x) = 3 and x < 0\ny = max(x, 2) + min(1, x)", "x = -3, y = -1"),
        (
            "x, y: real\nx >= 0; y >= 0\nx + y <= 4\nx + 3*y <= 6\nmaximize 3*x + 5*y",
            "x = 3, y = 1\nmaximize 3*x + 5*y: 14",
        ),
        ("x: int\nx > 2\nminimize x", "x = 3\nminimize x: 3"),
        ("x: int\nx > 2\nmaximize x", "maximize x: unbounded, there is no best"),
        (
            "a -> b\nb -> c\na\nnot c\nd or e",
            "There is no solution. These contradict each other:\n- a -> b\n- b -> c\n- a\n- not c",
        ),
        (
            "(set-logic QF_LIA)(declare-const |my x| Int) ; it\n(assert (= |my x| 2))(check-sat)",
            "my x = 2",
        ),
        ("(declare-fun f (Int) Int)(assert (= (f 1) 3))", "f = [else -> 3]"),
        ('(declare-const s String)(assert (= s "a) ;"))', 's = "a) ;"'),
    ],
)
async def test_constraints_are_solved(call: Call, constraints: str, text: str) -> None:
    assert (await call("solve_constraints", constraints)).text == text


async def test_all_solutions_are_listed_and_correct(call: Call) -> None:
    found = await call("solve_constraints", {"constraints": QUEENS, "solutions": 10})
    boards = [[one[f"q[{i}]"] for i in range(6)] for one in found.data["solutions"]]
    assert len(boards) == 4 and found.data["complete"] and "these are all" in found.text
    for board in boards:
        for difference in (0, 1, -1):
            assert len({row + difference * i for i, row in enumerate(board)}) == 6
    one = await call("solve_constraints", {"constraints": "x: int in 1..9", "solutions": 2})
    assert "[2 found; there may be more]" in one.text


@pytest.mark.parametrize(
    ("formula", "assumptions", "text"),
    [
        ("(p -> q) and (q -> r) -> (p -> r)", "p, q, r: bool", "Valid: it always holds."),
        ("(p -> q) -> (q -> p)", "p, q: bool", "Not valid. Counterexample: p = False, q = True"),
        ("x*x >= 0", "x: real", "Valid: it always holds."),
        ("x**2 > 4", "x: int\nx > 2", "Valid: it always holds."),
        ("x**2 > 4", "x: int\nx = 2", "Not valid. Counterexample: x = 2"),
        ("not (a and b) <-> (not a or not b)", "a, b: bool", "Valid: it always holds."),
        ("x = 7", "x: int\nx > 2; x < 1", "The assumptions contradict each other"),
    ],
)
async def test_formulas_are_proved_or_refuted(
    call: Call, formula: str, assumptions: str, text: str
) -> None:
    found = await call("prove_formula", {"formula": formula, "assumptions": assumptions})
    assert found.text.startswith(text)


async def test_division_rounds_down_and_by_zero_means_nothing() -> None:
    from ryzanstein.tools.solver import check_satisfiable, prove_formula, solve_constraints

    for a, b in itertools.product(range(-7, 8), (-3, -2, -1, 1, 2, 3)):
        known = f"x, y: int\nx == {a}\ny == {b}\n"
        right = f"x // y == {a // b}\nx % y == {a % b}\nx // {b} == {a // b}\nx % {b} == {a % b}"
        assert check_satisfiable(known + right, 5)["status"] == "sat", (a, b)
    solved = solve_constraints("y: int in -5..5\n10 / y == 5", 9, 5)
    assert solved["solutions"] == [{"y": 2}] and solved["complete"]
    assert check_satisfiable("10 // y == 5\ny == 0", 5)["status"] == "unsat"
    guarded = "y: int in 0..0\n(10 // y if y != 0 else 0) == 0\ny == 0 or 10 // y == 5"
    assert check_satisfiable(guarded, 5)["status"] == "sat"
    assert solve_constraints("y: int in 0..5\nmaximize 10 // y", 1, 5)["solutions"] == [{"y": 1}]
    whole = prove_formula("x // y * y + x % y == x", "x, y: int\ny != 0", 5)
    assert whole["status"] == "valid"


async def test_contradictions_are_found(call: Call) -> None:
    found = await call("check_satisfiable", "p -> q\np\nnot q\nr")
    assert found.data["status"] == "unsat" and found.data["core"] == ["p -> q", "p", "not q"]
    assert "can hold together" in (await call("check_satisfiable", "x: int; x > 1")).text


@pytest.mark.parametrize(
    "constraints",
    [
        "__import__('os').system('id')",
        "x.__class__ == 2",
        "open('/etc/passwd')",
        "'text' == x",
        "lambda: 1",
        "f'{x}'",
        "[x for y in z]",
        "x := 3",
        "x in [1",
        "x = [1]",
        "x +",
        "((((",
        "<->",
        "p -> -> q",
        "x -> 3",
        "x % 0 == 1",
        "x % 1.5 == 1",
        "range(x) = 3",
        "sum(1 for i in range(10**9)) = x",
        "2**(10**9) = x",
        "x ** 10**10**10 = 2",
        "max() = 1",
        "distinct() ",
        "abs(1, 2) = 1",
        "x: int",
        "x: int in y\nx = 1",
        "hello world",
        "(" * 900 + "p" + ")" * 900,
        "-" * 3000 + "x == 1",
        "\n".join(["x > 1"] * 501),
        '(declare-const x Int)(include "/etc/passwd")',
        "(declare-const x Int)(eval x)",
        "(declare-const x Int)(push 1)",
        "(assert (> x",
        "(assert (> undeclared 1))",
        "(assert true))",
        "(declare-const x Int) stray",
    ],
)
async def test_what_is_no_constraint_is_refused(call: Call, constraints: str) -> None:
    with pytest.raises(ToolError) as caught:
        await call("solve_constraints", constraints)
    assert caught.value.hint


async def test_z3_opens_no_file(call: Call, tmp_path: Path) -> None:
    target = tmp_path / "written"
    option = f'(set-option :regular-output-channel "{target}")'
    await call("solve_constraints", f"{option}(declare-const x Int)(assert (> x 1))(check-sat)")
    assert not target.exists()


async def test_what_cannot_be_decided_ends_and_is_said(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(logic, "_SHARE", 0.03)
        found = await call("solve_constraints", PIGEONS)
    assert found.data["status"] == "unknown" and "took too long" in found.text
    monkeypatch.setattr(logic, "_SECONDS", 1.0)
    for tool, args in (
        ("check_satisfiable", "a, b, c: int in 1..99999\na**3 + b**3 == c**3"),
        ("prove_formula", {"formula": "a**3 + b**3 != c**3", "assumptions": "a > 0; b > 0; c > 0"}),
    ):
        said: Any
        try:
            said = (await call(tool, args)).text
        except ToolTimeout as error:
            said = str(error)
        assert "could not be decided" in said or "was stopped" in said
