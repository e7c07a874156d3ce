"""Git, for looking only."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ryzanstein.errors import ServerUnavailable, ToolError
from ryzanstein.tools.child import run_limited
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.toolbox import tool

_SECONDS = 20.0
_OUTPUT_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class _Action:
    """A git command that only reads, with what is always and what may be said to it."""

    command: tuple[str, ...]
    options: frozenset[str] = frozenset()
    revisions: bool = False
    paths: bool = False
    limit: str = ""


_NO_PROGRAMS = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all")
_DIFF_OPTIONS = frozenset({"--stat", "--name-only", "--name-status", "--numstat", "--shortstat"})
_LOG_OPTIONS = _DIFF_OPTIONS | {"--oneline", "--all", "--reverse", "-p", "--no-merges", "--merges"}
_ACTIONS = {
    "status": _Action(
        ("status", "--short", "--branch", "--ignore-submodules=all"),
        frozenset({"--short", "-s", "-b", "--branch"}),
        paths=True,
    ),
    "diff": _Action(
        ("diff", *_NO_PROGRAMS),
        _DIFF_OPTIONS | {"--cached", "--staged", "-w"},
        revisions=True,
        paths=True,
    ),
    "log": _Action(
        # One line a commit, what it did first: a small model that reads blocks, or lines that
        # begin with a hash, takes the author of one commit for that of the next.
        ("log", "--date=short", "--format=%s (%an <%ae>, %ad, %h)", *_NO_PROGRAMS),
        _LOG_OPTIONS,
        revisions=True,
        paths=True,
        limit="-n",
    ),
    "show": _Action(
        ("show", "--date=iso-strict", *_NO_PROGRAMS),
        _DIFF_OPTIONS | {"--oneline", "-s"},
        revisions=True,
        paths=True,
    ),
    "blame": _Action(
        ("blame", "--date=short", "--no-textconv"), frozenset({"-w"}), revisions=True, paths=True
    ),
    "branch": _Action(("branch", "--list", "--no-color", "-v"), frozenset({"-a", "-r", "--all"})),
    "tag": _Action(("tag", "--list", "-n1")),
    "files": _Action(("ls-files",), paths=True),
    "count": _Action(("rev-list", "--count"), frozenset({"--all", "--no-merges"}), revisions=True),
    "authors": _Action(
        ("shortlog", "-s", "-n", "-e"), frozenset({"--all", "--no-merges"}), revisions=True
    ),
}
_OTHER_NAMES = {"ls-files": "files", "shortlog": "authors", "branches": "branch", "tags": "tag"}
# What people say with a value: the value is passed in one word, so it cannot become an option.
_VALUED = {"--author", "--since", "--until", "--after", "--before", "--grep"}
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
    "diff.external": "",
    "diff.ignoreSubmodules": "all",
    "submodule.recurse": "false",
    "log.showSignature": "false",
    # Nor may it make git read files elsewhere, whose lines would show in messages.
    "mailmap.file": "/dev/null",
    "diff.orderFile": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "protocol.allow": "never",
    "safe.directory": "*",
}


@tool(
    title="Inspect git",
    read_only=True,
    untrusted=True,
    example={"command": "log -n 5"},
    main=("command", "line"),
)
async def git_inspect(
    ctx: ToolContext,
    command: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1000,
            description="such as status, branch, count (how many commits), authors, "
            "log -n 20, diff, show HEAD or blame FILE",
        ),
    ],
    path: Annotated[str, Field(max_length=4096, description="a directory of the repository")] = ".",
) -> Output:
    """Look into a git repository: status, diff, log, show, blame, branches.

    Use for questions about commits, authors and changes. Commands: status, diff [REV] [FILE],
    log [-n N] [REV] [FILE], show REV, blame FILE, branch, tag, files, count [REV] (commits),
    authors. It cannot change anything.

    Raises:
        ToolError: No repository there, an unknown command or option, or a bad revision.
        ServerUnavailable: Git is not installed.
    """
    action, words = _read(command)
    git = shutil.which("git")
    if git is None:
        raise ServerUnavailable("git is not installed.", hint="Install it: apt-get install git")
    with Roots(ctx.roots).place(path) as place:
        os.close(place.open_directory())
        directory = place.path
    top = await _checked_repository(git, directory, ctx)
    filters = await _filters(git, directory, top, ctx)
    text = await _git(git, _arguments(action, words, directory, top), directory, filters)
    name = action.command[0]
    return Output(text.strip() or f"(git {name} has nothing to show)", {"repository": str(top)})


def _read(command: str) -> tuple[_Action, list[str]]:
    """Splits the line and finds the action."""
    try:
        words = shlex.split(command.strip().strip("`"))
    except ValueError as error:
        raise ToolError(f"The command cannot be read: {error}.", hint="Check the quotes.") from None
    words = words[1:] if words[:1] == ["git"] else words
    name = words[0] if words else ""
    name = _OTHER_NAMES.get(name, name)
    if words[:2] == ["rev-list", "--count"]:
        name, words = "count", words[1:]
    if name not in _ACTIONS:
        raise ToolError(f"git {name} is not offered.", hint=f"Use one of {', '.join(_ACTIONS)}.")
    return _ACTIONS[name], words[1:]


def _arguments(action: _Action, words: Sequence[str], directory: Path, top: Path) -> list[str]:
    """Sorts the words into options, revisions and paths; nothing unknown gets through."""
    options: list[str] = []
    revisions: list[str] = []
    paths: list[str] = []
    waiting = list(words)
    only_paths = False
    while waiting:
        word = waiting.pop(0)
        if word == "--" and not only_paths:
            only_paths = True
        elif word.startswith("-"):
            if only_paths:
                raise ToolError(f"{word}: no path may start with -.", hint=f"Write ./{word}.")
            options += _option(action, word, waiting)
        elif not only_paths and action.revisions and _is_revision(word):
            revisions.append(word)
        else:
            paths.append(word)
    if paths and not action.paths:
        raise ToolError(f"{paths[0]} is not expected here.", hint="Leave it out.")
    if action.command[0] in {"rev-list", "shortlog"} and not revisions and "--all" not in options:
        revisions = ["HEAD"]
    if action.command[0] == "blame" and not paths:
        paths, revisions = revisions[-1:], revisions[:-1]
    if action.limit and not any(option.startswith(("-n", "--all")) for option in options):
        options.append("-n20")
    for path in paths:
        _check_inside(path, directory, top)
    tail = ["--", *paths] if action.paths else []
    return [*action.command, *options, *revisions, *tail]


def _check_inside(path: str, directory: Path, top: Path) -> None:
    """Given two paths of which one lies outside, git diff would compare any two files."""
    meant = Path(os.path.normpath(directory / path))
    if "\0" in path or (meant != top and top not in meant.parents):
        raise ToolError(f"{path} is outside the repository.", hint=f"Stay inside {top}.")


def _option(action: _Action, word: str, waiting: list[str]) -> list[str]:
    if action.limit:
        number = re.fullmatch(r"(?:-n|--max-count=|-)(\d{1,5})", word)
        if number:
            return [f"-n{number[1]}"]
        if word in {"-n", "--max-count"} and waiting and waiting[0].isdigit():
            return [f"-n{waiting.pop(0)[:5]}"]
        name, equals, value = word.partition("=")
        if name in _VALUED and (equals or waiting):
            return [f"{name}={value if equals else waiting.pop(0)}"]
    if word == "-L" and action.command[0] == "blame" and waiting:
        lines = waiting.pop(0)
        if re.fullmatch(r"\d+(,\+?\d+)?", lines):
            return [f"-L{lines}"]
    if word in action.options:
        return [word]
    known = ", ".join(sorted(action.options)) or "none"
    raise ToolError(f"{word} is not offered here.", hint=f"Options: {known}.")


def _is_revision(word: str) -> bool:
    """A word that names a file is a path, as git itself decides where it can."""
    looks_like_file = "/" in word and "." in word.rpartition("/")[2] and ".." not in word
    ends_like_file = re.search(r"(?<!\.)\.[A-Za-z][A-Za-z0-9]{0,4}$", word) is not None
    return bool(_REVISION.fullmatch(word)) and not (looks_like_file or ends_like_file)


async def _checked_repository(git: str, directory: Path, ctx: ToolContext) -> Path:
    """Returns the top of the work tree; it and git's own directory must lie in the roots."""
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
    return Path(lines[0]).resolve()


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


def _settings(filters: Sequence[str]) -> dict[str, str]:
    """Returns the variables that override settings; -c would misread a name with a = in it."""
    settings = dict(_SETTINGS)
    for name in filters:
        settings[name] = ""
        settings[f"{name.rpartition('.')[0]}.required"] = "false"
    variables = {"GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


async def _git(
    git: str, arguments: Sequence[str], directory: Path, filters: Sequence[str] = ()
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
        **_settings(filters),
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
        return ToolError(f"{directory.name} is in no git repository.", hint="Give another path.")
    if "does not have any commits" in said:
        return ToolError("The repository has no commits yet.", hint="Use status or files.")
    line = next(iter(said.splitlines()), "no reason given").removeprefix("fatal: ")
    return ToolError(
        f"git: {line.rstrip('.')}.", hint="Check the revision and the file names with log or files."
    )
