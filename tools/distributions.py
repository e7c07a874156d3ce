"""Probability distributions, by mpmath; runs in the worker process.

    density    at x: of a discrete distribution the probability of exactly x
    below      P(X <= x)
    above      P(X >= x) of a discrete distribution, P(X > x) of a continuous one
    quantile   the smallest x with P(X <= x) >= p

The formulas are those of the NIST Digital Library of Mathematical Functions: incomplete gamma
(8.2) and beta functions (8.17), the error function (7.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath

from ryzanstein.errors import ToolError

__all__ = ["PARAMETERS", "compute_distribution"]

_Real = Any  # mpmath's numbers
_MOST_STEPS = 10_000
_BISECTIONS = 200

PARAMETERS: dict[str, tuple[str, ...]] = {
    "normal": ("mean", "sd"),
    "exponential": ("rate",),
    "uniform": ("low", "high"),
    "student_t": ("df",),
    "chi_squared": ("df",),
    "f": ("df1", "df2"),
    "beta": ("a", "b"),
    "gamma": ("shape", "rate"),
    "binomial": ("n", "p"),
    "geometric": ("p",),
    "hypergeometric": ("population", "successes", "draws"),
    "poisson": ("rate",),
}
_DEFAULTS = {"normal": {"mean": 0.0, "sd": 1.0}, "uniform": {"low": 0.0, "high": 1.0}}


@dataclass(frozen=True, slots=True)
class _Distribution:
    """One distribution with its parameters.

    Attributes:
        density: Of x.
        below: P(X <= x).
        low: Smallest x there can be.
        high: Largest.
        mean: None where there is none.
        variance: None where there is none.
        discrete: Whether x is a whole number.
    """

    density: Callable[[_Real], _Real]
    below: Callable[[_Real], _Real]
    low: _Real
    high: _Real
    mean: _Real | None
    variance: _Real | None
    discrete: bool = False


def compute_distribution(
    name: str, parameters: Mapping[str, float], at: float | None, probability: float | None
) -> dict[str, float | None]:
    """Returns mean and variance, and what was asked for at x or for a probability.

    Raises:
        ToolError: A parameter is missing, unknown or out of its bounds.
    """
    given = {**_DEFAULTS.get(name, {}), **parameters}
    wanted = PARAMETERS[name]
    if set(given) != set(wanted):
        raise ToolError(
            f"{name} takes {', '.join(wanted)}, not {', '.join(sorted(given)) or 'nothing'}.",
            hint=f"Give parameters as {dict.fromkeys(wanted, 1)}.",
        )
    made = _MAKERS[name](**{key: mpmath.mpf(value) for key, value in given.items()})
    found = {"mean": _number(made.mean), "variance": _number(made.variance)}
    if at is not None:
        x = mpmath.floor(at) if made.discrete else mpmath.mpf(at)
        exact = not made.discrete or x == at
        below = _below(made, x)
        density = made.density(x) if exact and made.low <= x <= made.high else mpmath.mpf(0)
        above = 1 - below + (density if made.discrete else 0)
        found |= {"density": _number(density), "below": _number(below), "above": _number(above)}
    if probability is not None:
        found["quantile"] = _number(_quantile(made, mpmath.mpf(probability)))
    return found


def _number(value: _Real | None) -> float | None:
    if value is None:
        return None
    return float(mpmath.nstr(mpmath.re(value), 12))


def _below(made: _Distribution, x: _Real) -> _Real:
    if x < made.low:
        return mpmath.mpf(0)
    return mpmath.mpf(1) if x >= made.high else mpmath.re(made.below(x))


def _quantile(made: _Distribution, probability: _Real) -> _Real:
    low = made.low if mpmath.isfinite(made.low) else mpmath.mpf(-1)
    high = made.high if mpmath.isfinite(made.high) else mpmath.mpf(1)
    while made.low == -mpmath.inf and _below(made, low) > probability:
        low *= 2
    while made.high == mpmath.inf and _below(made, high) < probability:
        high = high * 2 + 1
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        middle = mpmath.floor(middle) if made.discrete else middle
        if high - low <= (1 if made.discrete else mpmath.eps * (1 + abs(middle))):
            break
        if _below(made, middle) >= probability:
            high = middle
        else:
            low = middle
    return low if made.discrete and _below(made, low) >= probability else high


def _require(holds: Any, what: str) -> None:
    if not holds:
        raise ToolError(f"It must hold that {what}.", hint="Correct the parameters.")


def _whole(value: _Real, what: str) -> int:
    _require(value == mpmath.floor(value), f"{what} is a whole number")
    return int(value)


def _normal(mean: _Real, sd: _Real) -> _Distribution:
    _require(sd > 0, "sd > 0")
    return _Distribution(
        lambda x: mpmath.npdf(x, mean, sd),
        lambda x: mpmath.ncdf(x, mean, sd),
        -mpmath.inf,
        mpmath.inf,
        mean,
        sd**2,
    )


def _exponential(rate: _Real) -> _Distribution:
    _require(rate > 0, "rate > 0")
    return _Distribution(
        lambda x: rate * mpmath.exp(-rate * x),
        lambda x: -mpmath.expm1(-rate * x),
        mpmath.mpf(0),
        mpmath.inf,
        1 / rate,
        1 / rate**2,
    )


def _uniform(low: _Real, high: _Real) -> _Distribution:
    _require(low < high, "low < high")
    return _Distribution(
        lambda x: 1 / (high - low),
        lambda x: (x - low) / (high - low),
        low,
        high,
        (low + high) / 2,
        (high - low) ** 2 / 12,
    )


def _student(df: _Real) -> _Distribution:
    _require(df > 0, "df > 0")
    scale = mpmath.gamma((df + 1) / 2) / (mpmath.sqrt(df * mpmath.pi) * mpmath.gamma(df / 2))

    def below(x: _Real) -> _Real:
        half = mpmath.betainc(df / 2, 0.5, 0, df / (df + x * x), regularized=True) / 2
        return 1 - half if x > 0 else half

    return _Distribution(
        lambda x: scale * (1 + x * x / df) ** (-(df + 1) / 2),
        below,
        -mpmath.inf,
        mpmath.inf,
        mpmath.mpf(0) if df > 1 else None,
        df / (df - 2) if df > 2 else None,
    )


def _gamma(shape: _Real, rate: _Real) -> _Distribution:
    _require(shape > 0 and rate > 0, "shape > 0 and rate > 0")
    return _Distribution(
        lambda x: _power(rate * x, shape - 1) * rate * mpmath.exp(-rate * x) / mpmath.gamma(shape),
        lambda x: mpmath.gammainc(shape, 0, rate * x, regularized=True),
        mpmath.mpf(0),
        mpmath.inf,
        shape / rate,
        shape / rate**2,
    )


def _power(base: _Real, exponent: _Real) -> _Real:
    return mpmath.inf if base == 0 and exponent < 0 else base**exponent


def _beta(a: _Real, b: _Real) -> _Distribution:
    _require(a > 0 and b > 0, "a > 0 and b > 0")
    return _Distribution(
        lambda x: _power(x, a - 1) * _power(1 - x, b - 1) / mpmath.beta(a, b),
        lambda x: mpmath.betainc(a, b, 0, x, regularized=True),
        mpmath.mpf(0),
        mpmath.mpf(1),
        a / (a + b),
        a * b / ((a + b) ** 2 * (a + b + 1)),
    )


def _fisher(df1: _Real, df2: _Real) -> _Distribution:
    _require(df1 > 0 and df2 > 0, "df1 > 0 and df2 > 0")
    ratio = df1 / df2

    def density(x: _Real) -> _Real:
        top = _power(ratio, df1 / 2) * _power(x, df1 / 2 - 1)
        return top * (1 + ratio * x) ** (-(df1 + df2) / 2) / mpmath.beta(df1 / 2, df2 / 2)

    spread = 2 * df2**2 * (df1 + df2 - 2)
    return _Distribution(
        density,
        lambda x: mpmath.betainc(
            df1 / 2, df2 / 2, 0, ratio * x / (1 + ratio * x), regularized=True
        ),
        mpmath.mpf(0),
        mpmath.inf,
        df2 / (df2 - 2) if df2 > 2 else None,
        spread / (df1 * (df2 - 2) ** 2 * (df2 - 4)) if df2 > 4 else None,
    )


def _binomial(n: _Real, p: _Real) -> _Distribution:
    _whole(n, "n")
    _require(n >= 1 and 0 <= p <= 1, "n >= 1 and 0 <= p <= 1")
    return _Distribution(
        lambda k: mpmath.binomial(n, k) * p**k * (1 - p) ** (n - k),
        lambda k: mpmath.betainc(n - k, k + 1, 0, 1 - p, regularized=True),
        mpmath.mpf(0),
        n,
        n * p,
        n * p * (1 - p),
        discrete=True,
    )


def _geometric(p: _Real) -> _Distribution:
    """Of the number of tries up to and with the first success."""
    _require(0 < p <= 1, "0 < p <= 1")
    return _Distribution(
        lambda k: p * (1 - p) ** (k - 1),
        lambda k: 1 - (1 - p) ** k,
        mpmath.mpf(1),
        mpmath.inf,
        1 / p,
        (1 - p) / p**2,
        discrete=True,
    )


def _poisson(rate: _Real) -> _Distribution:
    _require(rate > 0, "rate > 0")
    return _Distribution(
        lambda k: mpmath.exp(-rate + k * mpmath.log(rate) - mpmath.loggamma(k + 1)),
        lambda k: mpmath.gammainc(k + 1, rate, mpmath.inf, regularized=True),
        mpmath.mpf(0),
        mpmath.inf,
        rate,
        rate,
        discrete=True,
    )


def _hypergeometric(population: _Real, successes: _Real, draws: _Real) -> _Distribution:
    size, good, drawn = (
        _whole(value, name)
        for value, name in (
            (population, "population"),
            (successes, "successes"),
            (draws, "draws"),
        )
    )
    _require(0 <= good <= size and 0 <= drawn <= size > 0, "successes, draws <= population")
    _require(drawn <= _MOST_STEPS, f"draws <= {_MOST_STEPS}")
    low, high = max(0, drawn + good - size), min(good, drawn)

    def density(k: _Real) -> _Real:
        ways = mpmath.binomial(good, k) * mpmath.binomial(size - good, drawn - k)
        return ways / mpmath.binomial(size, drawn)

    share = mpmath.mpf(good) / size
    spread = drawn * share * (1 - share) * (size - drawn) / max(size - 1, 1)
    return _Distribution(
        density,
        lambda k: mpmath.fsum(density(i) for i in range(low, int(k) + 1)),
        mpmath.mpf(low),
        mpmath.mpf(high),
        drawn * share,
        spread,
        discrete=True,
    )


_MAKERS: dict[str, Callable[..., _Distribution]] = {
    "normal": _normal,
    "exponential": _exponential,
    "uniform": _uniform,
    "student_t": _student,
    "chi_squared": lambda df: _gamma(df / 2, mpmath.mpf(1) / 2),
    "f": _fisher,
    "beta": _beta,
    "gamma": _gamma,
    "binomial": _binomial,
    "geometric": _geometric,
    "hypergeometric": _hypergeometric,
    "poisson": _poisson,
}
