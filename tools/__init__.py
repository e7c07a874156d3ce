"""Tools that agents use: files, code, mathematics, databases, git, the web and memory.

`toolbox.py` declares, finds and calls them; `families/` has one file a family; `sandbox.py` runs
untrusted code. Names are loaded when first used: a worker process imports this package too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ryzanstein.tools.context import (
        CallRecord,
        Output,
        Store,
        ToolContext,
        ToolResult,
        ToolTimeout,
    )
    from ryzanstein.tools.limits import Limits
    from ryzanstein.tools.toolbox import (
        Tool,
        all_tools,
        call_tool,
        family_names,
        get_tool,
        missing_approval,
        permitted,
        tool,
    )

__all__ = [
    "CallRecord",
    "Limits",
    "Output",
    "Store",
    "Tool",
    "ToolContext",
    "ToolResult",
    "ToolTimeout",
    "all_tools",
    "call_tool",
    "family_names",
    "get_tool",
    "missing_approval",
    "permitted",
    "tool",
]
_CONTEXT = {"CallRecord", "Output", "Store", "ToolContext", "ToolResult", "ToolTimeout"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "context" if name in _CONTEXT else "limits" if name == "Limits" else "toolbox"
    return getattr(importlib.import_module(f"ryzanstein.tools.{home}"), name)
