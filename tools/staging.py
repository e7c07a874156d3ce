"""Finds the files that a piece of code means, so that they can be put into its sandbox.

Code that a model writes says `open("sales.csv")` or `from calc import add` and expects the file to
be there. The sandbox shows nothing of the host, so the files that the code names are copied in:
modules it imports, texts that are a file's path, and, where it looks around by itself (glob,
listdir, …), everything in the root, within bounds.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import stat
import sys
from collections.abc import Iterable, Iterator

from ryzanstein.errors import ToolError
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.walk import Walker

__all__ = ["Stage", "imports_of", "needs_packages"]

_LOOKING = {"glob", "rglob", "iglob", "iterdir", "listdir", "walk", "scandir"}
_MOST_FILES = 1000


def imports_of(code: str) -> set[str]:
    """Returns the dotted names that code imports; an empty set where it cannot be parsed."""
    found: set[str] = set()
    for node in _nodes(code):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def needs_packages(codes: Iterable[str]) -> bool:
    """Tells whether any of the code imports an installed package outside the standard library."""
    tops = {name.partition(".")[0] for code in codes for name in imports_of(code)}
    for top in tops - set(sys.stdlib_module_names):
        with contextlib.suppress(ImportError, ValueError):
            if importlib.util.find_spec(top) is not None:
                return True
    return False


def _nodes(code: str) -> Iterator[ast.AST]:
    try:
        yield from ast.walk(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return


class Stage:
    """Files for a sandbox, collected from the allowed directories.

    Attributes:
        files: Path in the sandbox to content.
    """

    def __init__(self, roots: Roots, room: int) -> None:
        self.files: dict[str, bytes] = {}
        self._roots = roots
        self._room = room

    def add_code(self, name: str, code: str) -> None:
        """Adds code under that name, and what it means."""
        self._keep(name, code.encode("utf-8", "replace"))
        self.add_meant(code)

    def add_meant(self, code: str) -> None:
        """Adds the files that the code imports, names or looks for."""
        names = [f"{name.replace('.', '/')}{end}" for name in imports_of(code) for end in _MODULES]
        looks = False
        for node in _nodes(code):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.append(node.value)
            elif isinstance(node, ast.Attribute | ast.Name):
                looks = (
                    looks or (node.attr if isinstance(node, ast.Attribute) else node.id) in _LOOKING
                )
        for name in names:
            self.add_if_there(name)
        if looks:
            self.add_path(".")

    def add_path(self, path: str) -> None:
        """Adds a file, or every file of a directory.

        Raises:
            ToolError: It is not there, not allowed, or too much.
        """
        with self._roots.place(path) as place:
            found = place.status()
            if found is None or not stat.S_ISDIR(found.st_mode):
                self._add_file(place)
                return
            for entry in Walker(place):
                descriptor = None if entry.is_directory else entry.open_file()
                if descriptor is not None:
                    base = "" if place.shown == "." else f"{place.shown}/"
                    self._read(base + entry.path, descriptor)

    def add_if_there(self, name: str) -> None:
        """Adds a file or a directory below the root where there is one of that path."""
        if not 0 < len(name) < 200 or name in self.files or os.path.isabs(name) or "\n" in name:
            return
        with contextlib.suppress(ToolError), self._roots.place(name) as place:
            found = place.status()
            if found is None or not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                return
            if stat.S_ISDIR(found.st_mode):
                if place.shown != ".":
                    self.add_path(name)
                return
            self._add_file(place)

    def _add_file(self, place: Place) -> None:
        if place.shown in self.files:
            return
        raw = self._read(place.shown, place.open_file())
        if place.shown.endswith(".py"):
            self.add_meant(raw.decode("utf-8", "replace"))

    def _read(self, name: str, descriptor: int) -> bytes:
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_size > self._room:
                raise _too_much(name)
            raw = file.read(self._room + 1)
        self._keep(name, raw)
        return raw

    def _keep(self, name: str, raw: bytes) -> None:
        if name in self.files:
            return
        self._room -= len(raw)
        if self._room < 0 or len(self.files) >= _MOST_FILES:
            raise _too_much(name)
        self.files[name] = raw


_MODULES = (".py", "/__init__.py")


def _too_much(name: str) -> ToolError:
    return ToolError(
        f"There are too many or too large files to run this with ({name}).",
        hint="Name the files that are needed, or work in a smaller directory.",
    )
