"""The command line of bubblewrap: what a sandboxed process sees and as whom it runs.

    /usr, /lib*, /bin     the host's, read-only
    the interpreter       its prefix, read-only; the environment's packages only where asked
    /sandbox, /tmp        empty, in memory, of limited size
    /proc, /dev           new ones
    everything else       not there; no network; no capability; an unused user id

Two ways to get there. As root on a host that allows mounts, the namespaces need no user namespace
and the process gets an unused uid. Otherwise a user namespace is made; root first becomes an unused
user, since the kernel does not limit the processes of root itself, not even in a user namespace,
and a fork bomb would then take the host along. `find_setup` tries them once and keeps what works;
where nothing does, it refuses and says what to install.

Linux only, like bubblewrap itself: every other module asks here first.
"""

from __future__ import annotations

import functools
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.errors import ServerUnavailable
from ryzanstein.tools.limits import Limits

__all__ = ["ENVIRONMENT", "WORK", "Setup", "command", "find_setup", "interpreter"]

WORK = "/sandbox"
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": WORK,
    "USER": "sandbox",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    # Thread pools sized for the whole machine would meet the limits on memory and processes.
    "OMP_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "MALLOC_ARENA_MAX": "2",
}
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_KERNEL_DIRECTORIES = ("sys", "irq", "bus", "fs", "acpi", "scsi")
_KERNEL_FILES = ("sysrq-trigger", "kcore", "kmsg", "keys", "key-users", "timer_list", "sched_debug")
_SHM_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Setup:
    """How bubblewrap works on this host.

    Attributes:
        bwrap: Its path.
        user_namespace: Whether it needs a user namespace.
        user: The user id to become where the caller is root; 0 where it is not.
        proc: Whether a new /proc may be mounted.
        options: The long options that this version knows.
    """

    bwrap: str
    user_namespace: bool
    user: int
    proc: bool
    options: frozenset[str]


@functools.cache
def find_setup() -> Setup:
    """Returns the first way of isolating a process that works here; later calls cost nothing.

    Raises:
        ServerUnavailable: There is none; the hint says what to install or to allow.
    """
    if not sys.platform.startswith("linux"):
        raise ServerUnavailable(
            "Running code needs a sandbox, and there is none for this system yet.",
            hint="Run Ryzanstein in Linux: a virtual machine, a container or WSL2.",
        )
    bwrap = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if bwrap is None:
        raise ServerUnavailable(
            "Running code needs bubblewrap, which is not installed.", hint=_install_hint()
        )
    shown = subprocess.run([bwrap, "--help"], capture_output=True, text=True, check=False)
    words = (shown.stdout + shown.stderr).split()
    options = frozenset(word for word in words if word.startswith("--"))
    if "--perms" not in options:
        raise ServerUnavailable(
            f"{bwrap} is too old to isolate code.", hint="Install bubblewrap 0.5 or newer."
        )
    complaints: list[str] = []
    for setup in _candidates(bwrap, options):
        complaint = _complaint(setup)
        if not complaint:
            return setup
        complaints.append(complaint)
    raise ServerUnavailable(
        f"bubblewrap cannot isolate a process here: {complaints[0]}",
        hint=_refusal_hint(" ".join(complaints)),
    )


def _candidates(bwrap: str, options: frozenset[str]) -> Iterator[Setup]:
    for proc in (True, False):
        if os.geteuid() == 0:
            yield Setup(bwrap, False, _unused_user(), proc, options)
            yield Setup(bwrap, True, _unused_user(), proc, options)
        else:
            yield Setup(bwrap, True, 0, proc, options)


def _unused_user() -> int:
    """Picks a number for this process, so that RLIMIT_NPROC counts none but its sandboxes."""
    return 0x40000000 + secrets.randbelow(0x3FFFFFFF)


