from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import anyio
import psutil
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult, ToolTimeout, worker, worker_main
from ryzanstein.tools.exact import evaluate
from ryzanstein.tools.exact_names import CONSTANTS, FUNCTIONS, METHODS
from ryzanstein.tools.families import mathematics

Call = Callable[..., Awaitable[ToolResult]]


@pytest.fixture(scope="module", autouse=True)
def workers_end() -> Iterator[None]:
    yield
    worker.close_workers()


@pytest.mark.parametrize(
    ("expression", "result", "decimal"),
    [
        ("17 * 23", "391", ""),
        ("0.1 + 0.2", "3/10", "0.3"),
        ("1/3 + 1/6", "1/2", "0.5"),
        ("2^10", "1024", ""),
        ("7 // 2", "3", ""),
        ("-7 % 3", "2", ""),
        ("10! / 8!", "90", ""),
        ("0x10 + 1e3", "1016", ""),
        ("2x + 3 = 11", "x = 4", ""),
        ("x**2 = 4", "x = -2 or x = 2", ""),
        ("x^2 - 2 == 0", "x = -sqrt(2) or x = sqrt(2)", "-1.4142135623731, 1.4142135623731"),
        ("solve(2*x + 3 = 11, x)", "[4]", ""),
        ("solve([x + y - 3, x - y - 1], [x, y])", "{x: 2, y: 1}", ""),
        ("sqrt(8)", "2*sqrt(2)", "2.82842712474619"),
        ("integrate(sin(x)**2, (x, 0, pi))", "pi/2", "1.5707963267949"),
        ("diff(x**3, x)", "3*x**2", ""),
        ("limit(sin(x)/x, x, 0)", "1", ""),
        ("summation(k, (k, 1, 100))", "5050", ""),
        ("sum(k**2 for k in range(1, 11) if k % 2 == 0)", "220", ""),
        ("[i*j for i in range(2) for j in [1, 2]]", "[0, 0, 1, 2]", ""),
        ("factorint(360)", "{2: 3, 3: 2, 5: 1}", ""),
        ("isprime(97)", "True", ""),
        ("pow(3, 1000, 7)", "4", ""),
        ("round(2.675, 2)", "67/25", "2.68"),
        ("mean([1, 2, 3, 4])", "5/2", "2.5"),
        ("median(3, 1, 2)", "2", ""),
        ("max(3, 4) - min([1, 2])", "3", ""),
        ("a = 3; b = 4\nsqrt(a**2 + b**2)", "5", ""),
        ("from sympy import *\nx = symbols('x')\nprint(expand((x + 1)**2).subs(x, 2))", "9", ""),
        ("import math\nmath.gcd(12, 18) + sp.lcm(2, 3)", "12", ""),
        ("Matrix([[1, 2], [3, 4]]).det()", "-2", ""),
        ("Matrix([[1, 2], [3, 4]])[1, 0]", "3", ""),
        ("f = Function('f'); dsolve(Eq(f(x).diff(x), f(x)), f(x))", "Eq(f(x), C1*exp(x))", ""),
        ("3 × 4 ÷ 2 − 1", "5", ""),
        ("100!", str(sympy.factorial(100)), ""),
        ("1 < 2 and not 3 == 4", "True", ""),
        ("p, q = 2, 3\np*q", "6", ""),
    ],
)
def test_results_are_exact(expression: str, result: str, decimal: str) -> None:
    assert evaluate(expression) == {"result": result, "decimal": decimal}


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('id')",
        "().__class__.__bases__",
        "(1).__class__",
        "x.__init__",
        "open('/etc/passwd')",
        "eval('1')",
        "exec('1')",
        "simplify('__import__(\"os\")')",
        "sympify('1')",
        "S('1')",
        "lambdify(x, x)",
        "parse_expr('1')",
        "symbols('x y; import os')",
        "Function(\"__import__('os')\")",
        "Matrix('x')",
        "x.subs('x', 'y')",
        "lambda: 1",
        "import os",
        "from os import system",
        "while True: pass",
        "def f(): pass",
        "f'{1}'",
        "x := 1",
        "globals()",
        "sympy.core.sys.modules",
        "sympy.os",
        "x.func.__globals__",
        "'text'",
        "solve(x, check='no')",
        "hello world",
        "",
        "# nothing",
        "\0",
    ],
)
def test_nothing_but_mathematics_is_read(expression: str) -> None:
    with pytest.raises(ToolError):
        evaluate(expression)


