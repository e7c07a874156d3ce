"""Walks a directory by descriptors (POSIX), and matches glob patterns against relative paths.

*.py            files of that ending, at any depth (a pattern without a slash)
src/*.py        directly in src
src/**/*.py     anywhere below src
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ryzanstein.errors import ToolError
from ryzanstein.tools.paths import Place

__all__ = ["Entry", "Walker", "glob_matcher"]

_UNINTERESTING = {"__pycache__", "node_modules", "venv", "site-packages"}
_MOST_ENTRIES = 200_000
_MATCH_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing found on a walk.

    Attributes:
        path: Relative to where the walk began.
        name: In its directory.
        directory: Descriptor of that directory, valid until the walk goes on.
        is_directory: Whether it is a directory (links are not followed).
    """

    path: str
    name: str
    directory: int
    is_directory: bool

    def status(self) -> os.stat_result | None:
        """Returns its status, links not followed, or None where it is gone."""
        try:
            return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return None

    def open_file(self) -> int | None:
        """Returns a descriptor of a regular file for reading, or None where it is none."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
        found = self.status()
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        try:
            return os.open(self.name, flags, dir_fd=self.directory)
        except OSError:
            return None


class Walker:
    """A walk that ends by itself.

    Attributes:
        stopped: Why it ended early, or an empty string.
    """

    def __init__(self, place: Place, *, hidden: bool = False, seconds: float = 10.0) -> None:
        self._place = place
        self._hidden = hidden
        self._deadline = time.monotonic() + seconds
        self.stopped = ""

    def remaining(self) -> float:
        """Returns the seconds left."""
        return self._deadline - time.monotonic()

    def __iter__(self) -> Iterator[Entry]:
        start = self._place.open_directory()
        seen = 0
        try:
            for root, directories, files, directory in os.fwalk(".", dir_fd=start):
                directories[:] = sorted(name for name in directories if self._wanted(name))
                base = root[2:] + "/" if len(root) > 1 else ""
                for names, is_directory in ((directories, True), (sorted(files), False)):
                    for name in names:
                        seen += 1
                        if seen > _MOST_ENTRIES or self.remaining() <= 0:
                            self.stopped = "too many files; give a narrower path"
                            return
                        if self._hidden or not name.startswith("."):
                            yield Entry(base + name, name, directory, is_directory)
        finally:
            os.close(start)

    def _wanted(self, name: str) -> bool:
        return self._hidden or not (name.startswith(".") or name in _UNINTERESTING)


def glob_matcher(pattern: str) -> Callable[[str], bool]:
    """Returns a test of relative paths against a glob pattern.

    Raises:
        ToolError: The pattern cannot be read or takes too long to match.
    """
    import regex

    pattern = pattern.strip().strip("`'\"").removeprefix("./") or "*"
    anywhere = "/" not in pattern
    compiled = regex.compile(_translated(pattern))

    def matches(path: str) -> bool:
        try:
            subject = path.rpartition("/")[2] if anywhere else path
            return compiled.fullmatch(subject, timeout=_MATCH_SECONDS) is not None
        except TimeoutError:
            raise ToolError(
                f"The pattern {pattern!r} takes too long to match.", hint="Use fewer stars."
            ) from None

    return matches


def _translated(pattern: str) -> str:
    result = ""
    for part in re.sub(r"(\*\*/)+", "**/", pattern).split("/"):
        if part == "**":
            result += "(?:[^/]+/)*"
        else:
            # fnmatch gives (?s:…)\Z with .* for a star; here a star stays in its component.
            inner = fnmatch.translate(re.sub(r"\*+", "*", part))
            result += inner.replace(".*", "[^/]*").replace(r"\Z", "").replace(r"\z", "") + "/"
    return result[:-1] if result.endswith("/") else result + "[^/]+"
