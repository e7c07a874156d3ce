"""Copying, moving and deleting files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText, copy_bytes, existing_name, replacing, require_free
from ryzanstein.tools.paths import Place, Roots
from ryzanstein.tools.toolbox import tool

_LARGEST_COPY = 1 << 30
_MOST_DELETED = 10_000


@tool(
    title="Copy a file",
    example={"path": "settings.toml", "to": "backup/settings.toml"},
    main=("to", "json"),
    forms={"path": "line", "to": "line"},
)
async def copy_file(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file to copy")],
    to: Annotated[PathText, Field(description="the new file, or a folder to put it in")],
) -> Output:
    """Copy a file to a new place; what is there already is never overwritten.

    Use for a backup, or to start a file from another one.

    Raises:
        ToolError: There is no such file, the target exists, or a path is outside.
    """
    return await anyio.to_thread.run_sync(_copy, ctx, path, to, abandon_on_cancel=True)


def _copy(ctx: ToolContext, path: str, to: str) -> Output:
    with Roots(ctx.roots).place(path) as source:
        with os.fdopen(source.open_file(), "rb") as file, _target(ctx, source, to) as target:
            require_free(target)
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            with replacing(target, mode) as copy:
                size = copy_bytes(file, copy, _LARGEST_COPY, source.shown)
                require_free(target)
    data = {"path": source.shown, "to": target.shown, "bytes": size}
    made = (Roots(ctx.roots).name(target),)
    return Output(f"copied {source.shown} to {target.shown} ({size:,} bytes)", data, made=made)


@contextlib.contextmanager
def _target(ctx: ToolContext, source: Place, to: str, *, make: bool = True) -> Iterator[Place]:
    """Opens where something shall go: a folder that exists means a place of that name in it."""
    roots = Roots(ctx.roots)
    with roots.place(to, make_parents=make) as place:
        found = place.status()
    inside = found is not None and stat.S_ISDIR(found.st_mode)
    if inside or to.rstrip().endswith("/"):
        to = f"{to.rstrip().rstrip('/')}/{source.name}" if to.strip() != "/" else to
    with roots.place(to, make_parents=make, follow=False) as place:
        yield place


def _moved(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    """What is taken away from its place, and what is replaced, but for a run's own."""
    roots = Roots(ctx.roots)
    lost = []
    with roots.place(arguments["path"], follow=False) as source:
        if source.status() is not None:
            lost.append(roots.name(source))
        with contextlib.suppress(ToolError):
            with _target(ctx, source, arguments["to"], make=False) as target:
                if arguments["overwrite"] and target.status() is not None:
                    lost.append(roots.name(target))
    return ", ".join(name for name in dict.fromkeys(lost) if name not in ctx.made)


@tool(
    title="Move a file",
    destructive=True,
    destroys=_moved,
    example={"path": "draft.txt", "to": "done/final.txt"},
    main=("to", "json"),
    forms={"path": "line", "to": "line"},
)
async def move_file(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file or folder to move or rename")],
    to: Annotated[PathText, Field(description="its new name, or a folder to put it in")],
    overwrite: Annotated[bool, Field(description="replace a file that is there")] = False,
) -> Output:
    """Move or rename a file or folder.

    Use when something shall have another name or place. A file that is there already is only
    replaced with overwrite=true.

    Raises:
        ToolError: There is no such file, the target exists, or a path is outside.
    """
    return await anyio.to_thread.run_sync(_move, ctx, path, to, overwrite)


def _move(ctx: ToolContext, path: str, to: str, overwrite: bool) -> Output:
    with Roots(ctx.roots).place(path, follow=False) as source:
        found = _existing(source)
        with _target(ctx, source, to) as target:
            there = target.status()
            if there is not None and (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino):
                raise ToolError(f"{source.shown} is there already.", hint="Choose another name.")
            if there is not None and not (overwrite and stat.S_ISREG(there.st_mode)):
                hint = "Give overwrite=true to replace it." if stat.S_ISREG(there.st_mode) else ""
                raise ToolError(
                    f"{target.shown} exists already.", hint=hint or "Choose another name."
                )
            _rename(source, target, found, replace=there is not None)
    data = {"path": source.shown, "to": target.shown, "replaced": there is not None}
    roots = Roots(ctx.roots)
    # What the run did not make does not become its own by being moved.
    made = (roots.name(target),) if roots.name(source) in ctx.made else ()
    return Output(f"moved {source.shown} to {target.shown}", data, made=made)