@pytest.mark.parametrize(
    "expression", ["1/0", "5 % 0", "9**9**9", "range(10**9)", "sum(range(10**7))"]
)
def test_what_has_no_result_is_refused_at_once(expression: str) -> None:
    with pytest.raises(ToolError):
        evaluate(expression)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="x1.+-*/()=,[]'_ eEpi!^%<>:;sqrt\n", max_size=40))
def test_any_text_is_evaluated_or_refused(text: str) -> None:
    if "**" in text or "^" in text or "!" in text:
        return  # towers of powers are the time limit's matter
    try:
        assert isinstance(evaluate(text)["result"], str)
    except (ToolError, TypeError, ValueError, AttributeError, IndexError, KeyError):
        return  # the worker answers with the library's complaint


def test_every_name_exists_in_sympy() -> None:
    assert [
        name for name in (*FUNCTIONS.values(), *CONSTANTS.values()) if not hasattr(sympy, name)
    ] == []
    kinds = (sympy.Expr, sympy.MatrixBase, sympy.Poly, dict)
    assert [name for name in METHODS if not any(hasattr(kind, name) for kind in kinds)] == []
    assert not [name for name in METHODS if name.startswith("_")]


async def test_the_tool_gives_result_and_decimal(call: Call) -> None:
    result = await call("evaluate_expression", "sqrt(2) * sqrt(8) / 3")
    assert result.text == "4/3\n= 1.33333333333333"
    with pytest.raises(ToolError, match="Use run_python for real code"):
        await call("evaluate_expression", "lambda: 1")
    with pytest.raises(ToolError, match="Did you mean sqrt"):
        await call("evaluate_expression", "sqr(4)")
    with pytest.raises(ToolError, match=r"AttributeError|TypeError"):
        await call("evaluate_expression", "(3).det()")


async def test_what_takes_too_long_is_killed_and_the_next_works(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mathematics, "_SECONDS", 1.0)
    with pytest.raises(ToolTimeout, match="longer than 1 s"):
        await call("evaluate_expression", "nextprime(10**4000)")
    monkeypatch.setattr(mathematics, "_SECONDS", 20.0)
    assert (await call("evaluate_expression", "1 + 1")).text == "2"


def workers() -> list[psutil.Process]:
    """This process's children that calculate; other tests' modules may have children too."""
    name = worker_main.__name__
    return [child for child in psutil.Process().children() if name in child.cmdline()]


async def test_a_worker_that_dies_is_replaced(call: Call) -> None:
    await call("evaluate_expression", "1 + 1")
    (child,) = workers()

    async def kill() -> None:
        await anyio.wait_all_tasks_blocked()
        child.kill()

    with pytest.raises(ToolError, match="too much memory"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            try:
                await call("evaluate_expression", "nextprime(10**4000)")
            except ToolError as error:
                tasks.cancel_scope.cancel()
                raised = error
        raise raised
    assert (await call("evaluate_expression", "1 + 1")).text == "2"


@pytest.mark.parametrize("error", [MemoryError, RecursionError, OverflowError("too big")])
def test_the_worker_answers_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(expression: str) -> None:
        raise error

    monkeypatch.setattr("ryzanstein.tools.exact.evaluate", fail)
    answer = worker_main._answer({"function": "evaluate", "arguments": {"expression": "1"}})
    assert answer["error"] and answer["hint"]


async def test_the_worker_is_kept_and_ends_with_its_parent(call: Call) -> None:
    worker.close_workers()
    await call("evaluate_expression", "1 + 1")
    first = workers()
    await call("evaluate_expression", "1 + 2")
    assert workers() == first
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(call, "evaluate_expression", "2 + 2")
    assert len(worker._idle) <= 2
    worker.close_workers()
    assert not any(child.is_running() for child in first)


async def test_a_worker_of_a_large_process_is_kept(call: Call) -> None:
    worker.close_workers()
    held = b"x" * (700 << 20)
    await call("evaluate_expression", "1 + 1")
    assert len(held) == 700 << 20
    assert len(worker._idle) == 1


async def test_a_worker_that_died_idle_is_replaced(call: Call) -> None:
    worker.close_workers()
    await call("evaluate_expression", "1 + 1")
    (idle,) = worker._idle
    idle._process.kill()
    idle._process.wait()
    assert (await call("evaluate_expression", "1 + 2")).text == "3"


def test_a_worker_that_grew_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_main, "_KEPT_BYTES", 1 << 20)
    assert worker_main._is_large()
    large = worker._Worker()
    worker._keep(large, last=True)
    assert large not in worker._idle and large._process.poll() is not None
