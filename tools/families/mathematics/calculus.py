"""Derivatives, integrals, limits and matrices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.mathematics import Expression, Variable, calculated
from ryzanstein.tools.toolbox import tool

_Bound = Annotated[str, Field(max_length=500, description="such as 0, pi/2 or oo (infinity)")]
_MatrixText = Annotated[
    str, Field(max_length=5000, description="rows in brackets, such as [[1, 2], [3, 4]]")
]


@tool(
    title="Differentiate",
    read_only=True,
    example={"expression": "x**3 * sin(x)"},
    main=("expression", "line"),
)
async def differentiate(
    ctx: ToolContext,
    expression: Expression,
    variable: Variable = "",
    order: Annotated[int, Field(ge=1, le=20, description="1 for the first derivative")] = 1,
) -> Output:
    """Find the derivative of a function.

    Use for slopes, rates of change and gradients.

    Raises:
        ToolError: The expression cannot be read, or it took too long.
    """
    return await calculated("differentiate", expression=expression, variable=variable, order=order)


@tool(
    title="Integrate",
    read_only=True,
    example={"expression": "x**2", "lower": "0", "upper": "3"},
    main=("expression", "line"),
)
async def integrate(
    ctx: ToolContext,
    expression: Expression,
    variable: Variable = "",
    lower: _Bound = "",
    upper: _Bound = "",
) -> Output:
    """Find an antiderivative, or the area between two bounds.

    Use for integrals. Without bounds it gives a function, with both a value, found numerically
    where there is no formula.

    Raises:
        ToolError: The expression cannot be read, it has no integral, or it took too long.
    """
    return await calculated(
        "integrate", expression=expression, variable=variable, lower=lower, upper=upper
    )


@tool(
    title="Compute a limit",
    read_only=True,
    example={"expression": "sin(x)/x", "to": "0"},
    main=("expression", "line"),
)
async def compute_limit(
    ctx: ToolContext,
    expression: Expression,
    variable: Variable = "",
    to: _Bound = "oo",
    side: Annotated[
        Literal["both", "left", "right"], Field(description="from where it comes near")
    ] = "both",
) -> Output:
    """Find what a function approaches near a point or at infinity.

    Use for limits of functions and sequences.

    Raises:
        ToolError: The expression cannot be read, there is no limit, or it took too long.
    """
    return await calculated(
        "compute_limit", expression=expression, variable=variable, to=to, side=side
    )


@tool(
    title="Calculate with matrices",
    read_only=True,
    example={"matrix": "[[1, 2], [3, 4]]", "operation": "inverse"},
    main=("matrix", "line"),
)
async def calculate_matrix(
    ctx: ToolContext,
    matrix: Annotated[_MatrixText, Field(min_length=3)],
    operation: Annotated[
        Literal[
            "determinant",
            "inverse",
            "transpose",
            "rank",
            "trace",
            "reduced",
            "eigenvalues",
            "eigenvectors",
            "nullspace",
            "multiply",
            "add",
            "subtract",
            "solve",
        ],
        Field(description="what to calculate; solve finds X with matrix * X = other"),
    ] = "determinant",
    other: Annotated[_MatrixText, Field(description="second matrix, or a vector [5, 6]")] = "",
) -> Output:
    """Calculate a determinant, an inverse, eigenvalues, a product and more, exactly.

    Use for linear algebra and for systems of linear equations in matrix form.

    Raises:
        ToolError: This is no matrix, its shape does not fit, or it took too long.
    """
    return await calculated("calculate_matrix", matrix=matrix, operation=operation, other=other)
