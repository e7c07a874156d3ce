"""What a task says about its own answer: the stub it wants filled, and examples with their results.

People write examples in many ways; each of these becomes one assert:

    >>> f(2)            f(2) == 4        f(2) => 4      f(2) returns 4      f(2)  # 4
    4
    Input: [4, 2]       For n = 5 the output should be 25
    Output: 2
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ryzanstein.tools.fences import blocks

__all__ = ["Stub", "examples", "function_name", "parsed_asserts", "parses", "stub"]

MOST_ASSERTS = 12
_LONGEST = 20_000

_NAMED = re.compile(r"\b([A-Za-z_]\w*)\(([^()\n]*)\)")
_CODE_LINE = re.compile(r"^(?:from\s+[\w.]+\s+import\b|import\s+\w|def\s+\w|class\s+\w|@\w)", re.M)
_DEFINED = re.compile(r"^\s*([A-Za-z_]\w*)\s*=(?!=)", re.M)
_CALL = re.compile(r"\b([A-Za-z_]\w*)\(")
_RELATION = re.compile(
    r"\s*(?:#\s*)?(?:={1,3}>?|[-–=]+>|➞|→|⇒|should\s+(?:return|be|give)|must\s+(?:return|be)|"
    r"will\s+return|returns?|gives?|yields?|is|#)\s*",
)
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w])")
_WORD = re.compile(r"(?:True|False|None|true|false|null)\b")
_WORDS = {"true": "True", "false": "False", "null": "None"}
_GOES_ON = re.compile(r"\s*[-+*/%&|^<>]\s*[\w([{'\"]")
_LAST_EQUALS = re.compile(r"=\s*(\S[^=]*)$")
_INPUT = re.compile(r"^\s*inputs?\s*:\s*(.+?)\s*$", re.I)
_OUTPUT = re.compile(r"^\s*outputs?\s*:\s*(.+?)\s*$", re.I)
_FOR = re.compile(
    r"\bfor\s+(\w+\s*=\s*.+?)\s+(?:(?:the\s+)?(?:output|result|answer)\s+(?:should\s+be|is|must\s+be|will\s+be)|it\s+returns)"
    r"\s+(.+)$",
    re.I | re.M,
)
_PROMPT = re.compile(r"^\s*>>> ?(.*)$")
_MORE = re.compile(r"^\s*\.\.\. ?(.*)$")
_ENDS = re.compile(r"^\s*(?:>>>|\"\"\"|''')")
_OPENING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Stub:
    """A Python function that a task gives without its body.

    Attributes:
        source: The code up to the missing body: imports, helpers, signature and docstring.
        name: The function's name.
        parameters: Its parameters' names, in order.
        annotations: Source of each parameter's annotation, or "".
        indent: White space before a line of its body.
    """

    source: str
    name: str
    parameters: tuple[str, ...]
    annotations: tuple[str, ...]
    indent: str = "    "

    @property
    def opened(self) -> str:
        """The source with the body begun, so that a model cannot take it for finished.

        The last space of the indentation is left out: it begins the next token in the usual
        vocabularies.
        """
        return self.source + self.indent[:-1]


def stub(task: str) -> Stub | None:
    """The last function without a body in a task's code block, or in the code it ends with."""
    for source in _sources(task[:_LONGEST]):
        found = _stub_in(source)
        if found is not None:
            return found
    return None


def _sources(task: str) -> Iterator[str]:
    for block in blocks(task):
        if block.closed and block.language in {"", "python", "py"}:
            yield block.text
    if "```" not in task:
        start = _CODE_LINE.search(task)
        if start is not None:
            yield task[start.start() :]


def _stub_in(source: str) -> Stub | None:
    source = textwrap.dedent(source)
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    last = body[-1] if body else None
    if not isinstance(last, ast.FunctionDef | ast.AsyncFunctionDef) or not _is_empty(last):
        return None
    said = [one for one in last.body if not _says_nothing(one)]
    end = said[-1].end_lineno if said else last.body[0].lineno - 1
    arguments = [*last.args.posonlyargs, *last.args.args, *last.args.kwonlyargs]
    return Stub(
        "\n".join(source.splitlines()[:end]) + "\n",
        last.name,
        tuple(one.arg for one in arguments),
        tuple(ast.unparse(one.annotation) if one.annotation else "" for one in arguments),
        " " * last.body[0].col_offset,
    )


def _is_empty(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether there is nothing but imports, a docstring, pass or an ellipsis."""
    return all(
        isinstance(one, ast.Pass | ast.Import | ast.ImportFrom)
        or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        for one in function.body
    )


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether it only stands where the body will be."""
    return isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is ...
    )


def function_name(task: str) -> str:
    """The function a task names with its arguments, or ""."""
    given = stub(task)
    if given is not None:
        return given.name
    found = _NAMED.search(task)
    return found.group(1) if found else ""


def examples(task: str) -> list[str]:
    """The examples a task states, as asserts that parse, each once and at most MOST_ASSERTS."""
    task = task[:_LONGEST]
    given = stub(task)
    found = [line.strip() for line in task.splitlines() if line.strip().startswith("assert ")]
    found += _doctests(task)
    found += _calls(task, given)
    if given is not None:
        found += _inputs(task, given)
    return [line for line in dict.fromkeys(found) if parses(line)][:MOST_ASSERTS]


