"""The processes of this machine; their arguments are not shown, since they may hold passwords."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio.to_thread
from pydantic import Field

from ryzanstein.errors import ToolError
from ryzanstein.tools.context import Output, ToolContext
from ryzanstein.tools.toolbox import tool

if TYPE_CHECKING:
    import psutil

_MIB = 1 << 20
_LISTED = ["pid", "name", "status", "memory_info", "cpu_times", "create_time"]


@tool(
    title="List processes",
    read_only=True,
    untrusted=True,
    example={"by": "memory", "limit": 5},
    main=("name", "line"),
)
async def list_processes(
    ctx: ToolContext,
    name: Annotated[
        str, Field(max_length=100, description="only those with this in their name")
    ] = "",
    by: Annotated[
        Literal["cpu", "memory", "age", "name"], Field(description="what comes first")
    ] = "memory",
    limit: Annotated[int, Field(ge=1, le=500, description="how many at most")] = 20,
) -> Output:
    """List the running processes with memory, CPU time and age.

    Use when asked what is running or what uses the memory or the CPU.

    Raises:
        ToolError: The system does not tell.
    """
    rows = await anyio.to_thread.run_sync(_processes, name.strip().lower())
    keys = {"cpu": "cpu_seconds", "memory": "memory_mib", "age": "age_seconds", "name": "name"}
    rows.sort(key=lambda row: row[keys[by]], reverse=by != "name")
    lines = [
        f"{row['pid']}  {row['name']}  {row['memory_mib']} MiB  {row['cpu_seconds']} s CPU  "
        f"{_age(row['age_seconds'])} old  {row['status']}"
        for row in rows[:limit]
    ]
    more = f", the first {limit} are shown" if len(rows) > limit else ""
    data = {"processes": rows[:limit], "count": len(rows)}
    return Output("\n".join([*lines, f"[{len(rows)} processes{more}]"]), data)


def _processes(wanted: str) -> list[dict[str, Any]]:
    import psutil

    rows = []
    for process in psutil.process_iter(_LISTED):
        about = process.info
        if wanted in (about["name"] or "").lower():
            rows.append(_row(about))
    return rows


def _row(about: dict[str, Any]) -> dict[str, Any]:
    times, memory = about["cpu_times"], about["memory_info"]
    return {
        "pid": about["pid"],
        "name": about["name"] or "unknown",
        "status": about["status"],
        "memory_mib": round(memory.rss / _MIB, 1) if memory else 0.0,
        "cpu_seconds": round(times.user + times.system, 1) if times else 0.0,
        "age_seconds": round(max(0.0, time.time() - (about["create_time"] or time.time()))),
    }


def _age(seconds: int) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"


@tool(
    title="Describe a process",
    read_only=True,
    untrusted=True,
    example={"pid": 1},
    main=("pid", "line"),
)
async def process_info(
    ctx: ToolContext,
    pid: Annotated[int, Field(ge=0, le=2**31 - 1, description="its number, as listed")],
) -> Output:
    """Tell about one process: parent, children, threads, memory, CPU time and state.

    Use after list_processes. Its arguments and environment are not shown.

    Raises:
        ToolError: There is no such process.
    """
    data = await anyio.to_thread.run_sync(_process, pid)
    return Output("\n".join(f"{name}: {value}" for name, value in data.items()), data)


def _process(pid: int) -> dict[str, Any]:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            row = _row(process.as_dict(_LISTED))
            parent = process.parent()
            children = [f"{child.pid} {child.name()}" for child in process.children()[:50]]
            return {
                **row,
                "parent": f"{parent.pid} {parent.name()}" if parent else "none",
                "children": children,
                "threads": process.num_threads(),
                "started": time.strftime(
                    "%Y-%m-%d %H:%M:%S", time.localtime(process.create_time())
                ),
                **_open_files(process),
            }
    except psutil.NoSuchProcess:
        raise ToolError(f"There is no process {pid}.", hint="list_processes shows them.") from None
    except psutil.AccessDenied:
        raise ToolError(f"Process {pid} may not be looked into.", hint="Choose another.") from None


def _open_files(process: psutil.Process) -> dict[str, Any]:
    """How many files it has open, where the system tells."""
    import psutil

    try:
        return {"open_files": process.num_fds()}
    except (psutil.Error, AttributeError):
        return {}
