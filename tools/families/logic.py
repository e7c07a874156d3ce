"""Constraints, satisfiability and proofs: z3 in a process of its own, with limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from ryzanstein.tools import worker
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.toolbox import tool

_SECONDS = 10.0
# z3 is asked to end by itself a little before it would be killed, and then says how far it came.
_SHARE = 0.8
_Constraints = Annotated[
    str,
    Field(
        min_length=1,
        max_length=50_000,
        description="declarations (x, y: int in 1..9) and constraints (x + y == 10), one a line; "
        "or SMT-LIB",
    ),
]


@tool(
    title="Solve constraints",
    read_only=True,
    example={"constraints": "x, y: int in 0..20\nx + y == 10\nx - y == 2"},
    main=("constraints", "code"),
)
async def solve_constraints(
    ctx: ToolContext,
    constraints: _Constraints,
    solutions: Annotated[int, Field(ge=1, le=50, description="how many to look for")] = 1,
) -> Output:
    """Find values that satisfy constraints, or the best ones.

    Use for puzzles, schedules, assignments and optimisation. Knows int, real and bool, and, or,
    not, ->, distinct(a, b, c), sum(...), q[i] for i in range(8), maximize ..., minimize ....

    Raises:
        ToolError: A line cannot be read, or it took too long.
    """
    found = await _ask("solve_constraints", text=constraints, solutions=solutions)
    if found["status"] != "sat":
        return Output(_said(found), found)
    lines = [_assigned(one) for one in found["solutions"]]
    if solutions > 1:
        more = "these are all" if found["complete"] else "there may be more"
        lines.append(f"[{len(lines)} found; {more}]")
    return Output("\n".join([*lines, *found.get("goals", ()), *_assumed(found)]), found)


@tool(
    title="Check satisfiability",
    read_only=True,
    example={"constraints": "p -> q\np\nnot q"},
    main=("constraints", "code"),
)
async def check_satisfiable(ctx: ToolContext, constraints: _Constraints) -> Output:
    """Tell whether statements can all hold together, and which contradict each other.

    Use to find contradictions in rules or requirements.

    Raises:
        ToolError: A line cannot be read, or it took too long.
    """
    found = await _ask("check_satisfiable", text=constraints)
    if found["status"] != "sat":
        return Output(_said(found), found)
    lines = ["They can hold together, for example with", _assigned(found["solutions"][0])]
    return Output("\n".join([*lines, *_assumed(found)]), found)


@tool(
    title="Prove a formula",
    read_only=True,
    example={"formula": "(p -> q) and p -> q"},
    main=("formula", "line"),
)
async def prove_formula(
    ctx: ToolContext,
    formula: Annotated[
        str,
        Field(min_length=1, max_length=10_000, description="such as x > 2 -> x*x > 4"),
    ],
    assumptions: Annotated[
        str,
        Field(max_length=20_000, description="declarations (x: real) and facts, one a line"),
    ] = "",
) -> Output:
    """Prove that a formula always holds, or find a counterexample.

    Use for laws of logic and arithmetic, for whether a conclusion follows from assumptions, and to
    compare two conditions (a <-> b).

    Raises:
        ToolError: It cannot be read, or it took too long.
    """
    found = await _ask("prove_formula", formula=formula, assumptions=assumptions)
    match found["status"]:
        case "valid":
            said = "Valid: it always holds."
            if found["vacuous"]:
                said = "The assumptions contradict each other, so anything follows from them."
        case "invalid":
            said = f"Not valid. Counterexample: {_assigned(found['counterexample'])}"
        case _:
            said = _said(found)
    return Output("\n".join([said, *_assumed(found)]), found)


async def _ask(function: str, **arguments: Any) -> dict[str, Any]:
    arguments["seconds"] = _SECONDS * _SHARE
    found: dict[str, Any] = await worker.call(function, arguments, seconds=_SECONDS)
    return found


def _said(found: Mapping[str, Any]) -> str:
    if found["status"] == "unsat":
        core = "".join(f"\n- {line}" for line in found["core"])
        return f"There is no solution. These contradict each other:{core}"
    return (
        f"It could not be decided ({found['reason']}). "
        "Give bounds to the variables, or fewer and simpler constraints."
    )


def _assigned(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "(any values)"


def _assumed(found: Mapping[str, Any]) -> list[str]:
    listed = ", ".join(f"{name}: {sort}" for name, sort in found["assumed"].items())
    return [f"[not declared, taken as {listed}]"] if listed else []
