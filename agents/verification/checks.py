"""What a check says, what several say together, and when two numbers are the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "RUNS",
    "Check",
    "agrees",
    "close",
    "last_line",
    "numbers",
    "rounded",
    "same",
    "verdict",
]

# What is checked first of code.
RUNS = "the code runs"
_DAY = re.compile(r"\d{4}-\d\d-(\d\d)(?: 00:00:00)?")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was checked, whether it held (None: could not be told), and details."""

    name: str
    passed: bool | None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        return asdict(self)


def verdict(checks: Sequence[Check]) -> bool | None:
    """True where all of something held, False where something did not, else None.

    That code runs says nothing of what it does: by itself it is no verdict.
    """
    if any(check.passed is False for check in checks):
        return False
    told = any(check.name != RUNS for check in checks)
    return True if told and all(check.passed for check in checks) else None


def last_line(text: str) -> str:
    """The last line of a program's output, where Python names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t[]")]
    lines = [line for line in lines if not line.startswith("[")] or lines
    return lines[-1][:300] if lines else "It failed and printed nothing."


def agrees(answer: str, result: str) -> bool | None:
    """Whether an answer states a number of a short result; None where that is no short value."""
    day = _DAY.fullmatch(result.strip())
    if day is not None:
        return result.strip() in answer or bool(re.search(rf"\b0?{int(day.group(1))}\b", answer))
    values = numbers(result)
    if not 1 <= len(values) <= 3 or len(result) > 120:
        return None
    stated = _NUMBER.findall(answer)
    return any(same(value, text) for value in values for text in stated)


def numbers(text: str) -> list[float]:
    """Every number in a text."""
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text) if found.strip(",")]


def rounded(text: str, decimals: int | None) -> str:
    """A text with its fractions rounded as asked, else to what a float can be trusted for."""

    def shorter(found: re.Match[str]) -> str:
        value = float(found.group())
        return f"{value:.{decimals}f}" if decimals is not None else f"{value:.10g}"

    longest = 10 if decimals is None else decimals + 1
    return re.sub(rf"(?<![\w.])-?\d+\.\d{{{longest},}}(?![\w.])", shorter, text)


def close(one: float, other: float) -> bool:
    """Whether two numbers are the same up to rounding to two decimals."""
    return abs(one - other) <= max(0.0051, 1e-6 * abs(other))


def same(value: float, stated: str) -> bool:
    """Whether a stated number is the value, rounded to as many decimals as are stated."""
    plain = stated.replace(",", "")
    decimals = len(plain.partition(".")[2])
    return abs(value - float(plain)) <= 0.5 * 10.0 ** (-decimals) + 1e-9