def _complaint(setup: Setup) -> str:
    try:
        tried = subprocess.run(
            command(setup, Limits(), ["/bin/sh", "-c", "exit 0"]),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=False,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"]
    return "" if tried.returncode == 0 else said[-1]


def _install_hint() -> str:
    for manager, install in (
        ("apt-get", "apt-get install bubblewrap"),
        ("dnf", "dnf install bubblewrap"),
        ("pacman", "pacman -S bubblewrap"),
        ("zypper", "zypper install bubblewrap"),
        ("apk", "apk add bubblewrap util-linux"),
    ):
        if shutil.which(manager):
            sudo = "" if os.geteuid() == 0 else "sudo "
            return f"Install it: {sudo}{install}"
    return "Install the package bubblewrap (Debian, Ubuntu: sudo apt-get install bubblewrap)."


def _refusal_hint(complaint: str) -> str:
    if "Permission denied" in complaint and os.geteuid() == 0:
        return "Run Ryzanstein as an ordinary user, or let root mount (CAP_SYS_ADMIN)."
    if "prlimit" in complaint or "setpriv" in complaint:
        return "Install util-linux, which brings prlimit and setpriv."
    if Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").exists():
        return (
            "AppArmor restricts user namespaces here: install its profile for bwrap "
            "(sudo apt-get install apparmor-profiles), or set "
            "kernel.apparmor_restrict_unprivileged_userns=0 with sysctl."
        )
    return (
        "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1); in a container, start "
        "it with --security-opt seccomp=unconfined or with --cap-add SYS_ADMIN."
    )


def interpreter(packages: bool) -> str:
    """Returns the path, inside the sandbox, of the Python that runs there."""
    if packages and sys.prefix != sys.base_prefix:
        return os.path.join(sys.prefix, "bin", "python")
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def command(
    setup: Setup,
    limits: Limits,
    argv: list[str],
    *,
    packages: bool = False,
    stage: str | None = None,
    seccomp: int | None = None,
) -> list[str]:
    """Returns the whole command line that runs argv isolated and limited.

    Args:
        setup: From find_setup.
        limits: What it may use.
        argv: The command as seen from inside.
        packages: Also mount the installed packages of this environment.
        stage: A directory of the host shown read-only as /stage.
        seccomp: A file descriptor with the filter program.
    """
    line = _become(setup.user) if setup.user and setup.user_namespace else []
    line += [setup.bwrap, *_namespaces(setup), "--new-session", "--die-with-parent"]
    line += _system_mounts()
    # Before the interpreter's mounts, which may lie in the host's own /tmp.
    line += _memory_dir(setup, WORK, limits.disk_bytes)
    line += _memory_dir(setup, "/tmp", limits.disk_bytes)
    for source, target in _python_mounts(packages):
        line += [*_parents(target), "--ro-bind", source, target]
    if not packages:
        for hidden in _base_packages():
            line += ["--tmpfs", hidden, "--remount-ro", hidden]
    if stage is not None:
        line += ["--ro-bind", stage, "/stage"]
    if setup.proc:
        line += _process_mounts()
    line += ["--dev", "/dev", *_memory_dir(setup, "/dev/shm", _SHM_BYTES), "--remount-ro", "/dev"]
    if seccomp is not None:
        line += ["--seccomp", str(seccomp)]
    line += ["--remount-ro", "/", "--chdir", WORK, "--"]
    line += _limiter(limits)
    return [*line, *([] if setup.user_namespace else _become(setup.user)), *argv]


def _namespaces(setup: Setup) -> list[str]:
    parts = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    parts.append("--unshare-cgroup-try")
    if not setup.user_namespace:
        return [*parts, "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    parts += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    return [*parts, "--disable-userns"] if "--disable-userns" in setup.options else parts


def _system_mounts() -> list[str]:
    line = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM:
        path = f"/{name}"
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            line += ["--ro-bind", path, path]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", "/nix/store", "/gnu/store"):
        if os.path.exists(path):
            line += [*_parents(path), "--ro-bind", path, path]
    return line


def _process_mounts() -> list[str]:
    """Mounts /proc without what changes or shows the kernel: root's files there need no right."""
    line = ["--proc", "/proc"]
    for name in _KERNEL_DIRECTORIES:
        if os.path.isdir(f"/proc/{name}"):
            line += ["--tmpfs", f"/proc/{name}", "--remount-ro", f"/proc/{name}"]
    for name in _KERNEL_FILES:
        if os.path.exists(f"/proc/{name}"):
            line += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    return line


def _python_mounts(packages: bool) -> list[tuple[str, str]]:
    """Returns (source, target) of what Python needs besides /usr; the shorter path first."""
    wanted = {sys.base_prefix, os.path.dirname(os.path.dirname(interpreter(False)))}
    if packages:
        wanted.add(sys.prefix)
    outside = (path for path in wanted if path != "/" and not _within(path, "/usr"))
    return [(os.path.realpath(path), path) for path in sorted(outside)]


def _base_packages() -> list[str]:
    """Returns the directories of the base interpreter that hold packages nobody asked for."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    places = (
        *(f"{lib}/{version}/site-packages" for lib in ("lib", "lib64", "local/lib")),
        *(f"{lib}/{version}/dist-packages" for lib in ("lib", "local/lib")),
        "lib/python3/dist-packages",
    )
    bases = {os.path.realpath(sys.base_prefix), "/usr"}
    found = (os.path.join(base, place) for base in sorted(bases) for place in places)
    return [path for path in dict.fromkeys(found) if os.path.isdir(path)]


def _within(path: str, parent: str) -> bool:
    return path == parent or path.startswith(parent.rstrip("/") + "/")


def _parents(path: str) -> list[str]:
    """Makes the directories above a mount readable: bubblewrap would keep them to root."""
    line: list[str] = []
    for parent in reversed(Path(path).parents[:-1]):
        line += ["--perms", "0755", "--dir", str(parent)]
    return line


def _memory_dir(setup: Setup, path: str, size: int) -> list[str]:
    limit = ["--size", str(size)] if "--size" in setup.options else []
    return ["--perms", "0777", *limit, "--tmpfs", path]


def _limiter(limits: Limits) -> list[str]:
    line = [
        "/usr/bin/prlimit",
        "--core=0",
        f"--as={limits.memory_bytes}",
        f"--cpu={limits.cpu_seconds}:{limits.cpu_seconds + 1}",
        f"--fsize={limits.file_bytes}",
        f"--nofile={limits.open_files}",
    ]
    if _counts_processes_by_namespace():
        line.append(f"--nproc={limits.processes + 32}")
    return [*line, "--"]


def _counts_processes_by_namespace() -> bool:
    """Before Linux 5.14 the limit counts all processes of the user, not those of the sandbox."""
    release = platform.release().split("-")[0].split(".")
    numbers = tuple(int(part) for part in release[:2] if part.isdigit())
    return os.geteuid() == 0 or numbers >= (5, 14)


def _become(user: int) -> list[str]:
    return [
        "/usr/bin/setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]
