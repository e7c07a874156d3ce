"""Git by its own command line, for looking only."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.git_program import Repository, is_revision, repository
from ryzanstein.tools.toolbox import tool


@dataclass(frozen=True, slots=True)
class Action:
    """A git command that only reads, with what is always and what may be said to it."""

    command: tuple[str, ...]
    options: frozenset[str] = frozenset()
    revisions: bool = False
    paths: bool = False
    limit: str = ""


_NO_PROGRAMS = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=all")
_DIFF_OPTIONS = frozenset({"--stat", "--name-only", "--name-status", "--numstat", "--shortstat"})
_LOG_OPTIONS = _DIFF_OPTIONS | {"--oneline", "--all", "--reverse", "-p", "--no-merges", "--merges"}
ACTIONS = {
    "status": Action(
        ("status", "--short", "--branch", "--ignore-submodules=all"),
        frozenset({"--short", "-s", "-b", "--branch"}),
        paths=True,
    ),
    "diff": Action(
        ("diff", *_NO_PROGRAMS),
        _DIFF_OPTIONS | {"--cached", "--staged", "-w"},
        revisions=True,
        paths=True,
    ),
    "log": Action(
        # One line a commit, what it did first: a small model that reads blocks, or lines that
        # begin with a hash, takes the author of one commit for that of the next.
        ("log", "--date=short", "--format=%s (%an <%ae>, %ad, %h)", *_NO_PROGRAMS),
        _LOG_OPTIONS,
        revisions=True,
        paths=True,
        limit="-n",
    ),
    "show": Action(
        ("show", "--date=iso-strict", *_NO_PROGRAMS),
        _DIFF_OPTIONS | {"--oneline", "-s"},
        revisions=True,
        paths=True,
    ),
    "blame": Action(
        ("blame", "--date=short", "--no-textconv"), frozenset({"-w"}), revisions=True, paths=True
    ),
    "branch": Action(("branch", "--list", "--no-color", "-v"), frozenset({"-a", "-r", "--all"})),
    "tag": Action(("tag", "--list", "-n1")),
    "files": Action(("ls-files",), paths=True),
    "count": Action(("rev-list", "--count"), frozenset({"--all", "--no-merges"}), revisions=True),
    "authors": Action(
        ("shortlog", "-s", "-n", "-e"), frozenset({"--all", "--no-merges"}), revisions=True
    ),
}
_OTHER_NAMES = {"ls-files": "files", "shortlog": "authors", "branches": "branch", "tags": "tag"}
# What people say with a value: the value is passed in one word, so it cannot become an option.
_VALUED = {"--author", "--since", "--until", "--after", "--before", "--grep"}


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
    return await look(ctx, path, action, words)


async def look(ctx: ToolContext, path: str, action: Action, words: Sequence[str]) -> Output:
    """Runs one of the actions with what was said to it.

    Raises:
        ToolError: No repository there, a word that is not known, or git fails.
        ServerUnavailable: Git is not installed.
    """
    async with repository(ctx, path) as repo:
        text = await repo.run(_arguments(action, words, repo))
    name = action.command[0]
    return Output(
        text.strip() or f"(git {name} has nothing to show)", {"repository": str(repo.top)}
    )


def _read(command: str) -> tuple[Action, list[str]]:
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
    if name not in ACTIONS:
        raise ToolError(f"git {name} is not offered.", hint=f"Use one of {', '.join(ACTIONS)}.")
    return ACTIONS[name], words[1:]


def _arguments(action: Action, words: Sequence[str], repo: Repository) -> list[str]:
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
                repo.check_path(word)
            options += _option(action, word, waiting)
        elif not only_paths and action.revisions and is_revision(word):
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
        repo.check_path(path)
    tail = ["--", *paths] if action.paths else []
    return [*action.command, *options, *revisions, *tail]


def _option(action: Action, word: str, waiting: list[str]) -> list[str]:
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
