"""Solves, checks and proves with z3; runs in the worker process."""

from __future__ import annotations

import time
from typing import Any

import z3

from ryzanstein.errors import ToolError
from ryzanstein.tools.constraints import Problem, read_constraints, read_formula
from ryzanstein.tools.smtlib import is_smtlib, read_smtlib

__all__ = ["check_satisfiable", "prove_formula", "solve_constraints"]

_MEMORY_MIB = 1024
_DIGITS = 12
_LONGEST_LINE = 200


def solve_constraints(text: str, solutions: int, seconds: float) -> dict[str, Any]:
    """Finds values for the variables.

    Returns:
        status: sat, unsat or unknown.
        solutions: Name to value; the best one only, where there are goals.
        complete: Whether there are no others.
        goals: What each goal came to.
        core, reason, assumed: As `check_satisfiable` returns them.
    """
    problem = _read(text)
    deadline = time.monotonic() + seconds
    solver = _tracking(problem, seconds)
    found = _status(problem, solver)
    if found["status"] != "sat":
        return found
    if problem.goals:
        return found | _best(problem, deadline)
    listed = [solver.model()]
    complete = False
    while len(listed) < solutions and not complete:
        names = _variables(problem, listed[-1])
        differs = [name != listed[-1].eval(name, True) for name in names]
        solver.add(z3.Or(*differs))
        solver.set("timeout", max(1, int((deadline - time.monotonic()) * 1000)))
        answer = solver.check()
        complete = answer == z3.unsat
        if answer != z3.sat:
            break
        listed.append(solver.model())
    return found | {
        "solutions": [_values(problem, model) for model in listed],
        "complete": complete,
    }


def check_satisfiable(text: str, seconds: float) -> dict[str, Any]:
    """Tells whether constraints can hold together.

    Returns:
        status: sat, unsat or unknown.
        core: Constraints that contradict each other, where it is unsat.
        reason: Why it is unknown.
        assumed: Types of the variables that were not declared.
    """
    problem = _read(text)
    solver = _tracking(problem, seconds)
    found = _status(problem, solver)
    if found["status"] == "sat":
        found["solutions"] = [_values(problem, solver.model())]
    return found


def prove_formula(formula: str, assumptions: str, seconds: float) -> dict[str, Any]:
    """Tells whether a formula always holds where the assumptions do.

    Returns:
        status: valid, invalid or unknown.
        counterexample: Values for which it does not hold.
        vacuous: Whether the assumptions contradict each other.
    """
    problem, value = read_formula(formula, assumptions)
    solver = _solver(seconds)
    solver.add(*[each for _, each in problem.constraints])
    solver.push()
    solver.add(z3.Not(value))
    answer = solver.check()
    found: dict[str, Any] = {"assumed": problem.assumed}
    if answer == z3.unknown:
        return found | {"status": "unknown", "reason": _reason(solver)}
    if answer == z3.sat:
        return found | {
            "status": "invalid",
            "counterexample": _values(problem, solver.model()),
        }
    solver.pop()
    vacuous = bool(assumptions.strip()) and solver.check() == z3.unsat
    return found | {"status": "valid", "vacuous": vacuous}


def _read(text: str) -> Problem:
    if not is_smtlib(text):
        problem = read_constraints(text)
    else:
        formulas = read_smtlib(text)
        lines = [" ".join(each.sexpr().split())[:_LONGEST_LINE] for each in formulas]
        problem = Problem(constraints=list(zip(lines, formulas, strict=True)))
    if not problem.constraints and not problem.goals:
        raise ToolError("There are no constraints.", hint="Write one a line, like x + y == 10.")
    return problem


def _solver(seconds: float) -> z3.Solver:
    z3.set_param("memory_max_size", _MEMORY_MIB)
    solver = z3.Solver()
    solver.set("timeout", max(1, int(seconds * 1000)))
    return solver


def _tracking(problem: Problem, seconds: float) -> z3.Solver:
    """A solver that can tell which constraints contradict each other."""
    solver = _solver(seconds)
    solver.set("core.minimize", True)
    for number, (_, formula) in enumerate(problem.constraints):
        solver.assert_and_track(formula, f"constraint!{number}")
    return solver


def _status(problem: Problem, solver: z3.Solver) -> dict[str, Any]:
    answer = solver.check()
    found: dict[str, Any] = {"status": str(answer), "assumed": problem.assumed}
    if answer == z3.unsat:
        numbers = sorted(int(str(each).partition("!")[2]) for each in solver.unsat_core())
        found["core"] = [problem.constraints[number][0] for number in numbers]
    elif answer == z3.unknown:
        found["reason"] = _reason(solver)
    return found


def _reason(solver: z3.Solver | z3.Optimize) -> str:
    said = str(solver.reason_unknown())
    return "it took too long" if said in {"canceled", "timeout"} else said


def _best(problem: Problem, deadline: float) -> dict[str, Any]:
    optimizer = z3.Optimize()
    optimizer.set("timeout", max(1, int((deadline - time.monotonic()) * 1000)))
    optimizer.add(*[formula for _, formula in problem.constraints])
    handles = [
        optimizer.maximize(what) if kind == "maximize" else optimizer.minimize(what)
        for kind, what, _ in problem.goals
    ]
    if optimizer.check() != z3.sat:
        return {"status": "unknown", "reason": _reason(optimizer)}
    reached = [
        handle.upper() if kind == "maximize" else handle.lower()
        for handle, (kind, *_) in zip(handles, problem.goals, strict=True)
    ]
    goals = [
        f"{kind} {source}: {_bound(each)}"
        for (kind, _, source), each in zip(problem.goals, reached, strict=True)
    ]
    unbounded = any("oo" in str(each) for each in reached)
    best = [] if unbounded else [_values(problem, optimizer.model())]
    return {"solutions": best, "complete": True, "goals": goals}


def _bound(value: Any) -> str:
    return "unbounded, there is no best" if "oo" in str(value) else str(_shown(value))


def _variables(problem: Problem, model: z3.ModelRef) -> list[Any]:
    if problem.variables:
        return list(problem.variables.values())
    return [
        each() for each in model.decls() if each.arity() == 0 and "constraint!" not in each.name()
    ]


def _values(problem: Problem, model: z3.ModelRef) -> dict[str, Any]:
    shown = {str(name): _shown(model.eval(name, True)) for name in _variables(problem, model)}
    if problem.variables:
        return shown
    functions = [each for each in model.decls() if each.arity() > 0]
    return shown | {each.name(): str(model[each]) for each in functions}


def _shown(value: Any) -> Any:
    if z3.is_true(value) or z3.is_false(value):
        return z3.is_true(value)
    if z3.is_int_value(value):
        return value.as_long()
    if z3.is_algebraic_value(value):
        return value.as_decimal(_DIGITS).rstrip("?")
    return str(value)
