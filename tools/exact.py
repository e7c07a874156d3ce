"""Reads a mathematical expression without ever evaluating it as Python.

The text is parsed by `ast` and each node is turned into a sympy object by a method of its own; a
kind of node, a name of a function or an attribute that is not listed is refused. No text ever
reaches sympy, whose own reader calls `eval`.

    17 % 5, 2^10, 0.1 + 0.2            exact numbers: 3/10, not 0.30000000000000004
    x**2 = 4                           an equation is solved for its only unknown
    a = 3; b = 4; sqrt(a**2 + b**2)    statements; the last one is the answer
    sum(k**2 for k in range(1, 11))    comprehensions over finite ranges
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

import sympy

from ryzanstein.errors import ToolError
from ryzanstein.nearest import did_you_mean
from ryzanstein.tools.exact_names import (
    ASSUMPTIONS,
    ATTRIBUTES,
    CONSTANTS,
    FUNCTIONS,
    KEYWORDS,
    LARGEST,
    METHODS,
    MODULES,
    local_functions,
)
from ryzanstein.tools.exact_shown import shown
from ryzanstein.tools.exact_text import parsed

__all__ = ["evaluate", "power", "read_expression"]

_MOST_STEPS = 200_000
_LARGEST_BITS = 20_000_000


def evaluate(expression: str) -> dict[str, str]:
    """Returns the exact result as text, and its decimal value where it is another.

    Raises:
        ToolError: It cannot be read, or uses what is not known here.
    """
    tree, equation = parsed(expression)
    value = _Reader().run(tree)
    if isinstance(value, sympy.Eq) and (equation or value.free_symbols):
        value = _solved(value)
    return shown(value)


def read_expression(expression: str) -> Any:
    """Returns what an expression means: a sympy object, or a list or tuple of them.

    Raises:
        ToolError: It cannot be read, or uses what is not known here.
    """
    return _Reader().run(parsed(expression)[0])


class _Reader:
    """Turns nodes into sympy objects."""

    def __init__(self) -> None:
        self._bound: dict[str, Any] = {}
        self._steps = 0
        self._local = local_functions()

    def run(self, tree: ast.Module) -> Any:
        value: Any = None
        for statement in tree.body:
            match statement:
                case ast.Expr(value=node):
                    value = self.read(node)
                case ast.Assign(targets=[target], value=node):
                    value = self.read(node)
                    self._assign(target, value)
                case ast.Import() | ast.ImportFrom():
                    self._import(statement)
                case _:
                    raise _refused(statement)
        if value is None:
            raise ToolError("There is nothing to calculate.", hint="Give an expression.")
        return value

    def read(self, node: ast.expr) -> Any:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise ToolError("The calculation has too many steps.", hint="Use summation(...).")
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise _refused(node)
        return method(node)

    def _assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._bound[target.id] = value
            return
        if not isinstance(target, ast.Tuple | ast.List) or len(target.elts) != len(value):
            raise _refused(target)
        for part, item in zip(target.elts, value, strict=True):
            self._assign(part, item)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        """Models begin with an import out of habit; the names are here anyway."""
        names = [alias.name for alias in statement.names]
        if isinstance(statement, ast.ImportFrom):
            names = [statement.module or ""]
        for name in names:
            if name.partition(".")[0] not in MODULES:
                raise ToolError(f"{name} cannot be imported here.", hint="Use run_python for code.")

    def _constant(self, node: ast.Constant) -> Any:
        match node.value:
            case bool():
                return sympy.true if node.value else sympy.false
            case int():
                return sympy.Integer(node.value)
            case float():
                # repr is the shortest text that means this number: what was written.
                return sympy.Rational(repr(node.value))
            case complex():
                return sympy.Rational(repr(node.value.imag)) * sympy.I
        raise _refused(node)

    def _name(self, node: ast.Name) -> Any:
        if node.id in self._bound:
            return self._bound[node.id]
        if node.id in CONSTANTS:
            return getattr(sympy, CONSTANTS[node.id])
        if node.id in FUNCTIONS or node.id in self._local or node.id.startswith("_"):
            raise ToolError(f"{node.id} needs arguments.", hint=f"Write {node.id}(...).")
        return sympy.Symbol(node.id)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.read(node.operand)
        match node.op:
            case ast.USub():
                return -value
            case ast.UAdd():
                return value
            case ast.Not():
                return sympy.Not(value)
        raise _refused(node)

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.read(node.left), self.read(node.right)
        match node.op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult() | ast.MatMult():
                return left * right
            case ast.Div() | ast.FloorDiv() | ast.Mod() if right == 0:
                raise ToolError("This divides by zero.", hint="Correct the divisor.")
            case ast.Div():
                return left / right
            case ast.FloorDiv():
                return sympy.floor(left / right)
            case ast.Mod():
                return sympy.Mod(left, right)
            case ast.Pow():
                return power(left, right)
        raise _refused(node)

    def _boolop(self, node: ast.BoolOp) -> Any:
        parts = [self.read(part) for part in node.values]
        return sympy.And(*parts) if isinstance(node.op, ast.And) else sympy.Or(*parts)

    def _compare(self, node: ast.Compare) -> Any:
        kinds: dict[type[ast.cmpop], Any] = {
            ast.Eq: sympy.Eq,
            ast.NotEq: sympy.Ne,
            ast.Lt: sympy.Lt,
            ast.LtE: sympy.Le,
            ast.Gt: sympy.Gt,
            ast.GtE: sympy.Ge,
        }
        left, parts = self.read(node.left), []
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            if type(operator) not in kinds:
                raise _refused(node)
            right = self.read(right_node)
            parts.append(kinds[type(operator)](left, right))
            left = right
        return parts[0] if len(parts) == 1 else sympy.And(*parts)

    def _list(self, node: ast.List | ast.Set) -> list[Any]:
        return [self.read(part) for part in node.elts]

    _set = _list

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.read(part) for part in node.elts)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        pairs = zip(node.keys, node.values, strict=True)
        return {self.read(key): self.read(value) for key, value in pairs if key is not None}

    def _subscript(self, node: ast.Subscript) -> Any:
        value, index = self.read(node.value), self.read(node.slice)
        if not isinstance(value, list | tuple | dict | sympy.MatrixBase):
            raise _refused(node)
        if isinstance(value, dict):
            return value[index]
        if isinstance(value, sympy.MatrixBase) and isinstance(index, tuple):
            return value[tuple(map(int, index))]
        return value[int(index)]

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> list[Any]:
        return list(self._loop(node.generators, node.elt))

    _generatorexp = _setcomp = _listcomp

    def _loop(self, generators: list[ast.comprehension], element: ast.expr) -> Iterator[Any]:
        if not generators:
            yield self.read(element)
            return
        before = dict(self._bound)
        for item in _iterable(self.read(generators[0].iter), generators[0].iter):
            self._assign(generators[0].target, sympy.sympify(item, strict=True))
            if all(self.read(test) == sympy.true for test in generators[0].ifs):
                yield from self._loop(generators[1:], element)
        self._bound = before

    def _attribute(self, node: ast.Attribute) -> Any:
        if self._is_module(node.value):
            if node.attr not in CONSTANTS:
                raise _unknown(node.attr, CONSTANTS)
            return self._name(ast.Name(node.attr))
        if node.attr not in ATTRIBUTES:
            raise _unknown(node.attr, ATTRIBUTES)
        return getattr(self.read(node.value), node.attr)

    def _is_module(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in MODULES and node.id not in self._bound

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute) and not self._is_module(node.func.value):
            if node.func.attr not in METHODS:
                raise _unknown(node.func.attr, METHODS)
            function = getattr(self.read(node.func.value), node.func.attr)
        else:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node.func, ast.Name) else name
            if name in {"symbols", "Symbol", "Function", "var"}:
                return self._symbols(name, node)
            function = self._function(name, node)
        arguments = [self.read(part) for part in node.args]
        keywords = {}
        for keyword in node.keywords:
            if keyword.arg not in KEYWORDS:
                raise _unknown(str(keyword.arg), KEYWORDS)
            value = self.read(keyword.value)
            keywords[keyword.arg] = bool(value) if value in (True, False) else value
        _check_size(node.func, arguments)
        return function(*arguments, **keywords)

    def _function(self, name: str, node: ast.Call) -> Any:
        if name in self._bound:
            bound = self._bound[name]
            if not isinstance(bound, sympy.core.function.UndefinedFunction):
                raise ToolError(f"{name} is no function.", hint=f"Write {name}*(...) to multiply.")
            return bound
        if name in self._local:
            return self._local[name]
        if name not in FUNCTIONS:
            raise _unknown(name or type(node.func).__name__, [*FUNCTIONS, *self._local])
        return getattr(sympy, FUNCTIONS[name])

    def _symbols(self, name: str, node: ast.Call) -> Any:
        """Reads symbols('x y'): the one place where text may stand, and only for names."""
        texts = [part.value for part in node.args if isinstance(part, ast.Constant)]
        names = re.split(r"[\s,]+", str(texts[0]).strip(" ,")) if len(texts) == 1 else []
        if len(node.args) != 1 or not all(part.isidentifier() for part in names) or not names:
            raise ToolError(f"{name} wants names.", hint=f"Write {name}('x').")
        if name == "Function":
            return sympy.Function(names[0])
        assumptions = {}
        for keyword in node.keywords:
            if keyword.arg not in ASSUMPTIONS or not isinstance(keyword.value, ast.Constant):
                raise _unknown(str(keyword.arg), ASSUMPTIONS)
            assumptions[keyword.arg] = bool(keyword.value.value)
        made = [sympy.Symbol(part, **assumptions) for part in names]
        self._bound.update(zip(names, made, strict=True))
        return made[0] if len(made) == 1 else tuple(made)


def _check_size(function: ast.expr, arguments: list[Any]) -> None:
    """Refuses at once what would be calculated until the time is over."""
    name = function.attr if isinstance(function, ast.Attribute) else ""
    name = function.id if isinstance(function, ast.Name) else name
    largest = LARGEST.get(name)
    if largest is None:
        return
    for argument in arguments[:2]:
        if isinstance(argument, sympy.Number) and abs(argument) > largest:
            raise ToolError(
                f"{name} of so large a number cannot be written out.",
                hint=f"At most {largest:,}; use log(...) or an approximation.",
            )


def _iterable(value: Any, node: ast.expr) -> Iterable[Any]:
    if not isinstance(value, list | tuple | range | dict):
        raise _refused(node)
    return value


def power(base: Any, exponent: Any) -> Any:
    """Returns the power, unless it is a number that nobody could write out.

    Raises:
        ToolError: It is.
    """
    if isinstance(base, sympy.Rational) and isinstance(exponent, sympy.Integer):
        size = max(int(base.p).bit_length(), int(base.q).bit_length()) * abs(int(exponent))
        if abs(base) not in (0, 1) and size > _LARGEST_BITS:
            raise ToolError(
                "The power is too large to write out.",
                hint="Use pow(a, b, m) for a remainder, or log(...) for its size.",
            )
    return base**exponent


def _solved(equation: Any) -> Any:
    unknowns = sorted(equation.free_symbols, key=str)
    if len(unknowns) != 1:
        return equation
    return [sympy.Eq(unknowns[0], root) for root in sympy.solve(equation, unknowns[0])]


def _refused(node: ast.AST) -> ToolError:
    what = type(node).__name__
    return ToolError(
        f"{what} is not understood in an expression.", hint="Use run_python for real code."
    )


def _unknown(name: str, known: Iterable[str]) -> ToolError:
    known = list(known)
    listed = f"Known here: {', '.join(sorted(known)[:40])}."
    return ToolError(
        f"{name} is not known in an expression.", hint=did_you_mean(name, known) or listed
    )
