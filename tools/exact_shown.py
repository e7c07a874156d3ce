"""Exact values as text, with their decimal value where that says more."""

from __future__ import annotations

import sys
from typing import Any

import sympy

__all__ = ["shown"]

_LONGEST = 20_000


def shown(value: Any) -> dict[str, str]:
    """Returns a value as text, and its decimal value where that is another."""
    sys.set_int_max_str_digits(_LONGEST + 1)
    return {"result": _shown(value), "decimal": _decimal(value)}


def _shown(value: Any) -> str:
    try:
        if isinstance(value, list) and value and all(isinstance(v, sympy.Eq) for v in value):
            text = " or ".join(f"{v.lhs} = {v.rhs}" for v in value)
        else:
            text = sympy.sstr(value)
    except ValueError:
        bits = int(value).bit_length() if isinstance(value, sympy.Integer) else 0
        text = f"a number of about {int(bits * 0.30103):,} digits" if bits else "too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _decimal(value: Any) -> str:
    """Returns 15 digits of a number, or of each number in a list; empty where it adds nothing."""
    items = value if isinstance(value, list | tuple) else [value]
    items = [item.rhs if isinstance(item, sympy.Eq) else item for item in items]
    numbers = [item for item in items if isinstance(item, sympy.Expr) and item.is_number]
    if len(numbers) != len(items) or not items or len(items) > 20:
        return ""
    if all(isinstance(item, sympy.Integer) for item in numbers):
        return ""
    shown = [sympy.sstr(sympy.N(item, 15), full_prec=False) for item in numbers]
    text = ", ".join(shown) if isinstance(value, list | tuple) else shown[0]
    return "" if text == _shown(value) else text
