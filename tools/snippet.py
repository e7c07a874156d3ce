"""Runs a file as a script and shows the value of its last expression, as an interactive Python.

    python snippet.py main.py

This file is copied into the sandbox and runs there alone, so it imports only what every Python has
built in; the module `ast` alone would take as long as starting the interpreter. Models often end
with an expression and expect to see its value.
"""

import sys
import types
from _ast import Expr, Interactive, Module, PyCF_ONLY_AST


def report(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Prints a traceback without the lines of this file."""
    import traceback  # most programs end well

    while trace is not None and trace.tb_frame.f_code.co_filename == report.__code__.co_filename:
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


def run(path: str) -> None:
    """Runs the file as __main__."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    sys.argv[:] = [path]
    sys.excepthook = report
    tree = compile(source, path, "exec", PyCF_ONLY_AST)
    assert isinstance(tree, Module)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], Expr) else None
    # A module of that name, so that pickling and multiprocessing find what the code defines.
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    exec(compile(tree, path, "exec"), module.__dict__)
    if last is not None:
        exec(compile(Interactive([last]), path, "single"), module.__dict__)


if __name__ == "__main__":
    run(sys.argv[1])
