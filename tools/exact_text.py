"""Mathematical text as a Python syntax tree: signs, juxtaposition and factorials of people."""

from __future__ import annotations

import ast
import re

from ryzanstein.errors import ToolError

__all__ = ["parsed"]

_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "÷": "/", "−": "-", "π": " pi ", "∞": " oo ", "^": "**"}
)
_SINGLE_EQUALS = re.compile(r"(?<![<>=!:])=(?!=)")
_JUXTAPOSED = re.compile(r"(?<![\w.])(?!0[xXbBoO])(\d+(?:\.\d+)?)(?=[A-Za-z(])(?![eE][-+]?\d)")
_FACTORIAL = re.compile(r"(\b\w+|\([^()]*\))!(?!=)")


def parsed(expression: str) -> tuple[ast.Module, bool]:
    """Returns the statements, and whether a single = had to be read as an equation.

    Raises:
        ToolError: It is no expression.
    """
    text = expression.strip().strip("`").strip().translate(_SIGNS)
    text = _FACTORIAL.sub(r"factorial(\1)", _JUXTAPOSED.sub(r"\1*", text))
    text = "\n".join(line.strip() for line in text.replace(";", "\n").splitlines())
    try:
        return ast.parse(text), False
    except (SyntaxError, ValueError) as error:
        try:
            return ast.parse(_SINGLE_EQUALS.sub("==", text)), True
        except (SyntaxError, ValueError):
            raise ToolError(
                f"{expression.strip()[:200]!r} is no expression: {error}.",
                hint="Write it like 3*x**2 + sqrt(2): * for times, ** for powers, no words.",
            ) from None
