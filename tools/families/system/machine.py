"""Facts about the machine and its surroundings, without anything secret."""

from __future__ import annotations

import contextlib
import locale
import os
import platform
import re
import shutil
import sys
import time
from typing import Annotated, Any

import anyio.to_thread
from pydantic import Field

from ryzanstein import machine
from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.file_io import PathText
from ryzanstein.tools.paths import Roots
from ryzanstein.tools.toolbox import tool
from ryzanstein.tools.walk import Walker

_GIB = 1 << 30
# Of the environment only these are shown: any other may hold a password or a key.
_SHOWN_VARIABLES = ("LANG", "LC_ALL", "TZ", "SHELL", "TERM", "EDITOR", "CI", "CONTAINER")
_PROGRAM = re.compile(r"[A-Za-z0-9][\w.+-]*")
_PACKAGE = re.compile(r"([^-]+)-([^-]+)\.dist-info")
_WALK_SECONDS = 5.0


@tool(
    title="Machine facts",
    read_only=True,
    example={},
    main=("detail", "line"),
)
async def machine_facts(
    ctx: ToolContext,
    detail: Annotated[bool, Field(description="also each CPU's load and each disk")] = False,
) -> Output:
    """Tell this machine's system, CPUs, memory, load, disk and uptime.

    Use when asked what machine this is, how much memory is free or how busy it is.

    Raises:
        ToolError: The system does not tell.
    """
    data = await anyio.to_thread.run_sync(_facts, detail)
    return Output("\n".join(f"{name}: {value}" for name, value in data.items()), data)


def _facts(detail: bool) -> dict[str, Any]:
    import psutil

    swap = psutil.swap_memory()
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "distribution": _distribution(),
        "architecture": platform.machine(),
        "processor": machine.cpu_name(),
        "cpus": os.cpu_count() or 1,
        "usable_cpus": machine.available_cpus(),
        "memory_gib": round(machine.total_memory() / _GIB, 2),
        "free_memory_gib": round(machine.available_memory() / _GIB, 2),
        "used_swap_gib": round(swap.used / _GIB, 2),
        "load_1_5_15_minutes": [round(load, 2) for load in psutil.getloadavg()],
        "uptime_hours": round((time.time() - psutil.boot_time()) / 3600, 1),
        "processes": len(psutil.pids()),
        "python": platform.python_version(),
    }
    if detail:
        facts["load_percent_by_cpu"] = psutil.cpu_percent(interval=0.1, percpu=True)
        facts["disks"] = _disks()
    return facts


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return platform.platform()


def _disks() -> list[dict[str, Any]]:
    import psutil

    found = []
    for part in psutil.disk_partitions():
        try:
            usage = psutil.disk_usage(part.mountpoint)
        except OSError:
            continue
        about = {"at": part.mountpoint, "kind": part.fstype}
        found.append({**about, "gib": _gib(usage.total), "free_gib": _gib(usage.free)})
    return found[:50]


def _gib(count: int) -> float:
    return round(count / _GIB, 2)


@tool(
    title="Disk usage",
    read_only=True,
    example={"path": "."},
    main=("path", "line"),
)
async def disk_usage(
    ctx: ToolContext,
    path: Annotated[PathText, Field(description="the folder to look into")] = ".",
    limit: Annotated[int, Field(ge=1, le=100, description="how many entries to show")] = 10,
) -> Output:
    """Tell how large a folder is, what in it is largest, and the disk's free room.

    Use when asked what takes up space.

    Raises:
        ToolError: There is no such folder, or a path outside the allowed directories.
    """
    return await anyio.to_thread.run_sync(_usage, ctx, path, limit, abandon_on_cancel=True)


def _usage(ctx: ToolContext, path: str, limit: int) -> Output:
    sizes: dict[str, int] = {}
    files = 0
    with Roots(ctx.roots).place(path) as place:
        directory = place.open_directory()
        try:
            disk = shutil.disk_usage(directory if os.stat in os.supports_fd else place.path)
        finally:
            os.close(directory)
        walker = Walker(place, hidden=True, seconds=_WALK_SECONDS)
        for entry in walker:
            if entry.is_directory:
                continue
            found = entry.status()
            if found is not None:
                files += 1
                top = entry.path.partition("/")[0]
                sizes[top] = sizes.get(top, 0) + found.st_size
    largest = sorted(sizes.items(), key=lambda pair: -pair[1])[:limit]
    notes = [f"{files:,} files, {sum(sizes.values()):,} bytes in {place.shown}"]
    notes += [walker.stopped] if walker.stopped else []
    notes.append(f"the disk has {_gib(disk.free)} of {_gib(disk.total)} GiB free")
    text = "\n".join(f"{size:,} bytes  {name}" for name, size in largest)
    data = {
        "bytes": sum(sizes.values()),
        "files": files,
        "largest": [{"name": name, "bytes": size} for name, size in largest],
        "complete": not walker.stopped,
        "disk_bytes": disk.total,
        "disk_free_bytes": disk.free,
    }
    return Output(f"{text}\n[{'; '.join(notes)}]".lstrip(), data)


@tool(
    title="Find programs",
    read_only=True,
    example={"names": ["git", "gcc", "node"]},
    main=("names", "json"),
)
async def find_programs(
    ctx: ToolContext,
    names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=100)], ...],
        Field(min_length=1, max_length=50, description="names of programs, such as git"),
    ],
) -> Output:
    """Tell which programs are installed on this machine and where.

    Use before a step that needs a certain program. Nothing is started.

    Raises:
        ToolError: A name that no program has.
    """
    for name in names:
        if not _PROGRAM.fullmatch(name):
            raise ToolError(f"{name!r} is no name of a program.", hint="Give a name such as git.")
    found = {name: shutil.which(name) for name in names}
    lines = [f"{name}: {place or 'not installed'}" for name, place in found.items()]
    return Output("\n".join(lines), {"programs": found})


@tool(
    title="Environment facts",
    read_only=True,
    example={},
    main=("packages", "line"),
)
async def environment_facts(
    ctx: ToolContext,
    packages: Annotated[
        str, Field(max_length=100, description="also the Python packages with this in their name")
    ] = "",
) -> Output:
    """Tell the folders that may be used, the language, the Python and its packages.

    Use to learn where you are. Other environment variables are not shown, since they may hold
    passwords.

    Raises:
        ToolError: The system does not tell.
    """
    data = await anyio.to_thread.run_sync(_environment, ctx, packages.strip().lower())
    return Output("\n".join(f"{name}: {value}" for name, value in data.items()), data)


def _environment(ctx: ToolContext, wanted: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "folders": [str(root) for root in ctx.roots],
        "may_change": not ctx.read_only,
        "python": f"{platform.python_version()} ({sys.implementation.name})",
        "encoding": locale.getpreferredencoding(False),
        "timezone": time.strftime("%Z"),
    }
    variables = {name: os.environ[name] for name in _SHOWN_VARIABLES if os.environ.get(name)}
    facts |= {name: value[:100] for name, value in variables.items()}
    if wanted:
        facts["packages"] = [one for one in _packages() if wanted in one.lower()][:100]
    return facts


def _packages() -> list[str]:
    """Names and versions, from the names of their folders: their metadata would take long."""
    found: set[str] = set()
    for folder in sys.path:
        with contextlib.suppress(OSError):
            named = filter(None, map(_PACKAGE.fullmatch, os.listdir(folder or ".")))
            found.update(f"{match[1]} {match[2]}" for match in named)
    return sorted(found, key=str.lower)
