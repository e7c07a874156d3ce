"""Runs git so that a repository can neither start a program nor lead out of the allowed roots.

The caller's GIT_* variables, the user's and the system's configuration count for nothing, hooks
and filters are off, no remote is spoken to. A repository whose work tree or own directory lies
outside is refused. What a model gives becomes a revision, a path or a known option, or an error.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.errors import ServerUnavailable, ToolError
from ryzanstein.tools.child import run_limited
from ryzanstein.tools.context import ToolContext
from ryzanstein.tools.paths import Roots

__all__ = ["Repository", "check_revision", "is_revision", "repository"]

_SECONDS = 20.0
_OUTPUT_BYTES = 2 << 20
# A revision as git names them; anything else is taken for a path.
_REVISION = re.compile(r"[A-Za-z0-9_@][\w./@^~{}+-]*(?:\.{2,3}[\w./@^~{}+-]*)?")
# Nothing of a repository's own configuration may start a program.
_SETTINGS = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "core.untrackedCache": "false",
    "core.sshCommand": "false",
    "core.askPass": "false",
    "core.editor": "false",
    "sequence.editor": "false",
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "gpg.program": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "diff.external": "",
    "diff.ignoreSubmodules": "all",
    "submodule.recurse": "false",
    "log.showSignature": "false",
    # Nor may it make git read files elsewhere, whose lines would show in messages.
    "mailmap.file": "/dev/null",
    "diff.orderFile": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "commit.template": "/dev/null",
    "protocol.allow": "never",
    "safe.directory": "*",
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that may be worked in.

    Attributes:
        git: The program.
        start: Where it is started.
        directory: The same by its real path; paths are relative to it.
        top: Top of the work tree.
        own: The repository's own directory, mostly .git.
        filters: Settings that name a filter program; they are overridden.
    """

    git: str
    start: Path
    directory: Path
    top: Path
    own: Path
    filters: tuple[str, ...]

    async def run(self, arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> str:
        """Runs a git command and returns what it prints.

        Args:
            arguments: Checked ones.
            settings: Further configuration, such as user.name.

        Raises:
            ToolError: Git fails; says why.
            ToolTimeout: It takes too long.
        """
        return await _git(self.git, arguments, self.start, self.filters, settings or {})

    def check_path(self, path: str) -> str:
        """Returns a path of the work tree as git may be given it.

        Raises:
            ToolError: It lies outside, or could be taken for an option.
        """
        # Given two paths of which one lies outside, git diff would compare any two files.
        meant = Path(os.path.normpath(self.directory / path))
        if "\0" in path or (meant != self.top and self.top not in meant.parents):
            raise ToolError(f"{path} is outside the repository.", hint=f"Stay inside {self.top}.")
        if path.startswith("-"):
            raise ToolError(f"{path}: no path may start with -.", hint=f"Write ./{path}.")
        return path


@asynccontextmanager
async def repository(ctx: ToolContext, path: str) -> AsyncIterator[Repository]:
    """Opens the repository that a directory belongs to.

    Raises:
        ToolError: There is none, or it reaches outside the allowed directories.
        ServerUnavailable: Git is not installed.
    """
    git = shutil.which("git")
    if git is None:
        raise ServerUnavailable("git is not installed.", hint="Install it: apt-get install git")
    with Roots(ctx.roots).place(path) as place:
        descriptor = place.open_directory()
        try:
            # By descriptor git stays in this very directory, whatever takes its name meanwhile.
            pinned = Path(f"/proc/self/fd/{descriptor}")
            start = pinned if pinned.exists() else place.path
            top, own = await _checked_repository(git, start, ctx)
            filters = await _filters(git, start, top, ctx)
            yield Repository(git, start, start.resolve(), top, own, tuple(filters))
        finally:
            os.close(descriptor)


def check_revision(word: str) -> str:
    """Returns a revision as git may be given it.

    Raises:
        ToolError: It could be something else, such as an option.
    """
    if not _REVISION.fullmatch(word):
        raise ToolError(
            f"{word!r} is no revision.", hint="Give a branch, a tag, a hash, HEAD or HEAD~1."
        )
    return word


def is_revision(word: str) -> bool:
    """Tells whether a word is a revision; one that names a file is a path, as git decides too."""
    looks_like_file = "/" in word and "." in word.rpartition("/")[2] and ".." not in word
    ends_like_file = re.search(r"(?<!\.)\.[A-Za-z][A-Za-z0-9]{0,4}$", word) is not None
    return bool(_REVISION.fullmatch(word)) and not (looks_like_file or ends_like_file)


async def _checked_repository(git: str, directory: Path, ctx: ToolContext) -> tuple[Path, Path]:
    """Returns the top of the work tree and git's own directory; both must lie in the roots."""
    asked = ["--show-toplevel", "--git-dir", "--git-common-dir"]
    command = ["rev-parse", "--path-format=absolute", *asked]
    lines = (await _git(git, command, directory)).splitlines()
    roots = Roots(ctx.roots)
    for line in lines:
        if not roots.holds(Path(line).resolve()):
            raise ToolError(
                f"The repository reaches outside the allowed directories ({line}).",
                hint="Allow its directory too.",
            )
    own = Path(lines[2]).resolve()
    _require_own_objects(own / "objects", roots, set())
    return Path(lines[0]).resolve(), own


def _require_own_objects(objects: Path, roots: Roots, seen: set[Path]) -> None:
    """Refuses a repository that takes commits from another one outside, however far along.

    A few letters of a hash are enough for git to show what lies there.

    Raises:
        ToolError: It does.
    """
    seen.add(objects)
    try:
        named = (objects / "info" / "alternates").read_bytes().splitlines()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ToolError("The repository's info/alternates cannot be read.") from error
    for line in named:
        other = (objects / os.fsdecode(line.strip())).resolve()
        if line.startswith(b'"') or not roots.holds(other):
            raise ToolError(
                "The repository takes objects from outside the allowed directories.",
                hint="Remove them from its objects/info/alternates.",
            )
        if other not in seen:
            _require_own_objects(other, roots, seen)


async def _filters(git: str, directory: Path, top: Path, ctx: ToolContext) -> list[str]:
    """Lists the settings that name a filter program, and refuses a file of revisions elsewhere.

    The former are overridden; the latter cannot be, and its lines would show in messages.
    """
    wanted = r"^(filter\..*\.(clean|smudge|process)|blame\.ignorerevsfile)$"
    try:
        found = await _git(git, ["config", "-z", "--get-regexp", wanted], directory)
    except ToolError:  # status 1: there are none
        return []
    filters = []
    for name, _, value in (entry.partition("\n") for entry in found.split("\0") if entry):
        if name.startswith("filter."):
            filters.append(name)
        elif value and not Roots(ctx.roots).holds((top / value).resolve()):
            raise ToolError(
                "The repository's blame.ignoreRevsFile lies outside the allowed directories.",
                hint="Remove that setting from the repository's configuration.",
            )
    return filters


def _variables(filters: Sequence[str], further: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that override settings; -c would misread a name with a = in it."""
    settings = {**_SETTINGS, **further}
    for name in filters:
        settings[name] = ""
        settings[f"{name.rpartition('.')[0]}.required"] = "false"
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


async def _git(
    git: str,
    arguments: Sequence[str],
    directory: Path,
    filters: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
) -> str:
    # None of the caller's GIT_* variables, no configuration but the repository's own.
    environment = {
        "PATH": os.defpath,
        "HOME": os.devnull,
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        **_variables(filters, settings or {}),
    }
    line = [git, "--no-pager", *arguments]
    done = await run_limited(
        line, cwd=directory, env=environment, seconds=_SECONDS, output_bytes=_OUTPUT_BYTES
    )
    if done.exit_code != 0:
        raise _explained(done.stderr.strip(), directory)
    return done.stdout


def _explained(said: str, directory: Path) -> ToolError:
    if "not a git repository" in said:
        return ToolError(
            f"{directory.resolve().name} is in no git repository.", hint="Give another path."
        )
    if "does not have any commits" in said:
        return ToolError("The repository has no commits yet.", hint="Use status or files.")
    if "index.lock" in said:
        return ToolError(
            "Another git is at work in the repository.",
            hint="Try again; if none is, remove its index.lock.",
        )
    line = next(iter(said.splitlines()), "no reason given").removeprefix("fatal: ")
    return ToolError(
        f"git: {line.rstrip('.')}.", hint="Check the revision and the file names with log or files."
    )
