"""What differs between two texts, as a unified diff; runs in a worker, since it can be slow."""

from __future__ import annotations

import difflib
from typing import Any

__all__ = ["unified"]


def unified(old: str, new: str, names: list[str], context: int) -> dict[str, Any]:
    """Returns the unified diff and how many lines it adds and removes.

    Args:
        old: The text before.
        new: The text after.
        names: What to call the two.
        context: How many equal lines to show around each change.
    """
    first, second = names
    before, after = old.splitlines(), new.splitlines()
    lines = list(difflib.unified_diff(before, after, first, second, n=context, lineterm=""))
    changes = [line[:1] for line in lines[2:]]
    return {
        "diff": "\n".join(lines),
        "added": changes.count("+"),
        "removed": changes.count("-"),
    }
