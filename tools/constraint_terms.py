"""The parts of constraints as z3 terms: arithmetic as in Python, comparisons, lists, functions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

import z3

from ryzanstein.errors import ToolError

__all__ = [
    "FUNCTIONS",
    "compared",
    "floored",
    "items_of",
    "one_of",
    "power",
    "real",
    "refused",
    "remainder",
    "truth",
]

_MOST_ITEMS = 10_000
_LARGEST_BITS = 100_000


def truth(value: Any, shown: str = "") -> Any:
    """A value as a truth value.

    Raises:
        ToolError: It is none.
    """
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if not z3.is_bool(value):
        raise ToolError(
            f"{repr(shown[:200]) if shown else 'A part'} is no statement that is true or false.",
            hint="Write a comparison such as x == 3, or declare it as bool.",
        )
    return value


def real(value: Any) -> Any:
    """A number as a real one."""
    return z3.ToReal(value) if z3.is_int(value) else value


def _whole(value: Any) -> Any:
    if not isinstance(value, int) and not z3.is_int(value):
        raise ToolError("// and % need whole numbers.", hint="Declare the variables as int.")
    return z3.IntVal(value) if isinstance(value, int) else value


def floored(left: Any, right: Any) -> Any:
    """Rounds down; z3 rounds so that the remainder is never negative."""
    a, b = _whole(left), _whole(right)
    if isinstance(right, int) and right > 0:
        return a / b
    return a / b - z3.If(z3.And(b < 0, a % b != 0), 1, 0)


def remainder(left: Any, right: Any) -> Any:
    """Has the sign of the divisor."""
    a, b = _whole(left), _whole(right)
    if isinstance(right, int) and right > 0:
        return a % b
    return a % b + z3.If(z3.And(b < 0, a % b != 0), b, 0)


def power(base: Any, exponent: Any) -> Any:
    """A power.

    Raises:
        ToolError: Nobody could write it out.
    """
    known = isinstance(base, int) and isinstance(exponent, int)
    if known and (exponent < 0 or base.bit_length() * exponent > _LARGEST_BITS):
        raise ToolError("The power is too large or has a negative exponent.", hint="Write it out.")
    return base**exponent


def compared(operator: ast.cmpop, left: Any, right: Any) -> Any:
    """A comparison as a truth value.

    Raises:
        ToolError: Its sides cannot be compared like that.
    """
    lists = isinstance(left, list | range) or isinstance(right, list | range)
    if lists and not isinstance(operator, ast.In | ast.NotIn):
        raise ToolError("A list is compared.", hint="Write x in [1, 2, 3], or compare its parts.")
    match operator:
        case ast.Eq():
            return left == right
        case ast.NotEq():
            return left != right
        case ast.Lt():
            return left < right
        case ast.LtE():
            return left <= right
        case ast.Gt():
            return left > right
        case ast.GtE():
            return left >= right
        case ast.In():
            return one_of(left, items_of(right, "in"))
        case ast.NotIn():
            return z3.Not(one_of(left, items_of(right, "not in")))
    raise ToolError("This comparison is not known here.", hint="Use == != < <= > >= or in.")


def one_of(value: Any, items: Iterable[Any]) -> Any:
    """Whether a value equals one of some."""
    return z3.Or(*[value == item for item in items])


def items_of(value: Any, shown: str) -> list[Any]:
    """The items of a list or range; `shown` names it in an error.

    Raises:
        ToolError: It is none, or too long.
    """
    if not isinstance(value, list | range) or len(value) > _MOST_ITEMS:
        raise ToolError(
            f"{shown[:100]!r} is no list of at most {_MOST_ITEMS:,}.",
            hint="Write [1, 2, 3], range(10) or 1..9.",
        )
    return list(value)


def _flat(items: tuple[Any, ...]) -> list[Any]:
    return items_of(items[0], "this") if len(items) == 1 else list(items)


def _extreme(items: tuple[Any, ...], better: Callable[[Any, Any], Any]) -> Any:
    best, *others = _flat(items)
    for item in others:
        best = z3.If(better(item, best), item, best)
    return best


def _counted(items: Any) -> list[tuple[Any, int]]:
    return [(truth(item), 1) for item in items_of(items, "this")]


def _range(*bounds: int) -> range:
    if not all(type(bound) is int for bound in bounds):
        raise ToolError("A range needs known numbers.", hint="Write range(8), not range(n).")
    return range(*bounds)


def refused(node: ast.AST) -> ToolError:
    """The error of a part that cannot stand in a constraint."""
    return ToolError(
        f"{type(node).__name__} is not understood in a constraint.",
        hint="Use arithmetic, comparisons, and, or, not, ->, distinct(...), sum(...).",
    )


FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "abs": (lambda value: z3.If(value >= 0, value, -value), "number"),
    "all": (lambda *items: z3.And(*_flat(items)), "truth"),
    "and": (lambda *items: z3.And(*_flat(items)), "truth"),
    "any": (lambda *items: z3.Or(*_flat(items)), "truth"),
    "or": (lambda *items: z3.Or(*_flat(items)), "truth"),
    "not": (lambda value: z3.Not(truth(value)), "truth"),
    "distinct": (lambda *items: z3.Distinct(*_flat(items)), "number"),
    "alldifferent": (lambda *items: z3.Distinct(*_flat(items)), "number"),
    "all_different": (lambda *items: z3.Distinct(*_flat(items)), "number"),
    "implies": (lambda a, b: z3.Implies(truth(a), truth(b)), "truth"),
    "iff": (lambda a, b: truth(a) == truth(b), "truth"),
    "xor": (lambda a, b: z3.Xor(truth(a), truth(b)), "truth"),
    "max": (lambda *items: _extreme(items, lambda a, b: a > b), "number"),
    "min": (lambda *items: _extreme(items, lambda a, b: a < b), "number"),
    "sum": (lambda *items: z3.Sum([_as_number(item) for item in _flat(items)]), "number"),
    "range": (_range, "number"),
    "at_most": (lambda count, items: z3.PbLe(_counted(items), count), "truth"),
    "at_least": (lambda count, items: z3.PbGe(_counted(items), count), "truth"),
    "exactly": (lambda count, items: z3.PbEq(_counted(items), count), "truth"),
}


def _as_number(value: Any) -> Any:
    """A truth value counts as one or nothing, as in Python."""
    if isinstance(value, bool | int):
        return z3.IntVal(int(value))
    return z3.If(value, 1, 0) if z3.is_bool(value) else value
