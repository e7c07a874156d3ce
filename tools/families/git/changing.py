"""Changing a repository: commits, branches, and files as they were."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import existing_name
from ryzanstein.tools.git_program import Repository, check_revision, repository
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.toolbox import tool

_Folder = Annotated[
    str, Field(min_length=1, max_length=4096, description="a directory of the repository")
]
_Files = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...],
    Field(max_length=200, description="files or folders; relative to path"),
]
_BRANCH = re.compile(r"[A-Za-z0-9_][\w./+-]*")
_FILTER = re.compile(rb"^[^#\n]*[ \t]filter=", re.MULTILINE)
_LARGEST_ATTRIBUTES = 1 << 20


@tool(
    title="Git commit",
    example={"message": "Fix the rounding of totals", "files": ["src/app.py"]},
    main=("message", "line"),
)
async def git_commit(
    ctx: ToolContext,
    message: Annotated[
        str, Field(min_length=1, max_length=5000, description="what the commit does and why")
    ],
    files: _Files = (),
    everything: Annotated[bool, Field(description="commit every changed and new file")] = False,
    path: _Folder = ".",
) -> Output:
    """Commit changes in a git repository, on the branch it is on.

    Use when asked to commit. Give the files, or everything=true; without either, what is staged
    is committed. Hooks are not run and nothing is pushed.

    Raises:
        ToolError: There is no repository or nothing to commit, or a file needs a filter program.
    """
    if not message.strip():
        raise ToolError("The message is empty.", hint="Say what the commit does.")
    async with _writable(ctx, path) as repo:
        named = [repo.check_path(file) for file in files]
        if everything:
            await repo.run(["add", "--all"])
        elif named:
            await repo.run(["add", "--all", "--", *named])
        text = await repo.run(["status", "--porcelain", "--untracked-files=no"])
        if not any(line[:1] not in {" ", "?"} for line in text.splitlines()):
            raise ToolError(
                "There is nothing to commit.", hint="Give the files, or everything=true."
            )
        identity = await _identity(repo)
        only = ["--only", "--", *named] if named and not everything else []
        words = ["commit", "--quiet", "--no-verify", f"--message={message.strip()}", *only]
        await repo.run(words, identity)
        shown = await repo.run(["show", "--stat", "--format=%h%n%s%n%an", "--no-color", "HEAD"])
    number, subject, author, *rest = shown.splitlines()
    text = "\n".join([f"committed {number}: {subject}", *(line for line in rest if line.strip())])
    return Output(text, {"commit": number, "author": author, "repository": str(repo.top)})


async def _identity(repo: Repository) -> dict[str, str]:
    """Returns whose commit it is: the repository's own setting, or the platform's name."""
    identity = {"user.name": "Ryzanstein", "user.email": "ryzanstein@localhost"}
    with contextlib.suppress(ToolError):  # status 1: neither is set
        set_here = await repo.run(["config", "-z", "--get-regexp", r"^user\.(name|email)$"])
        for name, _, value in (entry.partition("\n") for entry in set_here.split("\0")):
            identity |= {name: value.strip()} if value.strip() else {}
    return identity


@tool(
    title="Git branch",
    example={"name": "fix-rounding"},
    main=("name", "line"),
)
async def git_branch(
    ctx: ToolContext,
    name: Annotated[str, Field(min_length=1, max_length=200, description="the branch")],
    start: Annotated[
        str, Field(max_length=200, description="where a new branch begins; empty means here")
    ] = "",
    path: _Folder = ".",
) -> Output:
    """Switch a git repository to a branch, making it where there is none.

    Use before work that shall not touch the main branch. Changes that are not committed come
    along; where they would be lost, git refuses.

    Raises:
        ToolError: A name git does not take, or changes that would be overwritten.
    """
    if not _BRANCH.fullmatch(name) or ".." in name or name.endswith((".lock", "/", ".")):
        raise ToolError(f"{name!r} is no name for a branch.", hint="Use letters, digits and -.")
    async with _writable(ctx, path) as repo:
        listed = await repo.run(["branch", "--list", "--format=%(refname:short)"])
        exists = name in listed.split()
        if exists and start:
            raise ToolError(f"The branch {name} exists.", hint="Leave start out to switch to it.")
        words = ["switch", "--quiet", "--no-guess", "--no-overwrite-ignore"]
        words += [name] if exists else ["--create", name]
        words += [check_revision(start)] if start else []
        await repo.run([*words, "--"])
    done = "switched to" if exists else "made and switched to"
    return Output(f"{done} {name}", {"branch": name, "existed": exists})


def _discarded(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    if arguments["staged"]:
        return ""
    paths = [os.path.normpath(os.path.join(arguments["path"], one)) for one in arguments["files"]]
    return ", ".join(existing_name(ctx, path) or path for path in paths)


@tool(
    title="Git restore",
    destructive=True,
    destroys=_discarded,
    example={"files": ["src/app.py"]},
    main=("files", "json"),
)
async def git_restore(
    ctx: ToolContext,
    files: Annotated[_Files, Field(min_length=1)],
    revision: Annotated[
        str, Field(max_length=200, description="as they were in this commit, such as HEAD~1")
    ] = "HEAD",
    staged: Annotated[
        bool, Field(description="only take them out of the next commit, keep their content")
    ] = False,
    path: _Folder = ".",
) -> Output:
    """Set files of a git repository back to how they were in a commit.

    Use to throw away changes that were not committed: they cannot be brought back. With
    staged=true the files stay as they are and are only taken out of the next commit.

    Raises:
        ToolError: No such file in that commit, or no such revision.
    """
    async with _writable(ctx, path) as repo:
        named = [repo.check_path(file) for file in files]
        where = ["--staged"] if staged else ["--staged", "--worktree"]
        words = ["restore", "--quiet", f"--source={check_revision(revision)}", *where]
        await repo.run([*words, "--", *named])
    done = "taken out of the next commit" if staged else f"set back to {revision}"
    return Output(f"{', '.join(files)}: {done}", {"files": list(files), "revision": revision})


@asynccontextmanager
async def _writable(ctx: ToolContext, path: str) -> AsyncIterator[Repository]:
    """Opens a repository that is checked once more before git writes into it."""
    async with repository(ctx, path) as repo:
        await anyio.to_thread.run_sync(_refuse_links, repo.own, Roots(ctx.roots))
        await _refuse_filters(repo)
        yield repo


def _refuse_links(own: Path, roots: Roots) -> None:
    """Git writes through links in its own directory, wherever they lead."""
    for folder, folders, files in os.walk(own):
        inside_objects = Path(folder).name == "objects"
        for name in [*folders, *([] if inside_objects else files)]:
            path = Path(folder, name)
            if path.is_symlink() and not roots.holds(path.resolve()):
                raise ToolError(
                    f"{path.relative_to(own)} in the repository's own directory is a link that "
                    "leads out of the allowed directories.",
                    hint="Remove that link first.",
                )
        # Thousands of objects, which are only ever added by a new name.
        if inside_objects:
            folders[:] = []


async def _refuse_filters(repo: Repository) -> None:
    """Without its filter, such as that of LFS, a file would be stored wrongly."""
    listed = await repo.run(["ls-files", "-z", "--full-name"])
    tracked = [name for name in listed.split("\0") if name.rpartition("/")[2] == ".gitattributes"]
    found = [repo.top / ".gitattributes", *(repo.top / name for name in tracked)]
    for path in dict.fromkeys([*found, repo.own / "info/attributes"]):
        if await anyio.to_thread.run_sync(_names_a_filter, path):
            raise ToolError(
                "The repository's attributes name a filter program, which is not run here.",
                hint="Ask the user to do this with git itself.",
            )


def _names_a_filter(path: Path) -> bool:
    if not path.is_file() or path.is_symlink():
        return False
    with open(path, "rb") as file:
        return _FILTER.search(file.read(_LARGEST_ATTRIBUTES)) is not None
