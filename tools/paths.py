"""The one door to files: nothing outside the allowed roots is ever opened.

A path is walked component by component from a descriptor of its root, each opened relative to the
one before and never through a symbolic link; links are read and walked by hand. So a link that
leads out, `..`, or a directory swapped for a link while the walk goes on, ends at the root's edge
whatever happens meanwhile. Where the system has no descriptor-relative calls (Windows), the path is
resolved and compared before it is opened; that narrows a race but does not close it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ryzanstein.errors import ToolError
from ryzanstein.nearest import nearest

__all__ = ["Place", "Roots"]

_WALKS = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_MOST_LINKS = 40
_FOREIGN = re.compile(r"^(\\\\|//|[A-Za-z]:[\\/]|[A-Za-z]:$|file:|https?:)")


class Place:
    """A name in an opened directory inside a root; the thing itself may not exist.

    Attributes:
        directory: Descriptor of the directory; None where the system has no such calls.
        name: Its name there, "." for the directory itself.
        path: Its absolute path, for messages and for programs that take paths only.
        shown: The path relative to its root.
    """

    def __init__(self, directory: int | None, name: str, path: Path, shown: str) -> None:
        self.directory = directory
        self.name = name
        self.path = path
        self.shown = shown

    @property
    def target(self) -> str:
        """What calls that take `dir_fd=place.directory` are to be given as path."""
        return str(self.path) if self.directory is None else self.name

    def status(self) -> os.stat_result | None:
        """Returns its status, links not followed, or None where it does not exist."""
        try:
            return os.stat(self.target, dir_fd=self.directory, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open_file(self) -> int:
        """Returns a descriptor of the regular file, for reading.

        Raises:
            ToolError: It does not exist or is no regular file.
        """
        found = self.status()
        if found is None:
            raise ToolError(f"{self.shown} does not exist.", hint=self._neighbours())
        if stat.S_ISDIR(found.st_mode):
            raise ToolError(f"{self.shown} is a directory.", hint="Use list_files to look into it.")
        # Not even opened: opening a device or a pipe can have effects or wait for ever.
        if not stat.S_ISREG(found.st_mode):
            raise ToolError(f"{self.shown} is no regular file.", hint="Choose another file.")
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with _plain_errors(self.shown):
            descriptor = os.open(self.target, flags, dir_fd=self.directory)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ToolError(f"{self.shown} changed while it was opened.", hint="Try again.")
        return descriptor

    def open_directory(self) -> int:
        """Returns a descriptor of the directory.

        Raises:
            ToolError: It does not exist or is no directory.
        """
        if self.status() is None:
            raise ToolError(f"{self.shown} does not exist.", hint=self._neighbours())
        with _plain_errors(self.shown):
            return os.open(self.target, _DIRECTORY, dir_fd=self.directory)

    def remove_file(self) -> None:
        """Removes the file or link, if it is still there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.target, dir_fd=self.directory)

    def _neighbours(self) -> str:
        with contextlib.suppress(OSError):
            where = self.path.parent if self.directory is None else self.directory
            near = nearest(self.name, os.listdir(where))
            if near:
                return f"Did you mean {' or '.join(near)}? list_files shows what is there."
        return "Use list_files to see what is there."


class Roots:
    """The directories that may be touched."""

    def __init__(self, roots: Sequence[Path]) -> None:
        if not roots:
            raise ToolError(
                "No directory is allowed here.", hint="Set RYZANSTEIN_ROOTS or give a root."
            )
        self._roots = [(Path(os.path.abspath(root)), Path(root).resolve()) for root in roots]

    @property
    def first(self) -> Path:
        """Where relative paths start."""
        return self._roots[0][1]

    def holds(self, path: Path) -> bool:
        """Tells whether an already resolved path lies in a root."""
        return any(path == real or real in path.parents for _, real in self._roots)

    def name(self, place: Place) -> str:
        """Returns what a place is called in messages and grants, the same for every way there."""
        near = place.path == self.first or self.first in place.path.parents
        return place.shown if near else str(place.path)

    @contextlib.contextmanager
    def place(
        self, path: str, *, make_parents: bool = False, follow: bool = True
    ) -> Iterator[Place]:
        """Opens the directory that holds a path, links followed as far as they stay inside.

        Args:
            path: Relative to the first root, or absolute inside any of them.
            make_parents: Whether missing directories on the way are made.
            follow: Whether a link at the very end means what it leads to, or itself.

        Raises:
            ToolError: The path leads out of the roots or cannot be one.
        """
        root, parts = self._split(_cleaned(path))
        if not _WALKS:
            with _plain_errors(path):
                yield _resolved(root, parts, make_parents, follow)
            return
        walk = _Walk(root, make_parents)
        try:
            with _plain_errors(path):
                yield walk.to(parts, follow)
        finally:
            walk.close()

    def _split(self, path: str) -> tuple[Path, list[str]]:
        expanded = os.path.expanduser(path)
        if not os.path.isabs(expanded):
            return self._among_roots(expanded)
        # Dots are left to the walk: taking them out of the text first is wrong behind a link.
        for given, real in self._roots:
            for start in (given, real):
                with contextlib.suppress(ValueError):
                    return real, list(Path(expanded).relative_to(start).parts)
        raise self._outside(path)

    def _among_roots(self, path: str) -> tuple[Path, list[str]]:
        parts = [part for part in path.split("/") if part not in {"", "."}]
        for _, real in self._roots[1:]:
            # A relative path that exists only in a further root means that one.
            if parts and parts[0] != ".." and not (self.first / parts[0]).exists():
                if (real / parts[0]).exists():
                    return real, parts
        return self.first, parts

    def _outside(self, path: str) -> ToolError:
        listed = ", ".join(str(real) for _, real in self._roots)
        return ToolError(f"{path} is outside the allowed directories.", hint=f"Allowed: {listed}.")


