"""Evaluating, simplifying and solving."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.mathematics import (
    Expression,
    calculated,
    in_worker,
    results_text,
)
from ryzanstein.tools.toolbox import tool


@tool(
    title="Evaluate an expression",
    read_only=True,
    example={"expression": "solve(x**2 - 5*x + 6, x)"},
    main=("expression", "line"),
)
async def evaluate_expression(
    ctx: ToolContext,
    expression: Annotated[
        str,
        Field(
            min_length=1,
            max_length=5000,
            description="such as 17 * 23, sqrt(8), solve(x**2 = 4, x) or integrate(sin(x), x)",
        ),
    ],
) -> Output:
    """Calculate exactly: arithmetic, equations, derivatives, integrals, primes.

    Use for every calculation with numbers or formulas. Write * for times, ** for powers. Knows
    solve, simplify, expand, factor, diff, integrate, limit, summation, Matrix, gcd, isprime,
    factorint, binomial and more.

    Raises:
        ToolError: The expression cannot be read, or its evaluation failed or took too long.
    """
    return await calculated("evaluate", expression=expression)


@tool(
    title="Simplify an expression",
    read_only=True,
    example={"expression": "(x**2 - 1)/(x - 1)"},
    main=("expression", "line"),
)
async def simplify_expression(
    ctx: ToolContext,
    expression: Expression,
    form: Annotated[
        Literal[
            "simplify",
            "expand",
            "factor",
            "cancel",
            "apart",
            "together",
            "trigonometric",
            "rationalize",
        ],
        Field(description="how to write it"),
    ] = "simplify",
) -> Output:
    """Simplify, expand or factor a formula.

    Use to multiply out brackets, to factor a polynomial, for partial fractions (apart), a common
    denominator (together) or trigonometric identities.

    Raises:
        ToolError: The expression cannot be read, or its evaluation failed or took too long.
    """
    return await calculated("simplify_expression", expression=expression, form=form)


@tool(
    title="Solve equations",
    read_only=True,
    example={"equations": "x + y = 10; x - y = 2"},
    main=("equations", "line"),
)
async def solve_equation(
    ctx: ToolContext,
    equations: Annotated[
        str,
        Field(
            min_length=1,
            max_length=5000,
            description="one equation, or several separated by ; such as x + y = 3; x - y = 1",
        ),
    ],
    unknowns: Annotated[
        tuple[Annotated[str, Field(max_length=40)], ...],
        Field(max_length=20, description="what to solve for; left out: every letter"),
    ] = (),
    real: Annotated[bool, Field(description="only real solutions")] = False,
) -> Output:
    """Solve an equation, an inequality or a system of equations for its unknowns.

    Use to find x. Exact where there is a formula, else one root found numerically.

    Raises:
        ToolError: An equation cannot be read, or no solution was found in time.
    """
    parts = [part for part in equations.replace("\n", ";").split(";") if part.strip()]
    found = await in_worker("solve_equation", equations=parts, unknowns=unknowns, real=real)
    if "text" in found:
        return Output(found["text"], found)
    lines = [
        ", ".join(f"{name} = {_line(value)}" for name, value in one.items())
        for one in found["solutions"]
    ]
    lines.append(f"[{found['note']}]" if "note" in found else "")
    return Output("\n".join(filter(None, lines)) or "There is no solution.", found)


def _line(value: dict[str, str]) -> str:
    return results_text(value).replace("\n", " ")
