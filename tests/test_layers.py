"""Imports go down only: servers, agents, tools, memory | inference, kernels, core."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "core": "ryzanstein",
    "inference": "ryzanstein.inference",
    "memory": "ryzanstein.memory",
    "tools": "ryzanstein.tools",
    "agents": "ryzanstein.agents",
    "mcp_servers": "ryzanstein.mcp_servers",
}
LEVELS = {
    "ryzanstein.cli": 6,
    "ryzanstein.mcp_servers": 5,
    "ryzanstein.agents": 4,
    "ryzanstein.tools": 3,
    "ryzanstein.memory": 2,
    "ryzanstein.inference": 2,
    "ryzanstein.inference.kernels": 1,
    "ryzanstein": 0,
}


def layer(module: str) -> str:
    """Names the layer a module belongs to: the longest known prefix."""
    return max(
        (name for name in LEVELS if module == name or module.startswith(f"{name}.")), key=len
    )


def imports(path: Path) -> list[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import at line {node.lineno}"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] == "ryzanstein"]


def modules() -> list[tuple[str, Path]]:
    found = []
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            found.append((name, path))
    return found


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_a_module_imports_only_its_own_layer_and_lower_ones(name: str, path: Path) -> None:
    own = layer(name)
    for imported in imports(path):
        other = layer(imported)
        if other == own:
            continue
        assert LEVELS[other] < LEVELS[own], f"{name} must not import {imported}"


def test_the_top_level_holds_no_folder_that_would_shadow_the_package() -> None:
    assert not (ROOT / "ryzanstein").exists()
