"""Runs a file as a script and shows the value of its last expression, as an interactive Python.

    python snippet.py main.py

This file is copied into the sandbox and runs there alone, so it imports only the standard library.
Models often end with an expression and expect to see its value.
"""

import ast
import sys
import types


def report(
    kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
) -> None:
    """Prints a traceback without the lines of this file."""
    import traceback  # takes a third of the start, and most programs end well

    own = {report.__code__.co_filename, ast.__file__}
    while trace is not None and trace.tb_frame.f_code.co_filename in own:
        trace = trace.tb_next
    traceback.print_exception(kind, error, trace)


def run(path: str) -> None:
    """Runs the file as __main__."""
    with open(path, encoding="utf-8") as file:
        source = file.read()
    sys.argv[:] = [path]
    sys.excepthook = report
    tree = ast.parse(source, path)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    # A module of that name, so that pickling and multiprocessing find what the code defines.
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    exec(compile(tree, path, "exec"), module.__dict__)
    if last is not None:
        exec(compile(ast.Interactive([last]), path, "single"), module.__dict__)


if __name__ == "__main__":
    run(sys.argv[1])
