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


def is_linux() -> bool:
    """Says whether Linux-only means (bubblewrap, /proc) may be tried."""
    return sys.platform.startswith("linux")


def available_cpus() -> int:
    """Returns how many CPUs this process may use, at least 1; affinity counts where it is known."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def available_memory() -> int:
    """Returns the bytes that can be used without swapping; a container's own limit counts."""
    import psutil

    free = int(psutil.virtual_memory().available)
    limit = _cgroup_number("memory.max")
    used = _cgroup_number("memory.current")
    return min(free, max(limit - used, 0)) if limit is not None and used is not None else free


def total_memory() -> int:
    """Returns the bytes of memory this machine, or this container, has."""
    import psutil

    limit = _cgroup_number("memory.max")
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


def _cgroup_number(name: str) -> int | None:
    try:
        text = (_CGROUP / name).read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
