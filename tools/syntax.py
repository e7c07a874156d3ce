"""Finds and outlines Python by its syntax tree; runs in the worker process.

The parser is made for files one trusts: a nasty one can exhaust its stack or the memory, which
ends the worker and nothing else.
"""

from __future__ import annotations

import ast
import fnmatch
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["find_syntax", "outline"]

_LINE = 160
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def find_syntax(files: Mapping[str, str], kind: str, name: str, limit: int) -> dict[str, Any]:
    """Finds nodes of a kind whose name matches a pattern.

    Args:
        files: Path to text.
        kind: function, class, call, import, assignment, decorator, argument or any.
        name: Glob pattern; of a dotted name the whole or its last part.
        limit: Most hits.

    Returns:
        hits: path, line, kind, name, text (of the line); unread: paths that do not parse;
        complete: Whether these are all.
    """
    hits: list[dict[str, Any]] = []
    unread: list[str] = []
    for path, text in files.items():
        tree = _parsed(text)
        if tree is None:
            unread.append(path)
            continue
        lines = text.splitlines()
        found = sorted(set(_named(tree)), key=lambda each: each[0])
        for line, what, called in found:
            if kind not in {what, "any"} or not _matches(called, name):
                continue
            if len(hits) == limit:
                return {"hits": hits, "unread": unread, "complete": False}
            shown = lines[line - 1].strip()[:_LINE] if line <= len(lines) else ""
            hit = {"path": path, "line": line, "kind": what, "name": called, "text": shown}
            hits.append(hit)
    return {"hits": hits, "unread": unread, "complete": True}


def outline(files: Mapping[str, str]) -> dict[str, Any]:
    """Lists classes and functions with their signatures, places and first lines of docstrings.

    Returns:
        files: path to items of line, end, depth, text, summary; unread: paths that do not parse.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    unread: list[str] = []
    for path, text in files.items():
        tree = _parsed(text)
        if tree is None:
            unread.append(path)
        else:
            found[path] = list(_outlined(tree.body, 0))
    return {"files": found, "unread": unread}


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(
        name.rpartition(".")[2], pattern
    )


def _named(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Yields line, kind and name of everything that has a name."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, "function", node.name
            case ast.ClassDef():
                yield node.lineno, "class", node.name
            case ast.Call(func=function):
                yield node.lineno, "call", _dotted(function)
            case ast.Import():
                yield from ((node.lineno, "import", alias.name) for alias in node.names)
            case ast.ImportFrom():
                module = "." * node.level + (node.module or "")
                yield node.lineno, "import", module
                for alias in node.names:
                    yield node.lineno, "import", f"{module.rstrip('.')}.{alias.name}"
            case ast.Name(id=name, ctx=ast.Store()):
                yield node.lineno, "assignment", name
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, "assignment", _dotted(node)
            case ast.arg(arg=name):
                yield node.lineno, "argument", name
        if isinstance(node, _Definition):
            for each in node.decorator_list:
                called = each.func if isinstance(each, ast.Call) else each
                yield each.lineno, "decorator", _dotted(called)


def _dotted(node: ast.expr) -> str:
    """Writes a.b.c; what is no plain name before the last dot is left out."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    return ".".join(reversed(parts))


def _outlined(body: list[ast.stmt], depth: int) -> Iterator[dict[str, Any]]:
    for node in body:
        if not isinstance(node, _Definition):
            continue
        summary = (ast.get_docstring(node) or "").strip().partition("\n")[0]
        yield {
            "line": node.lineno,
            "end": node.end_lineno,
            "depth": depth,
            "text": _signature(node),
            "summary": summary[:_LINE],
        }
        if isinstance(node, ast.ClassDef):
            yield from _outlined(node.body, depth + 1)


def _signature(node: _Definition) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})"[:_LINE] if bases else f"class {node.name}"
    start = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{start} {node.name}({ast.unparse(node.args)}){result}"[: 2 * _LINE]
