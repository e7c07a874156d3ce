"""What this machine is and has: the only place that asks the operating system about it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

__all__ = [
    "available_cpus",
    "available_memory",
    "cpu_name",
    "is_linux",
    "peak_memory",
    "release_memory",
    "total_memory",
]

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def is_linux() -> bool:
    """Says whether Linux-only means (bubblewrap, /proc) may be tried."""
    return sys.platform.startswith("linux")


def available_cpus() -> int:
    """Returns how many CPUs this process may use, at least 1; affinity counts where it is known."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def available_memory() -> int:
    """Returns the bytes that can be used without swapping; a container's own limit counts.

    Pages of files that are only kept because there was room for them count as free.
    """
    free = _meminfo("MemAvailable")
    if free is None:
        import psutil

        free = int(psutil.virtual_memory().available)
    limit = _cgroup_number("memory.max")
    used = _cgroup_number("memory.current")
    if limit is None or used is None:
        return free
    return min(free, max(limit - used + _cgroup_file_pages(), 0))


def total_memory() -> int:
    """Returns the bytes of memory this machine, or this container, has."""
    limit = _cgroup_number("memory.max")
    total = _meminfo("MemTotal")
    if total is None:
        import psutil

        total = int(psutil.virtual_memory().total)
    return min(total, limit) if limit is not None else total


def peak_memory() -> int:
    """Returns this process's peak resident bytes, or its present ones where no peak is kept."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import psutil

    info = psutil.Process().memory_info()
    return int(getattr(info, "peak_wset", info.rss))


def release_memory() -> None:
    """Gives memory that was freed back to the system, where the C library can (glibc)."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if is_linux() else None
    if trim is not None:
        trim(0)


def cpu_name() -> str:
    """Returns the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _meminfo(name: str) -> int | None:
    """Bytes of a line of /proc/meminfo: what psutil would read, without its import."""
    try:
        text = _MEMINFO.read_text(encoding="ascii")
    except OSError:
        return None
    lines = (line.split() for line in text.splitlines())
    return next((int(words[1]) * 1024 for words in lines if words[0] == f"{name}:"), None)


def _cgroup_file_pages() -> int:
    """Bytes of memory.current that hold files and can be dropped."""
    try:
        text = (_CGROUP / "memory.stat").read_text(encoding="ascii")
    except OSError:
        return 0
    counts = dict(line.split() for line in text.splitlines())
    return sum(int(counts.get(name, 0)) for name in ("active_file", "inactive_file"))


def _cgroup_number(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
