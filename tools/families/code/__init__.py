"""Python code: run, tested, checked, formatted and searched."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import ToolContext
from ryzanstein.tools.fences import blocks
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.staging import Stage

__all__ = ["CodeText", "sources", "staged", "unfenced"]

_STAGED_BYTES = 32 << 20
CodeText = Annotated[
    str, Field(max_length=100_000, description="the code itself, where there is no file")
]


def staged(
    ctx: ToolContext,
    code: dict[str, str],
    paths: tuple[str, ...],
    besides: tuple[str, ...] = (),
) -> dict[str, bytes]:
    """Returns the files for a sandbox: path in it to content.

    Args:
        ctx: Holds the roots; without them only the code itself is there.
        code: Name to text; files that it means come along.
        paths: Files and directories that must be there.
        besides: Files that come along where they are there.

    Raises:
        ToolError: A path is not there, not allowed, or too much.
    """
    if not ctx.roots:
        if paths:
            raise ToolError("No directory is allowed here.", hint="Give the code itself.")
        return {name: text.encode("utf-8", "replace") for name, text in code.items()}
    stage = Stage(Roots(ctx.roots), _STAGED_BYTES)
    for name, text in code.items():
        stage.add_code(name, text)
    for path in paths:
        stage.add_path(path)
    for path in besides:
        stage.add_if_there(path)
    return stage.files


def sources(files: dict[str, bytes]) -> list[str]:
    """Returns the texts of the Python files."""
    return [raw.decode("utf-8", "replace") for name, raw in files.items() if name.endswith(".py")]


def unfenced(code: str) -> str:
    """Takes the code out of a fenced block where a model left the fence on."""
    found = [block.text for block in blocks(code)]
    return "\n".join(found) if found and code.lstrip().startswith("```") else code
