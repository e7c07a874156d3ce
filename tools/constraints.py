"""Reads constraints in a small Python-like form as z3 formulas; nothing in it is ever executed.

    x, y: int in 1..9            a declaration, with or without a domain
    q: int in 0..7               also the type of q[0], q[1], …
    x + y == 10                  a constraint a line; = is read as ==, chains as in Python
    p -> (q or not r)            also <->, xor, and &&, ||, ! of other languages
    distinct(q[i] for i in range(8))
    maximize 3*x + 2*y           or minimize; one goal a line

Names that are not declared are truth values where they stand as such, else whole numbers, or reals
where the text has a decimal point or a division. // and % round down, as in Python; a comparison
with a division by zero in it does not hold, as in MiniZinc (Frisch and Stuckey, "The Proper
Treatment of Undefinedness in Constraint Languages", 2009).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import z3

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.constraint_terms import (
    FUNCTIONS,
    compared,
    floored,
    items_of,
    one_of,
    power,
    real,
    refused,
    remainder,
    truth,
)
from ryzanstein.tools.constraint_text import as_python

__all__ = ["Problem", "read_constraints", "read_formula"]

_MOST_LINES = 500
_MOST_STEPS = 200_000
_DECLARATION = re.compile(
    r"(?P<names>[A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)\s*:\s*"
    r"(?P<sort>int|integer|real|float|bool|boolean)\b\s*(?:(?:in|=)\s*(?P<domain>.+))?$"
)
_SPAN = re.compile(r"(-?\d+)\s*\.\.\s*(-?\d+)")
_GOAL = re.compile(r"(maximi[sz]e|minimi[sz]e)\b[\s:]*(.+)", re.IGNORECASE)
_SORTS: dict[str, Callable[[str], Any]] = {
    "int": z3.Int,
    "integer": z3.Int,
    "real": z3.Real,
    "float": z3.Real,
    "bool": z3.Bool,
    "boolean": z3.Bool,
}


@dataclass
class Problem:
    """What was read.

    Attributes:
        constraints: Source line and formula.
        goals: "maximize" or "minimize", what, and its source.
        variables: Every variable, by name.
        assumed: Name to type, of those that were not declared.
    """

    constraints: list[tuple[str, Any]] = field(default_factory=list)
    goals: list[tuple[str, Any, str]] = field(default_factory=list)
    variables: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)


def read_constraints(text: str) -> Problem:
    """Reads declarations, constraints and goals.

    Raises:
        ToolError: A line cannot be read; it is named.
    """
    return _Reader(text).read_lines(text)


def read_formula(formula: str, assumptions: str) -> tuple[Problem, Any]:
    """Reads one formula, and declarations and constraints that it may rely on.

    Raises:
        ToolError: It cannot be read.
    """
    reader = _Reader(f"{assumptions}\n{formula}")
    problem = reader.read_lines(assumptions)
    value = reader.formula(formula)
    reader.finish()
    return problem, value


class _Reader:
    """Turns lines into formulas over variables that are made when they are first met."""

    def __init__(self, whole: str) -> None:
        self._problem = Problem()
        self._declared: dict[str, tuple[str, str]] = {}
        self._used: set[str] = set()
        self._bound: dict[str, int] = {}
        # What has to hold for the comparison that is being read to mean something.
        self._defined: list[Any] = []
        self._steps = 0
        self._number = "real" if re.search(r"\d\.\d|(?<!/)/(?!/)", whole) else "int"

    def read_lines(self, text: str) -> Problem:
        lines = [line.partition("#")[0].strip() for line in text.replace(";", "\n").splitlines()]
        lines = [line.strip("`").rstrip(",") for line in lines if line.strip("`")]
        if len(lines) > _MOST_LINES:
            raise ToolError(f"There are {len(lines)} lines.", hint=f"At most {_MOST_LINES}.")
        rest = [line for line in lines if not self._declare(line)]
        for line in rest:
            goal = _GOAL.match(line)
            if goal:
                kind = "maximize" if goal[1].lower().startswith("max") else "minimize"
                self._problem.goals.append((kind, self._parsed(goal[2], "number"), goal[2]))
                self._problem.constraints += [(line, each) for each in self._taken(0)]
            else:
                self._problem.constraints.append((line, self.formula(line)))
        self.finish()
        return self._problem

    def finish(self) -> None:
        """Makes the variables that no constraint used, and lists all as they were declared."""
        for name in self._declared:
            if name not in self._used:
                self._variable(name, "")
        order = {name: number for number, name in enumerate(self._declared)}
        listed = sorted(
            self._problem.variables.items(),
            key=lambda item: order.get(item[0].partition("[")[0], len(order)),
        )
        self._problem.variables = dict(listed)

    def formula(self, line: str) -> Any:
        """Returns one line as a truth value."""
        return self._meant(truth(self._parsed(line, "truth"), line), 0)

    def _taken(self, since: int) -> list[Any]:
        """What has to hold for the parts that were read since then, taken off the list."""
        found, self._defined = self._defined[since:], self._defined[:since]
        return found

    def _meant(self, value: Any, since: int) -> Any:
        """A statement that does not hold where one of its parts means nothing."""
        defined = self._taken(since)
        return z3.And(value, *defined) if defined else value

    def _declare(self, line: str) -> bool:
        found = _DECLARATION.fullmatch(line)
        if found is None:
            return False
        for name in found["names"].split(","):
            self._declared[name.strip()] = (found["sort"], (found["domain"] or "").strip())
        return True

    def _parsed(self, line: str, wanted: str) -> Any:
        try:
            tree = ast.parse(as_python(line), mode="eval")
            return self._read(tree.body, wanted)
        except (SyntaxError, ValueError) as error:
            raise ToolError(
                f"{line[:200]!r} is no constraint: {error}.",
                hint="Write a constraint a line, like x + y == 10 or p -> q; declare x: int.",
            ) from None
        except z3.Z3Exception as error:
            raise ToolError(
                f"{line[:200]!r} does not fit together: {error}.",
                hint="Declare each variable as int, real or bool.",
            ) from None

    def _read(self, node: ast.expr, wanted: str = "") -> Any:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ToolError("There are too many terms.", hint="Use shorter ranges.")
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise refused(node)
        return method(node, wanted)

    def _constant(self, node: ast.Constant, wanted: str) -> Any:
        match node.value:
            case bool() | int():
                return node.value
            case float():
                return z3.RealVal(repr(node.value))
        raise refused(node)

    def _name(self, node: ast.Name, wanted: str) -> Any:
        if node.id in self._bound:
            return self._bound[node.id]
        if node.id.lower() in {"true", "false"}:
            return node.id.lower() == "true"
        return self._variable(node.id, wanted)

    def _variable(self, name: str, wanted: str) -> Any:
        if name in self._problem.variables:
            return self._problem.variables[name]
        base = name.partition("[")[0]
        self._used.add(base)
        sort, domain = self._declared.get(base, ("", ""))
        if not sort:
            sort = "bool" if wanted == "truth" else self._number
            self._problem.assumed[base] = sort
        made = self._problem.variables[name] = _SORTS[sort](name)
        if domain:
            within = self._within(made, domain)
            self._problem.constraints.append((f"{name} in {domain}", within))
        return made

    def _within(self, made: Any, domain: str) -> Any:
        span = _SPAN.fullmatch(domain.strip("[]"))
        if span:
            return z3.And(made >= int(span[1]), made <= int(span[2]))
        return one_of(made, items_of(self._parsed(domain, ""), domain))

    def _subscript(self, node: ast.Subscript, wanted: str) -> Any:
        """Reads q[i] as a variable of its own; the index has to be known."""
        indices = []
        base: ast.expr = node
        while isinstance(base, ast.Subscript):
            found = self._read(base.slice)
            indices += list(reversed(found)) if isinstance(found, list) else [found]
            base = base.value
        if not isinstance(base, ast.Name) or not all(type(each) is int for each in indices):
            raise refused(node)
        name = base.id + "".join(f"[{index}]" for index in reversed(indices))
        return self._variable(name, wanted)

    def _unaryop(self, node: ast.UnaryOp, wanted: str) -> Any:
        if isinstance(node.op, ast.Not):
            return z3.Not(truth(self._read(node.operand, "truth"), ast.unparse(node)))
        value = self._read(node.operand, "number")
        return -value if isinstance(node.op, ast.USub) else value

    def _boolop(self, node: ast.BoolOp, wanted: str) -> Any:
        parts = [truth(self._read(part, "truth"), ast.unparse(part)) for part in node.values]
        return z3.And(*parts) if isinstance(node.op, ast.And) else z3.Or(*parts)

    def _binop(self, node: ast.BinOp, wanted: str) -> Any:
        left, right = self._read(node.left, "number"), self._read(node.right, "number")
        known = isinstance(left, int) and isinstance(right, int)
        if isinstance(node.op, ast.Div | ast.FloorDiv | ast.Mod) and z3.is_arith(right):
            self._defined.append(right != 0)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div() | ast.FloorDiv() | ast.Mod() if type(right) is int and right == 0:
                raise ToolError("This divides by zero.", hint="Correct the divisor.")
            case ast.Div():
                return z3.Q(left, right) if known else real(left) / real(right)
            case ast.FloorDiv():
                return left // right if known else floored(left, right)
            case ast.Mod():
                return left % right if known else remainder(left, right)
            case ast.Pow():
                return power(left, right)
        raise refused(node)

    def _compare(self, node: ast.Compare, wanted: str) -> Any:
        since = len(self._defined)
        sides = [node.left, *node.comparators]
        values = [self._read(side, "number") if _is_number(side) else None for side in sides]
        truths = any(value is not None and z3.is_bool(value) for value in values)
        truths = truths or any(isinstance(value, bool) for value in values)
        kind = "truth" if truths or any(map(_is_truth, sides)) else "number"
        values = [
            self._read(side, kind) if value is None else value
            for side, value in zip(sides, values, strict=True)
        ]
        parts = [
            compared(operator, left, right)
            for operator, (left, right) in zip(node.ops, pairwise(values), strict=True)
        ]
        held = parts[0] if len(parts) == 1 else z3.And(*parts)
        return self._meant(held, since)

    def _ifexp(self, node: ast.IfExp, wanted: str) -> Any:
        test = truth(self._read(node.test, "truth"), ast.unparse(node.test))
        since = len(self._defined)
        then = self._read(node.body, wanted)
        inside = [z3.Implies(test, each) for each in self._taken(since)]
        other = self._read(node.orelse, wanted)
        inside += [z3.Or(test, each) for each in self._taken(since)]
        self._defined += inside
        return z3.If(test, then, other)

    def _list(self, node: ast.List | ast.Tuple | ast.Set, wanted: str) -> list[Any]:
        return [self._read(part, wanted) for part in node.elts]

    _tuple = _set = _list

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp, wanted: str) -> list[Any]:
        return list(self._loop(node.generators, node.elt, wanted))

    _generatorexp = _setcomp = _listcomp

    def _loop(
        self, generators: list[ast.comprehension], element: ast.expr, wanted: str
    ) -> Iterator[Any]:
        if not generators:
            yield self._read(element, wanted)
            return
        first, before = generators[0], dict(self._bound)
        if not isinstance(first.target, ast.Name):
            raise refused(first.target)
        for item in items_of(self._read(first.iter), ast.unparse(first.iter)):
            if type(item) is not int:
                raise refused(first.iter)
            self._bound[first.target.id] = item
            if all(z3.is_true(z3.simplify(truth(self._read(test)))) for test in first.ifs):
                yield from self._loop(generators[1:], element, wanted)
        self._bound = before

    def _call(self, node: ast.Call, wanted: str) -> Any:
        name = node.func.id.lower() if isinstance(node.func, ast.Name) else ""
        if node.keywords or name not in FUNCTIONS:
            hint = did_you_mean(name, FUNCTIONS) or f"Known: {', '.join(sorted(FUNCTIONS))}."
            raise ToolError(f"{ast.unparse(node)[:100]} is not known here.", hint=hint)
        function, takes = FUNCTIONS[name]
        try:
            return function(*(self._read(part, takes) for part in node.args))
        except TypeError:
            raise ToolError(
                f"{ast.unparse(node)[:100]} has the wrong arguments.", hint=f"Check {name}."
            ) from None


def _is_number(node: ast.expr) -> bool:
    """Whether its sort is certain without its surroundings."""
    return not isinstance(node, ast.Name | ast.Subscript)


def _is_truth(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id.lower() in {"true", "false"}
