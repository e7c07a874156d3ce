"""Exact mathematics."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.toolbox import tool

_SECONDS = 10.0


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
    found = await worker.call("evaluate", {"expression": expression}, seconds=_SECONDS)
    decimal = found["decimal"]
    text = found["result"] if not decimal else f"{found['result']}\n= {decimal}"
    return Output(text, found)
