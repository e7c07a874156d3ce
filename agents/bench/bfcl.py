"""The Berkeley Function Calling Leaderboard: its tasks, its answers and its own checker.

All three come from the package bfcl-eval, unchanged. Installed with what it depends on it brings
the clients of dozens of vendors; its checker needs one fact of them, how each writes a dot in a
function's name, so that table alone is replaced by one that leaves names as they are.

Patil et al., "The Berkeley Function Calling Leaderboard", 2025; github.com/ShishirPatil/gorilla.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final

from ryzanstein.agents.bench.data import read_lines
from ryzanstein.agents.running.step import Call
from ryzanstein.errors import InvalidRequest

__all__ = ["SUITES", "Checker", "Function", "Problem", "load"]

SUITES: Final = {"simple": "simple_python", "multiple": "multiple", "parallel": "parallel"}
PACKAGE: Final = "bfcl_eval"
_TABLE: Final = f"{PACKAGE}.constants.model_config"
_HOW: Final = (
    "`pip install --no-deps --target FOLDER bfcl-eval` brings it without the vendors' clients; "
    "name it with --bfcl FOLDER."
)


@dataclass(frozen=True, slots=True)
class Function:
    """What can be called: a name, what it does, and the schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A request, the functions there are, and how the set itself writes them and the answers."""

    id: str
    task: str
    functions: tuple[Function, ...]
    described: Sequence[Mapping[str, Any]]
    answers: Sequence[Mapping[str, Any]]


def load(suite: str, folder: Path | None, limit: int | None) -> list[Problem]:
    """Reads a set, or so many problems spread evenly over it.

    Raises:
        InvalidRequest: The package is not there, or its files are not what they should be.
    """
    data = _package(folder) / "data"
    name = f"BFCL_v4_{SUITES[suite]}.json"
    answers = {
        line["id"]: line["ground_truth"]
        for line in read_lines(_there(data / "possible_answer" / name), "id", "ground_truth")
    }
    lines = list(read_lines(_there(data / name), "id", "question", "function"))
    count = min(limit or len(lines), len(lines))
    chosen = [lines[at * len(lines) // count] for at in range(count)]
    return [_problem(line, answers.get(line["id"])) for line in chosen]


def _problem(line: Mapping[str, Any], answers: Sequence[Mapping[str, Any]] | None) -> Problem:
    if answers is None:
        raise InvalidRequest(f"There is no answer to {line['id']}.", hint=_HOW)
    turns = [message["content"] for turn in line["question"] for message in turn]
    functions = tuple(
        Function(one["name"], one["description"], one["parameters"]) for one in line["function"]
    )
    return Problem(line["id"], "\n".join(turns), functions, line["function"], answers)


class Checker:
    """The leaderboard's own judgement of calls.

    Raises:
        InvalidRequest: The package is not there.
    """

    def __init__(self, suite: str, folder: Path | None) -> None:
        with _importable(_package(folder).parent):
            checker = importlib.import_module(f"{PACKAGE}.eval_checker.ast_eval.ast_checker")
            enums = importlib.import_module(f"{PACKAGE}.constants.enums")
        self._check = checker.ast_checker
        self._language = enums.Language.PYTHON
        self._category = SUITES[suite]

    def fault(self, problem: Problem, calls: Sequence[Call]) -> str:
        """Returns what kind of mistake the calls have, empty where they are right."""
        made = [{call.tool: dict(call.arguments)} for call in calls]
        found = self._check(
            problem.described, made, problem.answers, self._language, self._category, "any"
        )
        return "" if found["valid"] else str(found.get("error_type") or "wrong")


def _package(folder: Path | None) -> Path:
    """The package's folder."""
    if folder is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise InvalidRequest("The package bfcl-eval is not installed.", hint=_HOW)
        return Path(next(iter(spec.submodule_search_locations)))
    found = folder if folder.name == PACKAGE else folder / PACKAGE
    if not (found / "data").is_dir():
        raise InvalidRequest(f"{folder} does not hold the package bfcl-eval.", hint=_HOW)
    return found


def _there(path: Path) -> Path:
    if not path.is_file():
        raise InvalidRequest(f"There is no file {path}.", hint=f"Is it version 4? {_HOW}")
    return path


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Lets the package be imported from a folder, without the table that needs the clients."""
    table = ModuleType(_TABLE)
    table.MODEL_CONFIG_MAPPING = _AsTheyAre()  # type: ignore[attr-defined]
    before = sys.modules.get(_TABLE)
    sys.modules[_TABLE] = table
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        del sys.modules[_TABLE]
        if before is not None:
            sys.modules[_TABLE] = before


class _AsTheyAre(dict[str, SimpleNamespace]):
    """For every model: names of functions are left as they are."""

    def __missing__(self, key: str) -> SimpleNamespace:
        return SimpleNamespace(underscore_to_dot=False)
