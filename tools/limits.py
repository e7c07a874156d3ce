"""What untrusted code may use at most."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one sandboxed command.

    Attributes:
        seconds: Wall-clock time.
        cpu_seconds: CPU time of one process.
        memory_bytes: Memory of all its processes together, and address space of each.
        processes: Processes alive at one moment.
        output_bytes: What it may print on stdout and stderr together.
        file_bytes: Size of one file.
        disk_bytes: Size of all files in its working directory; the same again in /tmp.
        open_files: File descriptors of one process.
        result_bytes: Files that come back, all together.
    """

    seconds: float = 10.0
    cpu_seconds: int = 60
    memory_bytes: int = 1024 * _MIB
    processes: int = 64
    output_bytes: int = 1 * _MIB
    file_bytes: int = 32 * _MIB
    disk_bytes: int = 64 * _MIB
    open_files: int = 256
    result_bytes: int = 8 * _MIB