class _Walk:
    """A descent from a root, as a stack of open directories."""

    def __init__(self, root: Path, make: bool) -> None:
        self._root = root
        self._make = make
        self._names: list[str] = []
        self._links = 0
        with _plain_errors(str(root)):
            self._stack = [os.open(root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))]

    def close(self) -> None:
        for descriptor in self._stack:
            os.close(descriptor)

    def to(self, parts: list[str], follow: bool) -> Place:
        """Returns the place of the last part; every part before it must be a directory."""
        waiting = list(reversed(parts))
        while waiting:
            part = waiting.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                self._up()
                continue
            last = all(rest in {"", "."} for rest in waiting)
            link = self._link(part) if follow or not last else None
            if link is not None:
                waiting += self._link_parts(link)
            elif not last:
                self._down(part)
            else:
                return self._place(part)
        return self._place(".")

    def _place(self, name: str) -> Place:
        names = self._names if name == "." else [*self._names, name]
        shown = "/".join(names) or "."
        return Place(self._stack[-1], name, self._root.joinpath(*names), shown)

    def _up(self) -> None:
        if not self._names:
            raise ToolError(
                "The path leaves the allowed directory.", hint=f"Stay inside {self._root}."
            )
        os.close(self._stack.pop())
        self._names.pop()

    def _down(self, part: str) -> None:
        here = self._stack[-1]
        if self._make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o777, dir_fd=here)
        self._stack.append(os.open(part, _DIRECTORY, dir_fd=here))
        self._names.append(part)

    def _link(self, part: str) -> str | None:
        try:
            link = os.readlink(part, dir_fd=self._stack[-1])
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:
                return None
            raise
        self._links += 1
        if self._links > _MOST_LINKS:
            raise ToolError("The path goes round in symbolic links.", hint="Use another path.")
        return link

    def _link_parts(self, link: str) -> list[str]:
        if not os.path.isabs(link):
            return list(reversed(link.split("/")))
        try:
            inside = Path(link).relative_to(self._root)
        except ValueError:
            raise ToolError(
                "The path leaves the allowed directory through a symbolic link.",
                hint=f"Stay inside {self._root}.",
            ) from None
        while self._names:
            self._up()
        return list(reversed(inside.parts))


def _cleaned(path: str) -> str:
    """Takes off the quotes that models put around a path, and refuses what cannot be one here."""
    text = path.strip().strip("`'\"").strip()
    if "\0" in text or any(ord(letter) < 32 for letter in text):
        raise ToolError("The path has a control character.", hint="Give a plain path.")
    if _FOREIGN.match(text):
        raise ToolError(f"{text} is no path of this system.", hint="Give a path such as src/a.py.")
    try:
        longest = max(map(len, os.fsencode(text).split(b"/")))
    except UnicodeEncodeError:
        raise ToolError("The path has a damaged character.", hint="Give a plain path.") from None
    if longest > 255 or len(text) > 4096:
        raise ToolError("The path is too long.", hint="Give a plain path such as src/a.py.")
    return text or "."


def _resolved(root: Path, parts: list[str], make_parents: bool, follow: bool) -> Place:
    whole = root.joinpath(*parts)
    path = whole.resolve() if follow else whole.parent.resolve() / whole.name
    if path != root and root not in path.parents:
        raise ToolError("The path leaves the allowed directory.", hint=f"Stay inside {root}.")
    if make_parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    shown = path.relative_to(root).as_posix()
    return Place(None, path.name if path != root else ".", path, shown)


@contextlib.contextmanager
def _plain_errors(shown: str) -> Iterator[None]:
    """Turns the system's errors about a path into one line."""
    try:
        yield
    except FileNotFoundError:
        raise ToolError(
            f"{shown} does not exist.", hint="Use list_files to see what is there."
        ) from None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            reason = "a part of the path is not a directory"
        else:
            reason = (error.strerror or str(error)).lower()
        raise ToolError(f"{shown}: {reason}.", hint="Choose another path.") from error