def parsed_asserts(text: str, name: str = "") -> list[str]:
    """The asserts in a model's text that parse, differ, and call the function."""
    lines = [line.strip().rstrip(",;") for line in text.splitlines()]
    kept = [line for line in lines if line.startswith("assert ") and f"{name}(" in line]
    return [line for line in dict.fromkeys(kept) if parses(line)][:MOST_ASSERTS]


def parses(line: str) -> bool:
    """Whether a line is one assert."""
    try:
        body = ast.parse(line).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.Assert)


def _doctests(task: str) -> Iterator[str]:
    lines = task.splitlines()
    for place, line in enumerate(lines):
        prompt = _PROMPT.match(line)
        if prompt is None:
            continue
        source, rest = prompt.group(1), lines[place + 1 :]
        while rest and (more := _MORE.match(rest[0])):
            source, rest = f"{source}\n{more.group(1)}", rest[1:]
        expression = _expression(source)
        if expression is None:
            continue
        if isinstance(expression, ast.Compare):
            yield f"assert {ast.unparse(expression)}"
        elif rest and not _ENDS.match(rest[0]) and (value := _value(rest[0])):
            yield f"assert {ast.unparse(expression)} == {value}"


def _expression(source: str) -> ast.expr | None:
    try:
        return ast.parse(source.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _calls(task: str, given: Stub | None) -> Iterator[str]:
    """Calls of a function followed by what they return."""
    # A doctest's result is on the line after it.
    lines = "\n".join(line for line in task.split("\n") if not _PROMPT.match(line))
    known = {*dir(builtins), *_CALL.findall(lines), *_DEFINED.findall(lines)}
    for found in _CALL.finditer(lines):
        end = _closing(lines, found.end() - 1)
        if end is None:
            continue
        call = lines[found.start() : end]
        relation = _RELATION.match(lines, end)
        node = _expression(call)
        if relation is None or node is None or not _is_known(node, known):
            continue
        value = _value(lines[relation.end() :].partition("\n")[0])
        if value and (given is None or found.group(1) == given.name):
            yield f"assert {ast.unparse(node) if chr(10) in call else call} == {value}"


def _is_known(node: ast.expr, known: set[str]) -> bool:
    """Whether every name in an expression is one of those; f(aa) may mean f("aa")."""
    return all(one.id in known for one in ast.walk(node) if isinstance(one, ast.Name))


def _inputs(task: str, given: Stub) -> Iterator[str]:
    """Inputs and outputs by themselves, whose function is the stub's."""
    lines = task.splitlines()
    for one, other in pairwise(lines):
        put, out = _INPUT.match(one), _OUTPUT.match(other)
        if put and out:
            yield from _applied(given, put.group(1), out.group(1))
    for found in _FOR.finditer(task):
        yield from _applied(given, found.group(1), found.group(2))


def _applied(given: Stub, arguments: str, result: str) -> Iterator[str]:
    arguments, value = arguments.strip().rstrip(","), _value(result)
    while arguments and _expression(f"f({arguments})") is None:
        arguments = arguments.rpartition(",")[0]  # words between them and the result
    named = _expression(f"f({arguments})")
    if not value or not isinstance(named, ast.Call):
        return
    keywords = {one.arg for one in named.keywords}
    values = [*named.args, *(one.value for one in named.keywords)]
    if len(values) != len(given.parameters) or not all(map(_is_literal, values)):
        return
    if keywords and len(keywords) == len(values) and not keywords <= set(given.parameters):
        # The text may name an argument differently; its place says which is meant.
        arguments = ", ".join(map(ast.unparse, values))
    yield f"assert {given.name}({arguments}) == {value}"


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False
    return True


def _value(text: str) -> str:
    """The literal that a text begins with, as Python source; "" where it begins with none."""
    text = text.strip().rstrip("`")
    end = _literal_end(text)
    if not end:
        return ""
    literal, rest = text[:end], text[end:]
    if _GOES_ON.match(rest):
        # "19 - 5 - 6 = 8": a calculation, whose value comes last.
        last = _LAST_EQUALS.search(rest)
        return _value(last.group(1)) if last else ""
    if rest[:1].isalnum() or rest[:1] in ("'", '"', "_"):
        return ""
    literal = _WORDS.get(literal, literal)
    node = _expression(literal)
    return literal if node is not None and _is_literal(node) else ""


def _literal_end(text: str) -> int | None:
    """Where the literal that a text begins with ends."""
    if not text:
        return None
    if text[0] in "'\"":
        return _string_end(text, 0)
    if text[0] in _OPENING:
        return _closing(text, 0)
    found = _NUMBER.match(text) or _WORD.match(text)
    return found.end() if found else None


def _string_end(text: str, start: int) -> int | None:
    place = start + 1
    while place < len(text):
        if text[place] == "\\":
            place += 1
        elif text[place] == text[start]:
            return place + 1
        elif text[place] == "\n":
            return None
        place += 1
    return None


def _closing(text: str, start: int) -> int | None:
    """The place after the bracket that closes the one at `start`; strings are skipped."""
    open_ones = []
    place = start
    while place < len(text):
        char = text[place]
        if char in "'\"":
            end = _string_end(text, place)
            if end is None:
                return None
            place = end
            continue
        if char in _OPENING:
            open_ones.append(_OPENING[char])
        elif open_ones and char == open_ones[-1]:
            open_ones.pop()
            if not open_ones:
                return place + 1
        elif char in ")]}":
            return None
        place += 1
    return None
