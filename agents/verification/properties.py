"""Asserts that hold by what functions are called, as where one takes back what another does."""

from __future__ import annotations

import ast

from ryzanstein.agents.verification.examples import Stub

__all__ = ["round_trips"]

_INVERSE = (
    ("decode", "encode"),
    ("decrypt", "encrypt"),
    ("decompress", "compress"),
    ("deserialize", "serialize"),
    ("unpack", "pack"),
    ("unescape", "escape"),
    ("parse", "format"),
    ("loads", "dumps"),
)
_VALUES: dict[str, tuple[str, ...]] = {
    "str": ("'abc'", "'helloworld'", "'xyzabcd'", "'a'", "''"),
    "bytes": ("b'abc'", "b'hello'", "b''"),
    "int": ("0", "1", "7", "123"),
    "list": ("[1, 2, 3]", "[5]", "[]"),
}


def round_trips(stub: Stub) -> list[str]:
    """decode(encode(x)) == x, where the code before a stub `decode` has an `encode`, or so.

    Either may be the stub. What the value is follows from the annotation, which is that of a text
    where there is none.
    """
    functions = {
        node.name: node
        for node in ast.parse(stub.source + stub.indent + "pass\n").body
        if isinstance(node, ast.FunctionDef)
    }
    for back, forth in _INVERSE:
        pairs = [
            (name, forth + name.removeprefix(back)) for name in functions if name.startswith(back)
        ]
        for undo, do in pairs:
            if do in functions and stub.name in {undo, do} and len(functions[do].args.args) == 1:
                return [
                    f"assert {undo}({do}({value})) == {value}" for value in _values(functions[do])
                ]
    return []


def _values(function: ast.FunctionDef) -> tuple[str, ...]:
    annotation = function.args.args[0].annotation
    kind = ast.unparse(annotation).partition("[")[0].lower() if annotation else "str"
    return _VALUES.get(kind, ())
