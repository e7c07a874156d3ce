"""Algebra, calculus, matrices and whole numbers, by sympy; runs in the worker process.

Each function takes texts, reads them with `exact.read_expression`, and returns texts: what sympy
cannot do in closed form is said, with a number where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy

from ryzanstein.errors import ToolError
from ryzanstein.tools.exact import read_expression
from ryzanstein.tools.exact_shown import shown

__all__ = [
    "analyze_number",
    "calculate_matrix",
    "compute_limit",
    "differentiate",
    "integrate",
    "simplify_expression",
    "solve_equation",
]

_MOST_UNKNOWNS = 20
_MOST_CELLS = 400
_TRIAL_DIGITS = 60
_TRIAL_LIMIT = 1_000_000
_FORMS: dict[str, Callable[[Any], Any]] = {
    "simplify": sympy.simplify,
    "expand": sympy.expand,
    "factor": sympy.factor,
    "cancel": sympy.cancel,
    "apart": sympy.apart,
    "together": sympy.together,
    "trigonometric": sympy.trigsimp,
    "rationalize": sympy.radsimp,
}


def solve_equation(equations: Sequence[str], unknowns: Sequence[str], real: bool) -> dict[str, Any]:
    """Solves equations, inequalities or a system of equations.

    Returns:
        solutions: unknown to {result, decimal}, one mapping a solution.
        text: Instead, where the solution is a set or a condition.
    """
    parts = [_equation(text) for text in equations]
    free = sorted({symbol for part in parts for symbol in part.free_symbols}, key=str)
    wanted = [_symbol(name, free) for name in unknowns] or free
    if not wanted or len(wanted) > _MOST_UNKNOWNS:
        raise ToolError(
            f"There are {len(wanted)} unknowns.", hint="Give an equation with a letter, as x = 2."
        )
    if any(isinstance(part, sympy.core.relational.Relational) for part in parts):
        if not all(isinstance(part, sympy.Eq) for part in parts):
            return {"text": str(sympy.reduce_inequalities(parts, wanted[:1]))}
    if real:
        named = {symbol: sympy.Symbol(symbol.name, real=True) for symbol in free}
        parts = [part.xreplace(named) for part in parts]
        wanted = [named[symbol] for symbol in wanted]
    try:
        found = sympy.solve(parts, wanted, dict=True)
    except NotImplementedError:
        return _numerically(parts, wanted)
    return {"solutions": [{str(key): shown(one[key]) for key in one} for one in found]}


def _equation(text: str) -> Any:
    for mark in ("<=", ">=", "!=", "==", "<", ">"):
        if mark in text:
            break
    else:
        text = text.replace("=", "==")
    value = read_expression(text)
    if value is sympy.true or value is sympy.false:
        raise ToolError(f"{text!r} is always {value}.", hint="Give an equation with an unknown.")
    if not isinstance(value, sympy.Basic):
        raise ToolError(f"{text[:100]!r} is no equation.", hint="Give each equation by itself.")
    return value


def _numerically(parts: list[Any], wanted: list[Any]) -> dict[str, Any]:
    """Looks for one root from a few starting points, where there is no formula."""
    sides = [part.lhs - part.rhs if isinstance(part, sympy.Eq) else part for part in parts]
    for start in (1, 0.5, -1, 3, 10, -10):
        try:
            root = sympy.nsolve(sides, wanted, [start] * len(wanted))
        except (ValueError, TypeError, ZeroDivisionError):
            continue
        found = {str(name): shown(value) for name, value in zip(wanted, list(root), strict=True)}
        return {"solutions": [found], "note": "found numerically; there may be more"}
    raise ToolError(
        "No formula and no numeric root was found.",
        hint="Use run_python to look for one, or give fewer equations.",
    )


def simplify_expression(expression: str, form: str) -> dict[str, str]:
    """Rewrites an expression in the form asked for."""
    value = read_expression(expression)
    if not isinstance(value, sympy.Basic | sympy.MatrixBase):
        raise ToolError("This is no single expression.", hint="Give one expression at a time.")
    return shown(_FORMS[form](value))


def differentiate(expression: str, variable: str, order: int) -> dict[str, str]:
    """Returns the derivative of that order."""
    value = _scalar(expression)
    return shown(sympy.simplify(sympy.diff(value, _variable(value, variable), order)))


def integrate(expression: str, variable: str, lower: str, upper: str) -> dict[str, str]:
    """Returns an antiderivative, or the integral between bounds; numerically where need be."""
    value = _scalar(expression)
    name = _variable(value, variable)
    if not lower and not upper:
        found = sympy.integrate(value, name)
        if found.has(sympy.Integral):
            raise ToolError(
                "This has no antiderivative in known functions.",
                hint="Give lower and upper bounds to get a number.",
            )
        return shown(found)
    if not lower or not upper:
        raise ToolError("One of the bounds is missing.", hint="Give both lower and upper, or none.")
    span = (name, read_expression(lower), read_expression(upper))
    found = sympy.integrate(value, span)
    if not found.has(sympy.Integral):
        return shown(found)
    number = sympy.Integral(value, span).evalf()
    if number.has(sympy.Integral):
        raise ToolError("This integral has no value that can be found.", hint="Check the bounds.")
    return {"result": str(number), "decimal": "", "note": "found numerically"}


def compute_limit(expression: str, variable: str, to: str, side: str) -> dict[str, str]:
    """Returns the limit of an expression."""
    value = _scalar(expression)
    name = _variable(value, variable)
    sign = {"both": "+-", "right": "+", "left": "-"}[side]
    point = read_expression(to)
    if point in (sympy.oo, -sympy.oo):
        sign = "-" if point is sympy.oo else "+"
    try:
        return shown(sympy.limit(value, name, point, sign))
    except ValueError as error:
        raise ToolError(f"There is no limit: {error}", hint="Ask for the left or right.") from None
    except NotImplementedError:
        raise ToolError("The limit is not known.", hint="Evaluate it near the point.") from None


def calculate_matrix(matrix: str, operation: str, other: str) -> dict[str, str]:
    """Returns the result of an operation on one or two matrices."""
    first = _matrix(matrix)
    if operation in _TWO:
        if not other:
            raise ToolError(f"{operation} needs a second matrix.", hint="Give it as other.")
        return shown(_rows(_checked(lambda: _TWO[operation](first, _matrix(other)))))
    return shown(_rows(_checked(lambda: _ONE[operation](first))))


def _rows(value: Any) -> Any:
    """Turns matrices into lists of rows, and those of one column into plain lists."""
    if isinstance(value, list | tuple):
        return type(value)(_rows(part) for part in value)
    if not isinstance(value, sympy.MatrixBase):
        return value
    return list(value) if value.cols == 1 else value.tolist()


_ONE: dict[str, Callable[[Any], Any]] = {
    "determinant": lambda m: m.det(),
    "inverse": lambda m: m.inv(),
    "transpose": lambda m: m.T,
    "rank": lambda m: sympy.Integer(m.rank()),
    "trace": lambda m: m.trace(),
    "reduced": lambda m: m.rref()[0],
    "eigenvalues": lambda m: [root for root, many in m.eigenvals().items() for _ in range(many)],
    "eigenvectors": lambda m: [
        (root, vector) for root, _, found in m.eigenvects() for vector in found
    ],
    "nullspace": lambda m: m.nullspace(),
}
_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "multiply": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "solve": lambda a, b: a.solve(b),
}


def _checked(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (sympy.matrices.exceptions.MatrixError, ValueError) as error:
        raise ToolError(f"{error}", hint="Check the shape and whether it is regular.") from None


def _matrix(text: str) -> Any:
    rows = read_expression(text)
    if isinstance(rows, list) and rows and not isinstance(rows[0], list | tuple):
        rows = [[cell] for cell in rows]
    try:
        made = rows if isinstance(rows, sympy.MatrixBase) else sympy.Matrix(rows)
    except (TypeError, ValueError) as error:
        raise ToolError(f"This is no matrix: {error}.", hint="Write [[1, 2], [3, 4]].") from None
    if not 0 < made.rows * made.cols <= _MOST_CELLS:
        raise ToolError(
            f"The matrix has {made.rows * made.cols} cells.", hint=f"At most {_MOST_CELLS}."
        )
    return made


def analyze_number(number: str) -> dict[str, Any]:
    """Returns factors, divisors and neighbours of a whole number."""
    value = read_expression(number)
    if not isinstance(value, sympy.Integer):
        raise ToolError(f"{number[:60]} is no whole number.", hint="Give one such as 360.")
    whole = int(value)
    size = abs(whole)
    partly = len(str(size)) > _TRIAL_DIGITS
    factors = _factors(size, partly) if size > 1 else {}
    complete = all(sympy.isprime(prime) for prime in factors)
    found: dict[str, Any] = {
        "number": str(whole),
        "prime": size > 1 and whole > 0 and bool(sympy.isprime(whole)),
        "factors": {str(prime): power for prime, power in sorted(factors.items())},
        "factored": complete,
        "digits": len(str(size)),
    }
    if complete and size > 0:
        found["divisors"] = str(sympy.divisor_count(size))
        found["divisor_sum"] = str(sympy.divisor_sigma(size))
        found["totient"] = str(sympy.totient(size))
    if len(str(size)) <= 100:
        found["next_prime"] = str(sympy.nextprime(whole))
        found["previous_prime"] = str(sympy.prevprime(whole)) if whole > 2 else ""
    return found


def _factors(size: int, partly: bool) -> dict[int, int]:
    if not partly:
        return dict(sympy.factorint(size))
    # The methods that find larger factors would go on until the time is over.
    found = sympy.factorint(size, limit=_TRIAL_LIMIT, use_rho=False, use_pm1=False, use_ecm=False)
    return dict(found)


def _scalar(expression: str) -> Any:
    value = read_expression(expression)
    if not isinstance(value, sympy.Expr):
        raise ToolError(f"{expression[:100]!r} is no single expression.", hint="Give just one.")
    return value


def _variable(value: Any, name: str) -> Any:
    free = sorted(value.free_symbols, key=str)
    if name:
        return _symbol(name, free)
    if len(free) > 1:
        listed = ", ".join(map(str, free))
        raise ToolError(f"With respect to which of {listed}?", hint="Give it as variable.")
    return free[0] if free else sympy.Symbol("x")


def _symbol(name: str, free: Sequence[Any]) -> Any:
    """Returns the symbol of that name; one with assumptions is another symbol than one without."""
    if not name.isidentifier():
        raise ToolError(f"{name[:60]!r} is no name of a variable.", hint="Give one such as x.")
    return next((symbol for symbol in free if symbol.name == name), sympy.Symbol(name))
