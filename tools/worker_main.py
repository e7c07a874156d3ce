"""The child of `worker.py`: reads a request a line, answers a line, ends with its input."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from ryzanstein.errors import ToolError

_MEMORY_BYTES = 2 << 30
_FUNCTIONS = {
    **{
        name: ("ryzanstein.tools.calculus", name)
        for name in (
            "analyze_number",
            "calculate_matrix",
            "compute_limit",
            "differentiate",
            "integrate",
            "simplify_expression",
            "solve_equation",
        )
    },
    **{
        name: ("ryzanstein.tools.solver", name)
        for name in ("check_satisfiable", "prove_formula", "solve_constraints")
    },
    "compute_distribution": ("ryzanstein.tools.distributions", "compute_distribution"),
    "evaluate": ("ryzanstein.tools.exact", "evaluate"),
    "html_text": ("ryzanstein.tools.html_text", "html_text"),
    "unified": ("ryzanstein.tools.text_diff", "unified"),
}


def main() -> None:
    """Serves requests until the parent closes the pipe."""
    _limit_memory()
    # Answers keep the pipe to themselves: whatever a library prints goes to stderr.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        for line in sys.stdin.buffer:
            answers.write(json.dumps(_answer(json.loads(line))).encode("utf-8") + b"\n")
            answers.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    module, name = _FUNCTIONS[request["function"]]
    try:
        function = getattr(importlib.import_module(module), name)
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


if __name__ == "__main__":
    main()
