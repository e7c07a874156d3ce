"""Whole numbers, units and probability distributions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools import units
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.mathematics import in_worker
from ryzanstein.tools.toolbox import tool

_Distribution = Literal[
    "normal",
    "exponential",
    "uniform",
    "student_t",
    "chi_squared",
    "f",
    "beta",
    "gamma",
    "binomial",
    "geometric",
    "hypergeometric",
    "poisson",
]
_Unit = Annotated[str, Field(min_length=1, max_length=60)]


@tool(
    title="Analyze a number",
    read_only=True,
    example={"number": "360"},
    main=("number", "line"),
)
async def analyze_number(
    ctx: ToolContext,
    number: Annotated[
        str, Field(min_length=1, max_length=2000, description="a whole number, or 2**61 - 1")
    ],
) -> Output:
    """Factor a whole number and tell whether it is prime.

    Use for prime factors, divisors, Euler's totient, and the next and previous prime.

    Raises:
        ToolError: This is no whole number, or it took too long.
    """
    found = await in_worker("analyze_number", number=number)
    powers = [base if power == 1 else f"{base}^{power}" for base, power in found["factors"].items()]
    product = " * ".join(powers) or found["number"]
    kind = "prime" if found["prime"] else "not prime"
    sign = "-" if found["number"].startswith("-") and powers else ""
    lines = [f"{found['number']} is {kind}.", f"Factors: {sign}{product}"]
    if not found["factored"]:
        lines.append("[the last factor is composite and too large to factor here]")
    labels = ("divisors", "divisor_sum", "totient", "next_prime", "previous_prime")
    lines += [f"{name.replace('_', ' ')}: {found[name]}" for name in labels if found.get(name)]
    return Output("\n".join(lines), found)


@tool(
    title="Convert units",
    read_only=True,
    example={"value": 100, "source": "km/h", "target": "mph"},
    main=("value", "json"),
)
async def convert_units(
    ctx: ToolContext,
    value: Annotated[float, Field(ge=-1e300, le=1e300, description="how many")],
    source: Annotated[_Unit, Field(description="its unit, such as km/h, kg, ft, GiB, degF")],
    target: Annotated[_Unit, Field(description="the unit wanted")],
) -> Output:
    """Convert a value from one unit of measurement to another.

    Use for lengths, weights, volumes, speeds, temperatures, energy, pressure, data sizes and what
    is made of them, such as kg*m/s^2.

    Raises:
        ToolError: A unit is not known, or the two measure different things.
    """
    if not math.isfinite(value):
        raise ToolError(f"{value} is no number to convert.", hint="Give a finite number.")
    exact = units.convert(Fraction(repr(value)), source.strip(), target.strip())
    try:
        result = float(exact)
    except OverflowError:
        raise ToolError("The result is too large.", hint="Use a larger target unit.") from None
    text = f"{value:.12g} {source.strip()} = {result:.12g} {target.strip()}"
    return Output(text, {"value": result, "unit": target.strip()})


@tool(
    title="Compute a distribution",
    read_only=True,
    example={"distribution": "normal", "parameters": {"mean": 100, "sd": 15}, "at": 130},
    main=("distribution", "json"),
)
async def compute_distribution(
    ctx: ToolContext,
    distribution: Annotated[
        _Distribution,
        Field(description="which one"),
    ],
    parameters: Annotated[
        dict[str, float],
        Field(max_length=3, description='such as {"n": 10, "p": 0.5} or {"mean": 0, "sd": 1}'),
    ] = {},  # noqa: B006
    at: Annotated[
        float | None, Field(ge=-1e15, le=1e15, description="x for which to tell probabilities")
    ] = None,
    probability: Annotated[
        float | None, Field(gt=0, lt=1, description="p for which to tell the quantile")
    ] = None,
) -> Output:
    """Tell probabilities and quantiles of a probability distribution.

    Use for P(X <= x), p-values, critical values and odds. Gives mean and variance too.

    Raises:
        ToolError: A parameter is missing or out of its bounds, or it took too long.
    """
    found = await in_worker(
        "compute_distribution",
        name=distribution,
        parameters=parameters,
        at=at,
        probability=probability,
    )
    labels = {"density": f"density at {at}", "below": f"P(X <= {at})", "above": f"P(X >= {at})"}
    labels["quantile"] = f"quantile of {probability}"
    lines = [f"{labels.get(name, name)}: {value}" for name, value in found.items()]
    return Output("\n".join(lines), {"distribution": distribution, **found})
