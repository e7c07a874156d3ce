"""What an expression may name: constants, functions, methods, attributes and keywords."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ryzanstein.errors import ToolError

__all__ = [
    "ASSUMPTIONS",
    "ATTRIBUTES",
    "CONSTANTS",
    "FUNCTIONS",
    "KEYWORDS",
    "LARGEST",
    "METHODS",
    "MODULES",
    "local_functions",
]

CONSTANTS = {
    "pi": "pi",
    "E": "E",
    "e": "E",
    "I": "I",
    "oo": "oo",
    "inf": "oo",
    "infinity": "oo",
    "GoldenRatio": "GoldenRatio",
    "EulerGamma": "EulerGamma",
    "nan": "nan",
}

_SAME = """
sqrt cbrt root Abs sign floor ceiling exp log sin cos tan cot sec csc asin acos atan acot atan2
sinh cosh tanh asinh acosh atanh factorial factorial2 subfactorial binomial gamma beta zeta erf
re im arg conjugate gcd lcm Mod simplify expand factor cancel apart together collect trigsimp
nsimplify radsimp ratsimp powsimp logcombine expand_trig expand_log solve solveset linsolve
nonlinsolve nsolve dsolve diff integrate limit series summation product Sum Product Derivative
Integral Limit Eq Ne Lt Le Gt Ge And Or Not Matrix eye zeros ones diag det isprime nextprime
prevprime prime primepi factorint primefactors divisors divisor_count divisor_sigma totient mobius
fibonacci lucas catalan bernoulli harmonic npartitions mod_inverse sqrt_mod discrete_log n_order
primitive_root Rational Integer Float Heaviside DiracDelta Piecewise degree roots real_roots Poly
resultant discriminant interpolate reduce_inequalities numer denom rf ff besselj LambertW
Interval FiniteSet Union Intersection continued_fraction
"""
FUNCTIONS = {name: name for name in _SAME.split()} | {
    "abs": "Abs",
    "ln": "log",
    "ceil": "ceiling",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "comb": "binomial",
    "nCr": "binomial",
    "perm": "ff",
    "derivative": "diff",
    "integral": "integrate",
    "phi": "totient",
    "N": "N",
}

METHODS = set(
    """
    subs evalf n simplify expand factor diff integrate limit series det inv transpose rank rref
    eigenvals eigenvects nullspace trace coeff degree together apart cancel nsimplify doit
    as_numer_denom conjugate norm dot cross charpoly row col all_coeffs is_prime collect keys
    values items solve round equals
    """.split()
)
ATTRIBUTES = {"T", "rhs", "lhs", "p", "q", "free_symbols", "shape", "is_integer", "is_prime"}
KEYWORDS = {"dict", "n", "set", "real", "positive", "domain"}
ASSUMPTIONS = {"real", "positive", "negative", "integer", "nonnegative", "nonzero", "complex"}
MODULES = {"sympy", "math", "sp", "sm", "cmath", "fractions"}

# Beyond these arguments the result alone has more digits than anyone reads.
LARGEST = {
    "factorial": 100_000,
    "factorial2": 100_000,
    "subfactorial": 100_000,
    "binomial": 1_000_000,
    "comb": 1_000_000,
    "nCr": 1_000_000,
    "ff": 100_000,
    "perm": 100_000,
    "rf": 100_000,
    "gamma": 100_000,
    "fibonacci": 1_000_000,
    "lucas": 1_000_000,
    "catalan": 100_000,
    "bernoulli": 2_000,
    "harmonic": 20_000,
    "npartitions": 1_000_000,
    "prime": 1_000_000_000,
    "eye": 200,
    "zeros": 200,
    "ones": 200,
}

_MOST_ITEMS = 100_000


def local_functions() -> dict[str, Callable[..., Any]]:
    """Returns the functions that Python has and sympy has not, on exact numbers."""
    return {
        "sum": lambda items, start=0: sum(_sized(items), start),
        "min": lambda *items: _extreme("Min", items),
        "max": lambda *items: _extreme("Max", items),
        "Min": lambda *items: _extreme("Min", items),
        "Max": lambda *items: _extreme("Max", items),
        "mean": lambda *items: _mean(items),
        "average": lambda *items: _mean(items),
        "median": lambda *items: _median(items),
        "len": lambda items: _number(len(items)),
        "sorted": lambda items: sorted(_sized(items)),
        "list": lambda items: list(_sized(items)),
        "set": lambda items: sorted(set(_sized(items))),
        "range": _range,
        "pow": _pow,
        "round": _round,
        "int": lambda value: _number(int(value)),
        "float": _numeric,
        "log10": lambda value: _sympy().log(value, 10),
        "log2": lambda value: _sympy().log(value, 2),
        "primerange": lambda low, high: list(_sympy().primerange(low, min(high, low + 10**6))),
        "print": lambda value: value,
    }


def _sympy() -> Any:
    import sympy

    return sympy


def _number(value: int) -> Any:
    return _sympy().Integer(value)


def _numeric(value: Any) -> Any:
    return _sympy().N(value)


def _sized(items: Any) -> list[Any]:
    if isinstance(items, range) and len(items) > _MOST_ITEMS:
        raise ToolError(f"There are {len(items)} items.", hint="Use summation(f, (k, low, high)).")
    return [_sympy().sympify(item, strict=True) for item in items]


def _flat(items: tuple[Any, ...]) -> list[Any]:
    single = len(items) == 1 and isinstance(items[0], Iterable)
    found = _sized(items[0] if single else items)
    if not found:
        raise ToolError("There are no numbers.", hint="Give at least one.")
    return found


def _extreme(name: str, items: tuple[Any, ...]) -> Any:
    return getattr(_sympy(), name)(*_flat(items))


def _mean(items: tuple[Any, ...]) -> Any:
    found = _flat(items)
    return sum(found, _number(0)) / len(found)


def _median(items: tuple[Any, ...]) -> Any:
    found = sorted(_flat(items))
    half = len(found) // 2
    return found[half] if len(found) % 2 else (found[half - 1] + found[half]) / 2


def _range(*bounds: Any) -> range:
    made = range(*(int(bound) for bound in bounds))
    if len(made) > _MOST_ITEMS:
        raise ToolError(f"There are {len(made)} items.", hint="Use summation(f, (k, low, high)).")
    return made


def _pow(base: Any, exponent: Any, modulus: Any = None) -> Any:
    if modulus is not None:
        return _number(pow(int(base), int(exponent), int(modulus)))
    from ryzanstein.tools.exact import power

    return power(base, exponent)


def _round(value: Any, digits: Any = 0) -> Any:
    """Rounds half to even, exactly."""
    places = int(digits)
    scaled = _sympy().nsimplify(value) * 10**places
    floor = _sympy().floor(scaled)
    rest = scaled - floor
    half = _sympy().Rational(1, 2)
    up = rest > half or (rest == half and floor % 2 == 1)
    return (floor + (1 if up else 0)) / _number(10) ** places
