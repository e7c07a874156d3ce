"""Runs programs with checks, each program in a process of its own; sent into the sandbox as text.

    main('{"mark": "…", "programs": […], "asserts": […], "calls": […], "seconds": 2}')

A line of output begins with the mark and says of one program: its number, then the reports. A
program's own output goes nowhere; one that ends, hangs or kills itself leaves the reports made so
far. This file imports nothing of the package.
"""

import ast
import contextlib
import json
import os
import select
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial

RUNS = "the code runs"
_TOLERANCE = 1e-6
_SHOWN = 200
_VALUE = 1000


class TooLong(BaseException):
    """A check took longer than it may; no Exception, so that programs do not catch it."""


def main(payload: str) -> None:
    """Runs every program and prints its reports."""
    given = json.loads(payload)
    for number, program in enumerate(given["programs"]):
        reports = apart(program, given["asserts"], given["calls"], given["seconds"])
        print(f"\n{given['mark']}{json.dumps([number, reports])}", flush=True)


def apart(program: str, asserts: list[str], calls: list[str], seconds: float) -> list[object]:
    """The reports of one program, run in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _work(program, asserts, calls, seconds, writing)
        finally:
            os._exit(0)
    os.close(writing)
    said = _heard(reading, time.monotonic() + 3 * seconds + 1.0)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    return [json.loads(line) for line in said.split(b"\n")[:-1]]


def _heard(reading: int, until: float) -> bytes:
    """What the child says until it ends or its time is up."""
    parts = []
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([reading], [], [], left)
        part = os.read(reading, 65536) if ready else b""
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def _work(program: str, asserts: list[str], calls: list[str], seconds: float, writing: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    signal.signal(signal.SIGALRM, _expired)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    for report in _reports(program, asserts, calls, seconds, module.__dict__):
        os.write(writing, json.dumps(report).encode() + b"\n")


def _expired(number: int, frame: types.FrameType | None) -> None:
    raise TooLong


def _reports(
    program: str, asserts: list[str], calls: list[str], seconds: float, names: dict[str, object]
) -> Iterator[list[object]]:
    fault = _fault(lambda: exec(compile(program, "code", "exec"), names), seconds)
    yield [RUNS, not fault, fault]
    if fault:
        return
    for source in asserts:
        fault = _fault(partial(_holds, source, names), seconds)
        yield [source, not fault, fault]
    for source in calls:
        found: list[str] = []
        fault = _fault(partial(_show, source, names, found), 0.5)
        yield [source, None, found[0] if found else f"! {fault.partition(':')[0]}"]


def _fault(work: Callable[[], object], seconds: float) -> str:
    """Runs something; says what went wrong with it, or ""."""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TooLong:
        return f"It took longer than {seconds:g} s."
    except AssertionError as error:
        return str(error) or "it is false"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:_SHOWN]}"
    return ""


def _holds(source: str, names: dict[str, object]) -> None:
    """Runs one assert; equal floats need only be close."""
    statement = ast.parse(source).body[0]
    assert isinstance(statement, ast.Assert)
    test = statement.test
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq) or test.ops[1:]:
        exec(compile(source, "check", "exec"), names)
        return
    value = eval(compile(ast.Expression(test.left), "check", "eval"), names)
    wanted = eval(compile(ast.Expression(test.comparators[0]), "check", "eval"), names)
    if not equal(value, wanted):
        raise AssertionError(f"{ast.unparse(test.left)} gave {repr(value)[:_SHOWN]}")


def equal(one: object, other: object) -> bool:
    """Whether two values are the same, floats up to a millionth."""
    if isinstance(one, float) or isinstance(other, float):
        if not isinstance(one, int | float) or not isinstance(other, int | float):
            return False
        return one == other or abs(one - other) <= _TOLERANCE * max(1.0, abs(one), abs(other))
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other)


def _show(source: str, names: dict[str, object], found: list[str]) -> None:
    """Adds the value of a call, as text that is the same for the same value."""
    value = eval(compile(source, "call", "eval"), names)
    if isinstance(value, float):
        value = float(f"{value:.9g}")
    text = repr(value)
    found.append(type(value).__name__ if " at 0x" in text else text[:_VALUE])