def _existing(place: Place) -> os.stat_result:
    """Returns the status of what shall be moved or deleted.

    Raises:
        ToolError: It does not exist, is an allowed directory itself, or a device or pipe.
    """
    if place.name == ".":
        raise ToolError("This is an allowed directory itself.", hint="Choose something inside it.")
    found = place.status()
    if found is None:
        raise ToolError(
            f"{place.shown} does not exist.", hint="Use list_files to see what is there."
        )
    if not any(kind(found.st_mode) for kind in (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)):
        raise ToolError(f"{place.shown} is no regular file.", hint="Choose another file.")
    return found


def _rename(source: Place, target: Place, found: os.stat_result, *, replace: bool) -> None:
    ends = {"src_dir_fd": source.directory, "dst_dir_fd": target.directory}
    try:
        if replace or not stat.S_ISREG(found.st_mode):
            os.rename(source.target, target.target, **ends)
            return
        try:
            # A link, unlike a rename, never replaces what came there meanwhile.
            os.link(source.target, target.target, follow_symlinks=False, **ends)
        except PermissionError:
            os.rename(source.target, target.target, **ends)
            return
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise ToolError(
                "The two places are on different disks.", hint="Use copy_file, then delete_file."
            ) from error
        if error.errno == errno.EINVAL:
            raise ToolError(
                f"{source.shown} cannot be moved into itself.", hint="Choose another place."
            ) from error
        raise
    os.unlink(source.target, dir_fd=source.directory)


def _deleted(ctx: ToolContext, arguments: Mapping[str, Any]) -> str:
    return existing_name(ctx, arguments["path"], follow=False)


@tool(
    title="Delete a file",
    destructive=True,
    destroys=_deleted,
    example={"path": "old.txt"},
    main=("path", "line"),
)
async def delete_file(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the file or folder to delete")],
    with_contents: Annotated[bool, Field(description="also a folder that is not empty")] = False,
) -> Output:
    """Delete a file, a link or an empty folder for good.

    Use only when the task asks for it: nothing brings it back. A folder with something in it needs
    with_contents=true.

    Raises:
        ToolError: There is no such file, or the folder is not empty.
    """
    return await anyio.to_thread.run_sync(_delete, ctx, path, with_contents)


def _delete(ctx: ToolContext, path: str, with_contents: bool) -> Output:
    with Roots(ctx.roots).place(path, follow=False) as place:
        found = _existing(place)
        count = 1
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(place.target, dir_fd=place.directory)
        elif not with_contents:
            _remove_empty(place)
        else:
            count += _contained(place)
            shutil.rmtree(place.target, dir_fd=place.directory)
    return Output(
        f"deleted {place.shown}" + (f" with {count - 1} entries" if count > 1 else ""),
        {"path": place.shown, "deleted": count},
    )


def _remove_empty(place: Place) -> None:
    try:
        os.rmdir(place.target, dir_fd=place.directory)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        raise ToolError(
            f"{place.shown} is not empty.", hint="Give with_contents=true to delete all of it."
        ) from error


def _contained(place: Place) -> int:
    """Counts what a folder holds; too much is rather a mistake than a wish."""
    count = 0
    descriptor = place.open_directory()
    try:
        for _, folders, files, _ in os.fwalk(".", dir_fd=descriptor):
            count += len(folders) + len(files)
            if count > _MOST_DELETED:
                raise ToolError(
                    f"{place.shown} holds more than {_MOST_DELETED:,} entries.",
                    hint="Delete it in smaller parts.",
                )
    finally:
        os.close(descriptor)
    return count
