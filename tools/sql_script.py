"""SQL scripts: split into statements, and told whether they can overwrite or delete."""

from __future__ import annotations

import re
import sqlite3

from ryzanstein.errors import ToolError

__all__ = ["only_adds", "statements"]

_MOST_STATEMENTS = 200
# What can only add; everything else may overwrite or delete. A comment may part ON from CONFLICT.
_ADDS = re.compile(
    r"\s*(CREATE\s+(TABLE|UNIQUE\s+INDEX|INDEX|VIEW)|INSERT\s+(OR\s+(IGNORE|ABORT|FAIL)\s+)?INTO)\b"
    r"(?!.*\bCONFLICT\b)",
    re.IGNORECASE | re.DOTALL,
)


def statements(script: str) -> list[str]:
    """Splits a script at the semicolons that end a statement.

    Raises:
        ToolError: There are too many.
    """
    found: list[str] = []
    part = ""
    for piece in re.split(r"(?<=;)", script):
        part += piece
        if sqlite3.complete_statement(part):
            found.append(part.strip())
            part = ""
            if len(found) > _MOST_STATEMENTS:
                raise ToolError(
                    f"There are more than {_MOST_STATEMENTS} statements.",
                    hint="Send them in parts, or insert many rows with one statement.",
                )
    return [one for one in [*found, part.strip()] if one.strip("; \n\t")]


def only_adds(script: str) -> bool:
    """Tells whether no statement of a script can overwrite or delete a row or a table."""
    return all(_ADDS.match(one) for one in statements(script))
