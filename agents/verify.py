"""Checks of an answer that need no trust in the model: code is run, arithmetic is done again.

Code is checked with what the task itself says (asserts, doctests, "f(3) = 7"), then with asserts
the model wrote before it wrote the code. Each assert runs by itself in the sandbox, so that one
wrong assert does not hide what the others say, and a failed one says what the code returned
instead.
"""

from __future__ import annotations

import ast
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ryzanstein.agents.services import Services

__all__ = [
    "Check",
    "agrees",
    "check_arithmetic",
    "function_name",
    "given_asserts",
    "parsed_asserts",
    "rounded",
    "run_asserts",
    "verdict",
]

MOST_ASSERTS = 6
_NAMED = re.compile(r"\b([A-Za-z_]\w*)\(([^()\n]*)\)")
_EXAMPLE = re.compile(
    r"\b([A-Za-z_]\w*\((?:[^()\n]|\([^()\n]*\))*\))\s*(?:==?|->|→|returns?|gives?|is)\s+"
    r"('[^'\n]*'|\"[^\"\n]*\"|\[[^\n]*?\](?=[\s,.;]|$)|-?\d+(?:\.\d+)?|True|False|None)"
)
_DOCTEST = re.compile(r"^\s*>>> (.+)\n\s*(?!>>>)(\S.*)$", re.M)
_EQUATION = re.compile(
    r"(?<![\w.])((?:\(?-?\d[\d,]*(?:\.\d+)?\)?\s*(?:[-+*/×÷^]|\*\*)\s*)+\(?-?\d[\d,]*(?:\.\d+)?\)?)"
    r"\s*=\s*(-?\d[\d,]*(?:\.\d+)?)"
)
_DAY = re.compile(r"\d{4}-\d\d-(\d\d)(?: 00:00:00)?")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")

HARNESS = """
import ast as _ast, json as _json

def _said(source):
    test = _ast.parse(source).body[0].test
    if isinstance(test, _ast.Compare) and len(test.ops) == 1:
        value = eval(compile(_ast.Expression(test.left), "check", "eval"), globals())
        return _ast.unparse(test.left) + " gave " + repr(value)[:200]
    return "it is false"

for _source in {asserts}:
    try:
        exec(compile(_source, "check", "exec"), globals())
        _report = [True, ""]
    except AssertionError:
        _report = [False, _said(_source)]
    except Exception as _error:
        _report = [False, type(_error).__name__ + ": " + str(_error)[:200]]
    print("\\n{mark}" + _json.dumps([_source, *_report]))
"""


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
    """True where all of something held, False where something did not, else None."""
    if any(check.passed is False for check in checks):
        return False
    return True if checks and all(check.passed for check in checks) else None


def function_name(task: str) -> str:
    """The function a task names with its arguments, or ""."""
    found = _NAMED.search(task)
    return found.group(1) if found else ""


def given_asserts(task: str) -> list[str]:
    """Asserts a task itself contains: as such, as doctests, or as "f(3) = 7"."""
    lines = [line.strip() for line in task.splitlines() if line.strip().startswith("assert ")]
    lines += [f"assert {call} == {value}" for call, value in _DOCTEST.findall(task)]
    lines += [f"assert {call} == {value}" for call, value in _EXAMPLE.findall(task)]
    return [line for line in dict.fromkeys(lines) if _parses(line)][:MOST_ASSERTS]


def parsed_asserts(text: str, name: str = "") -> list[str]:
    """The asserts in a model's text that parse, differ, and call the function."""
    lines = [line.strip().rstrip(",;") for line in text.splitlines()]
    kept = [line for line in lines if line.startswith("assert ") and f"{name}(" in line]
    return [line for line in dict.fromkeys(kept) if _parses(line)][:MOST_ASSERTS]


def _parses(line: str) -> bool:
    try:
        body = ast.parse(line).body
    except (SyntaxError, ValueError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.Assert)


async def run_asserts(services: Services, code: str, asserts: Sequence[str]) -> list[Check]:
    """Runs code, then each assert by itself, in the sandbox; the first check is that it runs."""
    # Unguessable, so that the code cannot print a report of its own.
    mark = f"@@{secrets.token_hex(8)} "
    harness = HARNESS.replace("{asserts}", json.dumps(list(asserts))).replace("{mark}", mark)
    outcome = await services.call_tool("run_python", {"code": f"{code.rstrip()}\n{harness}"})
    reports = [
        json.loads(line.removeprefix(mark))
        for line in outcome.text.splitlines()
        if line.startswith(mark)
    ]
    if not reports and not (outcome.ok and not asserts):
        return [Check("the code runs", False, last_line(outcome.text))]
    checks = [Check("the code runs", True)]
    return checks + [Check(source, passed, detail) for source, passed, detail in reports]


def last_line(text: str) -> str:
    """The last line of a program's output, where Python names the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" \t[]")]
    lines = [line for line in lines if not line.startswith("[")] or lines
    return lines[-1][:300] if lines else "It failed and printed nothing."


async def check_arithmetic(services: Services, answer: str) -> list[Check]:
    """Does every equation in the answer again, exactly; at most three."""
    checks = []
    for expression, stated in _EQUATION.findall(answer)[:3]:
        plain = expression.replace(",", "").replace("×", "*").replace("÷", "/").replace("^", "**")
        outcome = await services.call_tool("evaluate_expression", {"expression": plain})
        values = numbers(outcome.text) if outcome.ok else []
        if values:
            held = any(same(value, stated) for value in values)
            checks.append(
                Check(f"{expression.strip()} = {stated}", held, outcome.text.strip()[:100])
            )
    return checks


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
