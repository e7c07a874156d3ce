"""A directory that tools may touch, and a call that needs only a name and arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ryzanstein.tools import ToolContext, ToolResult, call_tool

Call = Callable[..., Awaitable[ToolResult]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def ctx(root: Path) -> ToolContext:
    return ToolContext(roots=(root,), grants=frozenset({"*"}))


@pytest.fixture
def call(ctx: ToolContext) -> Call:
    async def function(name: str, args: Any = None, **changes: Any) -> ToolResult:
        return await call_tool(dataclasses.replace(ctx, **changes), name, args or {})

    return function
