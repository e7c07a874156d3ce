"""Checks of everyday answers: does the text say the right thing, and only that?

A check takes the answer and a Scene (the folder of the task) and returns "" where the answer is
right, else one line that says what was expected. Numbers are compared as numbers, so 1,200.5 equals
1200.5; an answer that merely lists many numbers or names does not pass by containing the right one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

__all__ = ["Check", "Scene", "all_of", "code", "day", "file_lines", "names", "number"]

# Numbers of an answer that are neither expected nor in the task: more than this is a listing.
STRAY_NUMBERS = 4
_NUMBER = re.compile(
    r"(?<![\w.])-?\d+(?:[,\u202f\u00a0 ]\d{3})+(?:\.\d+)?|(?<![\w.])-?\d+(?:\.\d+)?"
)
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a task ran: its folder, the words of the task, and how to run code in the sandbox."""

    root: Path
    task: str
    run_python: Callable[[str], tuple[bool, str]]


Check = Callable[[str, Scene], str]


def _numbers(text: str) -> list[float]:
    found = (re.sub(r"[,\u202f\u00a0 ]", "", match) for match in _NUMBER.findall(text))
    return [float(value) for value in found]


def number(expected: float, tolerance: float = 1e-9) -> Check:
    """The answer names the expected number and is no listing."""

    def check(answer: str, scene: Scene) -> str:
        found = _numbers(answer)
        if not any(abs(value - expected) <= tolerance for value in found):
            return f"expected the number {expected}"
        given = {*_numbers(scene.task), expected}
        strays = {value for value in found if value not in given}
        return "" if len(strays) <= STRAY_NUMBERS else f"a listing, expected {expected} alone"

    return check


def names(*wanted: str, never: tuple[str, ...] = ()) -> Check:
    """The answer contains each wanted word and none of the others, letter case ignored."""

    def check(answer: str, scene: Scene) -> str:
        folded = answer.casefold()
        missing = [word for word in wanted if word.casefold() not in folded]
        wrong = [word for word in never if word.casefold() in folded]
        if missing:
            return f"expected {', '.join(missing)}"
        return f"should not name {', '.join(wrong)}" if wrong else ""

    return check


def day(expected: date) -> Check:
    """The answer names the date, in any of the usual ways of writing one."""
    month = expected.strftime("%B")
    forms = (
        expected.isoformat(),
        f"{month} {expected.day}",
        f"{expected.day} {month}",
        f"{expected.day} of {month}",
        f"{month[:3]} {expected.day}",
        f"{expected.day} {month[:3]}",
    )

    def check(answer: str, scene: Scene) -> str:
        text = re.sub(r"(?<=\d)(st|nd|rd|th)\b", "", answer)
        found = any(re.search(rf"(?<!\d){re.escape(f)}(?!\d)", text, re.IGNORECASE) for f in forms)
        return "" if found else f"expected the date {expected.isoformat()}"

    return check


def file_lines(name: str, *lines: str) -> Check:
    """The task left a file that holds exactly these lines, white space at the ends ignored."""

    def check(answer: str, scene: Scene) -> str:
        path = scene.root / name
        if not path.is_file():
            return f"expected a file {name}"
        found = [line.strip() for line in path.read_text(encoding="utf-8").strip().splitlines()]
        folded = [line.casefold() for line in found]
        wanted = [line.casefold() for line in lines]
        return "" if folded == wanted else f"expected {list(lines)} in {name}, found {found}"

    return check


def code(tests: str) -> Check:
    """The Python blocks of the answer, put one after another, pass hidden tests in the sandbox."""

    def check(answer: str, scene: Scene) -> str:
        blocks = _FENCE.findall(answer)
        if not blocks:
            return "expected a block of Python code in the answer"
        passed, output = scene.run_python("\n\n".join(blocks) + "\n\n" + tests)
        last = output.strip().splitlines()[-1:] or ["no output"]
        return "" if passed else f"hidden test: {last[0]}"

    return check


def all_of(*checks: Check) -> Check:
    """Every check holds."""

    def check(answer: str, scene: Scene) -> str:
        return next((fault for each in checks if (fault := each(answer, scene))), "")

    return check
