"""The child of `worker.py`: reads a request a line, answers a line, ends with its input."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import psutil

from ryzanstein.errors import ToolError

_MEMORY_BYTES = 2 << 30
_FILE_BYTES = 1 << 30
# Above this a worker is not kept for another call: what a library grabbed it may not give back.
_KEPT_BYTES = 640 << 20
# Module of this package to the functions it offers; each is imported when first asked for.
_OFFERED = {
    "calculus": "analyze_number calculate_matrix compute_limit differentiate integrate "
    "simplify_expression solve_equation",
    "distributions": "compute_distribution",
    "exact": "evaluate",
    "extraction": "extract",
    "html_text": "html_links html_text",
    "json_schema": "validate_data",
    "markup": "html_to_markdown markdown_to_html",
    "regexes": "find_matches replace_matches",
    "solver": "check_satisfiable prove_formula solve_constraints",
    "syntax": "find_syntax outline",
    "tables": "compute_statistics convert_data describe_data describe_values query_data "
    "sample_rows",
    "text_diff": "unified",
}
_FUNCTIONS = {name: module for module, names in _OFFERED.items() for name in names.split()}


def main() -> None:
    """Serves requests until the parent closes the pipe."""
    _limit_memory()
    # Answers keep the pipe to themselves: whatever a library prints goes to stderr.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        for line in sys.stdin.buffer:
            answer = _answer(json.loads(line))
            answer["last"] = _is_large()
            answers.write(json.dumps(answer).encode("utf-8") + b"\n")
            answers.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    name = request["function"]
    try:
        module = importlib.import_module(f"ryzanstein.tools.{_FUNCTIONS[name]}")
        function = getattr(module, name)
        return {"value": function(**request["arguments"])}
    except ToolError as error:
        return {"error": error.message, "hint": error.hint}
    except MemoryError:
        return {"error": "This needs too much memory.", "hint": "Ask for something smaller."}
    except RecursionError:
        return {"error": "This is nested too deeply.", "hint": "Ask for something simpler."}
    except Exception as error:
        # The very top of this process: a library's complaint about its input becomes an answer.
        said = f"{type(error).__name__}: {error}"
        return {"error": said[:500], "hint": "Correct the input and try again."}


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))


def _is_large() -> bool:
    """Whether it holds more memory than a worker that is kept may hold.

    Not the peak that the system counts: after a fork that begins as the parent's.
    """
    return psutil.Process().memory_info().rss > _KEPT_BYTES


if __name__ == "__main__":
    main()
