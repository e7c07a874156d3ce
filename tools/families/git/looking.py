"""Git by typed arguments, for looking only: status, log, diff, show, blame."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.families.git.inspecting import ACTIONS, look
from ryzanstein.tools.git_program import check_revision, repository
from ryzanstein.tools.toolbox import tool

_Folder = Annotated[
    str, Field(min_length=1, max_length=4096, description="a directory of the repository")
]
_File = Annotated[
    str, Field(max_length=4096, description="only this file or folder; relative to path")
]
_Revision = Annotated[
    str, Field(max_length=200, description="a branch, tag or hash, such as HEAD~1")
]
_Words = Annotated[str, Field(max_length=200)]


@tool(title="Git status", read_only=True, example={"path": "."}, main=("path", "line"))
async def git_status(ctx: ToolContext, path: _Folder = ".") -> Output:
    """Show the branch of a git repository and which files are changed, staged or new.

    Use before a commit, or when asked what has changed since the last one.

    Raises:
        ToolError: There is no repository.
    """
    async with repository(ctx, path) as repo:
        text = await repo.run(
            ["status", "--porcelain=v1", "--branch", "-z", "--ignore-submodules=all"]
        )
    first, *entries = text.rstrip("\0").split("\0")
    data = {"branch": first.removeprefix("## "), **_sorted(entries)}
    lines = [f"branch: {data['branch']}"]
    lines += [f"{kind}: {', '.join(names)}" for kind, names in _sorted(entries).items() if names]
    if len(lines) == 1:
        lines.append("nothing to commit, everything is clean")
    return Output("\n".join(lines), data)


def _sorted(entries: list[str]) -> dict[str, list[str]]:
    """Sorts the lines of `git status --porcelain -z`: XY name, a rename's old name by itself."""
    found: dict[str, list[str]] = {"staged": [], "changed": [], "new": [], "conflicts": []}
    waiting = iter(entries)
    for entry in waiting:
        index, tree, name = entry[0], entry[1], entry[3:]
        if index in "RC":
            name = f"{next(waiting, '')} -> {name}"
        if "U" in entry[:2] or entry[:2] in {"AA", "DD"}:
            found["conflicts"].append(name)
        elif entry[:2] == "??":
            found["new"].append(name)
        else:
            if index != " ":
                found["staged"].append(name)
            if tree != " ":
                found["changed"].append(name)
    return found


@tool(
    title="Git log",
    read_only=True,
    untrusted=True,
    example={"count": 10, "author": "Ann"},
    main=("file", "line"),
)
async def git_log(
    ctx: ToolContext,
    file: _File = "",
    path: _Folder = ".",
    count: Annotated[int, Field(ge=1, le=1000, description="how many commits at most")] = 20,
    author: Annotated[_Words, Field(description="only by this name or address")] = "",
    since: Annotated[_Words, Field(description="not before, such as 2026-01-31")] = "",
    until: Annotated[_Words, Field(description="not after, such as 2026-12-31")] = "",
    grep: Annotated[_Words, Field(description="only with this in the message")] = "",
    revision: _Revision = "",
) -> Output:
    """List the commits of a git repository with author and date, newest first.

    Use to find out when something was changed and by whom.

    Raises:
        ToolError: There is no repository, or no such revision.
    """
    words = ["-n", str(count)]
    given = {"--author": author, "--since": since, "--until": until, "--grep": grep}
    words += [f"{name}={value}" for name, value in given.items() if value.strip()]
    return await look(ctx, path, ACTIONS["log"], [*words, *_revisions(revision), *_paths(file)])


@tool(
    title="Git diff",
    read_only=True,
    untrusted=True,
    example={"base": "HEAD~1", "target": "HEAD"},
    main=("base", "line"),
)
async def git_diff(
    ctx: ToolContext,
    base: _Revision = "",
    target: _Revision = "",
    file: _File = "",
    path: _Folder = ".",
    staged: Annotated[bool, Field(description="what is staged for the next commit")] = False,
    summary: Annotated[bool, Field(description="only which files and how many lines")] = False,
) -> Output:
    """Show what changed between commits, or in files not committed yet.

    Use to see changes line by line. Without base it shows what is not staged.

    Raises:
        ToolError: There is no repository, or no such revision.
    """
    words = ["--cached"] * staged + ["--stat"] * summary
    return await look(
        ctx, path, ACTIONS["diff"], [*words, *_revisions(base, target), *_paths(file)]
    )


@tool(
    title="Git show",
    read_only=True,
    untrusted=True,
    example={"revision": "HEAD"},
    main=("revision", "line"),
)
async def git_show(
    ctx: ToolContext,
    revision: _Revision = "HEAD",
    file: Annotated[
        str, Field(max_length=4096, description="show this file as it was then; relative to path")
    ] = "",
    path: _Folder = ".",
    summary: Annotated[bool, Field(description="only which files and how many lines")] = False,
) -> Output:
    """Show one commit with its changes, or a file as it was in that commit.

    Use to look at an older version of a file without changing anything.

    Raises:
        ToolError: There is no repository, no such revision, or no such file in it.
    """
    if not file:
        words = ["--stat"] * summary
        return await look(ctx, path, ACTIONS["show"], [*words, *_revisions(revision)])
    async with repository(ctx, path) as repo:
        name = repo.check_path(re.sub(r"^(\./)+", "", file))
        wanted = f"{check_revision(revision)}:./{name}"
        text = await repo.run(["show", "--no-textconv", "--no-color", wanted])
    return Output(text or "(the file is empty)", {"revision": revision, "file": file})


@tool(
    title="Git blame",
    read_only=True,
    untrusted=True,
    example={"file": "src/app.py", "start": 10, "lines": 5},
    main=("file", "line"),
)
async def git_blame(
    ctx: ToolContext,
    file: Annotated[
        str, Field(min_length=1, max_length=4096, description="the file; relative to path")
    ],
    path: _Folder = ".",
    start: Annotated[int, Field(ge=1, le=10_000_000, description="first line")] = 1,
    lines: Annotated[int, Field(ge=1, le=2000, description="how many lines")] = 100,
    revision: _Revision = "",
) -> Output:
    """Show for each line of a file who changed it last, in which commit and when.

    Use when asked who wrote a line or why it is there.

    Raises:
        ToolError: There is no repository, no such file, or it has fewer lines.
    """
    words = ["-L", f"{start},+{lines}", *_revisions(revision)]
    return await look(ctx, path, ACTIONS["blame"], [*words, "--", file])


def _revisions(*given: str) -> list[str]:
    return [check_revision(one.strip()) for one in given if one.strip()]


def _paths(file: str) -> list[str]:
    return ["--", file] if file.strip() else []
