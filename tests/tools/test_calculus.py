"""The tools of mathematics, through the worker process as agents call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest

from ryzanstein.errors import ToolError
from ryzanstein.tools import ToolResult, ToolTimeout, units, worker
from ryzanstein.tools.distributions import PARAMETERS, compute_distribution
from ryzanstein.tools.families import mathematics

Call = Callable[..., Awaitable[ToolResult]]


@pytest.fixture(scope="module", autouse=True)
def workers_end() -> Iterator[None]:
    yield
    worker.close_workers()


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("simplify_expression", "sin(x)**2 + cos(x)**2", "1"),
        ("simplify_expression", {"expression": "x^2 - 1", "form": "factor"}, "(x - 1)*(x + 1)"),
        (
            "simplify_expression",
            {"expression": "(x+1)^3", "form": "expand"},
            "x**3 + 3*x**2 + 3*x + 1",
        ),
        ("differentiate", {"expression": "x**3", "order": 2}, "6*x"),
        ("differentiate", {"expression": "x*y", "variable": "y"}, "x"),
        ("differentiate", "7", "0"),
        ("integrate", "2x", "x**2"),
        ("integrate", {"expression": "x^2", "lower": "0", "upper": "3"}, "9"),
        (
            "integrate",
            {"expression": "x**x", "lower": "1", "upper": "2"},
            "2.05044623453473\n[found numerically]",
        ),
        ("compute_limit", {"expression": "sin(x)/x", "to": "0"}, "1"),
        ("compute_limit", "(1 + 1/n)**n", "E\n= 2.71828182845905"),
        ("compute_limit", {"expression": "1/x", "to": "0", "side": "left"}, "-oo"),
        ("calculate_matrix", "[[1, 2], [3, 4]]", "-2"),
        (
            "calculate_matrix",
            {"matrix": "[[2, 0], [0, 4]]", "operation": "inverse"},
            "[[1/2, 0], [0, 1/4]]",
        ),
        (
            "calculate_matrix",
            {"matrix": "[[1, 2], [3, 4]]", "operation": "solve", "other": "[5, 11]"},
            "[1, 2]",
        ),
        (
            "calculate_matrix",
            {"matrix": "[[2, 0], [0, 3]]", "operation": "eigenvectors"},
            "[(2, [1, 0]), (3, [0, 1])]",
        ),
        ("solve_equation", "x^2 - 5x + 6 = 0", "x = 2\nx = 3"),
        ("solve_equation", "x + y = 10; x - y = 2", "x = 6, y = 4"),
        ("solve_equation", {"equations": "x**4 = 1", "real": True}, "x = -1\nx = 1"),
        ("solve_equation", {"equations": "a*x = b", "unknowns": ["x"]}, "x = b/a"),
        ("solve_equation", "x**2 < 4", "(-2 < x) & (x < 2)"),
        (
            "solve_equation",
            "cos(x) = x",
            "x = 0.739085133215161\n[found numerically; there may be more]",
        ),
        ("solve_equation", {"equations": "x**2 = -1", "real": True}, "There is no solution."),
    ],
)
async def test_formulas_are_worked_out(call: Call, name: str, args: Any, text: str) -> None:
    assert (await call(name, args)).text == text


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("differentiate", "x*y", "With respect to which of x, y?"),
        ("differentiate", {"expression": "x", "variable": "x y"}, "no name of a variable"),
        ("differentiate", "[1, 2]", "no single expression"),
        ("integrate", "x**x", "no antiderivative"),
        ("integrate", {"expression": "x", "lower": "0"}, "bounds is missing"),
        ("calculate_matrix", {"matrix": "[[1, 2]]", "operation": "inverse"}, "must be square"),
        ("calculate_matrix", {"matrix": "[[1, 2], [3]]"}, "no matrix"),
        ("calculate_matrix", {"matrix": "[[1]]", "operation": "add"}, "second matrix"),
        ("calculate_matrix", {"matrix": "[i for i in range(500)]"}, "500 cells"),
        ("solve_equation", "x = x + 1", "always False"),
        ("solve_equation", "2 + 3", "0 unknowns"),
        ("analyze_number", "1.5", "no whole number"),
        ("evaluate_expression", "factorial(10**9)", "cannot be written out"),
        ("evaluate_expression", "binomial(10**9, 5 * 10**8)", "cannot be written out"),
        ("evaluate_expression", "10**10**10", "too large to write out"),
        ("evaluate_expression", "(" * 2000 + "1" + ")" * 2000, "nested|parenthes"),
        ("evaluate_expression", "-" * 4900 + "1", "nested|too much memory|recursion|many"),
        ("evaluate_expression", "sin(" * 900 + "x" + ")" * 900, "nested|memory|parenthes"),
        ("compute_distribution", {"distribution": "normal", "parameters": {"sd": -1}}, "sd > 0"),
        (
            "compute_distribution",
            {"distribution": "binomial", "parameters": {"n": 3}},
            "takes n, p",
        ),
        ("convert_units", {"value": 1, "source": "m", "target": "s"}, "m measures m, s s"),
        ("convert_units", {"value": 1, "source": "metre per", "target": "s"}, "no unit"),
        ("convert_units", {"value": 1e300, "source": "Qm", "target": "qm"}, "too large"),
    ],
)
async def test_what_cannot_be_done_is_said(call: Call, name: str, args: Any, said: str) -> None:
    with pytest.raises(ToolError, match=said) as caught:
        await call(name, args)
    assert caught.value.hint


async def test_numbers_are_taken_apart(call: Call) -> None:
    found = await call("analyze_number", "360")
    assert found.text.startswith("360 is not prime.\nFactors: 2^3 * 3^2 * 5\ndivisors: 24\n")
    assert (await call("analyze_number", "2**61 - 1")).data["prime"] is True
    large = await call("analyze_number", "(10**40 + 121) * (10**41 + 109)")
    assert large.data["factored"] is False and "too large to factor" in large.text
    assert "-12 is not prime.\nFactors: -2^2 * 3" in (await call("analyze_number", "-12")).text


async def test_formulas_that_explode_are_stopped(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mathematics, "_SECONDS", 1.0)
    with pytest.raises(ToolTimeout):
        await call("simplify_expression", {"expression": "(a+b+c+d+e)^90", "form": "expand"})


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        ("100", "km/h", "mph", "1000000000/16093440"),
        ("212", "degF", "°C", "100"),
        ("1", "GiB", "MB", "1073741824/1000000"),
        ("5", "feet", "cm", "1524/10"),
        ("1", "kWh", "J", "3600000"),
        ("1", "N*m", "J", "1"),
        ("9.5", "m/s^2", "mm/s²", "9500"),
        ("1", "km**2", "ha", "100"),
        ("3", "hours", "min", "180"),
        ("1", "1/s", "Hz", "1"),
        ("8", "Mbit/s", "MB/s", "1"),
        ("1", "in", "mm", "254/10"),
    ],
)
def test_units_are_converted_exactly(value: str, source: str, target: str, result: str) -> None:
    assert units.convert(Fraction(value), source, target) == Fraction(result)


async def test_the_tool_rounds_for_reading(call: Call) -> None:
    args = {"value": 100, "source": "km/h", "target": "mph"}
    assert (await call("convert_units", args)).text == "100 km/h = 62.1371192237 mph"


@pytest.mark.parametrize(
    ("name", "parameters", "at", "density", "below", "quantile"),
    [
        ("normal", {}, 1.96, 0.0584409443335, 0.975002104852, 1.95996398454),
        ("binomial", {"n": 10, "p": 0.5}, 3, 0.1171875, 0.171875, 8),
        ("poisson", {"rate": 3}, 2, 0.224041807655, 0.423190081127, 7),
        ("student_t", {"df": 10}, 2.228, 0.0423946247064, 0.974994114091, 2.22813885199),
        ("chi_squared", {"df": 3}, 7.81, 0.0224551329601, 0.94989394365, 9.34840360450),
        ("f", {"df1": 2, "df2": 10}, 4.1, 0.0275151365281, 0.949922451519, 5.45639552590),
        ("beta", {"a": 2, "b": 3}, 0.5, 1.5, 0.6875, 0.805879550316),
        ("gamma", {"shape": 2, "rate": 1}, 1, 0.367879441171, 0.264241117657, 5.57164339094),
        ("geometric", {"p": 0.2}, 3, 0.128, 0.488, 17),
        ("exponential", {"rate": 2}, 1, 0.270670566473, 0.864664716763, 1.84443972706),
        ("uniform", {}, 0.3, 1, 0.3, 0.975),
        (
            "hypergeometric",
            {"population": 50, "successes": 5, "draws": 10},
            1,
            0.431337197229,
            0.741899979233,
            3,
        ),
    ],
)
def test_distributions_agree_with_published_tables(
    name: str,
    parameters: dict[str, float],
    at: float,
    density: float,
    below: float,
    quantile: float,
) -> None:
    found = compute_distribution(name, parameters, at, 0.975)
    assert found["density"] == pytest.approx(density, rel=1e-9)
    assert found["below"] == pytest.approx(below, rel=1e-9)
    assert found["quantile"] == pytest.approx(quantile, rel=1e-9)


def test_every_distribution_is_offered() -> None:
    from ryzanstein.tools import get_tool

    offered = get_tool("compute_distribution").input_schema["properties"]["distribution"]["enum"]
    assert set(offered) == set(PARAMETERS)
    below = compute_distribution("binomial", {"n": 3, "p": 0.5}, -1, None)
    assert (below["density"], below["below"], below["above"]) == (0, 0, 1)
