"""Rows of a table as text: a line a row, cells with bars between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["rows_text"]


def rows_text(columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """Returns the rows under their columns, and below how many they are.

    Args:
        columns: Their names.
        rows: The cells of each.
        note: Added to the count, such as ", the first 100 of more".
    """
    lines = [" | ".join(columns), *(" | ".join(map(_shown, row)) for row in rows)]
    return "\n".join([*lines, f"[{len(rows)} row{'s' * (len(rows) != 1)}{note}]"])


def _shown(value: Any) -> str:
    return "NULL" if value is None else str(value).replace("\n", " ")
