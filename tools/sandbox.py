"""Runs untrusted commands: no network, no host files, limits on everything, killed whole.

    result = await run([interpreter(packages=False), "main.py"], files={"main.py": b"print(1)"})
    result.stdout, result.exit_code, result.stopped

What bubblewrap shows to the process is in `bubblewrap.py`. Limits are set twice: by the kernel
(rlimits, sizes of the in-memory directories) and by a watchdog of this process that adds up the
memory and counts the processes of the whole sandbox. Killing the outer bubblewrap kills its PID
namespace, so nothing that the code started outlives it.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import anyio
import anyio.abc
import psutil

from ryzanstein.errors import ToolError
from ryzanstein.tools.bubblewrap import ENVIRONMENT, WORK, command, find_setup, interpreter
from ryzanstein.tools.child import kill_group
from ryzanstein.tools.limits import Limits
from ryzanstein.tools.seccomp import filter_program

__all__ = ["SandboxResult", "Stop", "interpreter", "run"]

Stop = Literal["time", "cpu", "memory", "processes", "output", "disk"]

_LOOK_EVERY = 0.05
_FILES_PER_DIRECTORY = 20_000
# Copies the input, runs the command, and packs what it left behind; in plain sh and tar because
# they start in a millisecond.
_SCRIPT = f"""\
[ ! -d /stage ] || cp -R /stage/. {WORK}/ || exit 125
out=$1; shift
"$@"
status=$?
[ "$out" = - ] || tar -cf "$out" -C {WORK} . 2>/dev/null
exit $status
"""


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """What a sandboxed command did.

    Attributes:
        exit_code: As the shell counts it (128 + signal); None where it was stopped.
        stdout: Decoded, damaged bytes replaced.
        stderr: The same.
        seconds: Wall-clock time, the start of the sandbox included.
        stopped: The limit it ran into, or None.
        files: Files in the working directory afterwards, where asked for: path to content.
        files_left_out: How many files did not come back because of their size.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    stopped: Stop | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    files_left_out: int = 0

    @property
    def ok(self) -> bool:
        """Whether it ran to its end and said so with status 0."""
        return self.exit_code == 0 and self.stopped is None

    def explain(self, limits: Limits) -> str:
        """Returns one line on why it did not succeed, or an empty string."""
        if self.stopped is not None:
            return _STOPPED[self.stopped].format(limits=limits, mib=limits.memory_bytes >> 20)
        return "" if self.exit_code == 0 else f"It ended with status {self.exit_code}."


_STOPPED: dict[Stop, str] = {
    "time": "Stopped: it ran longer than {limits.seconds:g} s.",
    "cpu": "Stopped: it used more than {limits.cpu_seconds} s of CPU time.",
    "memory": "Stopped: it used more than {mib} MiB of memory.",
    "processes": "Stopped: it had more than {limits.processes} processes at once.",
    "output": "Stopped: it printed more than {limits.output_bytes} bytes.",
    "disk": "Stopped: it wrote too many or too large files.",
}


async def run(
    argv: Sequence[str],
    *,
    files: Mapping[str, bytes | str] | None = None,
    stdin: bytes = b"",
    limits: Limits | None = None,
    packages: bool = False,
    collect: bool = False,
    env: Mapping[str, str] | None = None,
) -> SandboxResult:
    """Runs a command in a new sandbox, in a directory that holds the given files.

    Args:
        argv: The command; `interpreter(packages)` is the path of Python inside.
        files: Relative path to content.
        stdin: What the command reads.
        limits: What it may use.
        packages: Whether this environment's installed packages are visible.
        collect: Whether files it leaves behind come back.
        env: Further environment variables.

    Raises:
        ServerUnavailable: There is no sandbox here; the hint has the install command.
        ToolError: A file's path would leave the directory.
    """
    limits = limits or Limits()
    setup = await anyio.to_thread.run_sync(find_setup)
    with contextlib.ExitStack() as stack:
        stage = _stage(stack, files or {}, limits, setup.user)
        seccomp = _seccomp_fd(stack)
        packed = stack.enter_context(_archive()) if collect else None
        target = "-" if packed is None else f"/dev/fd/{packed.fileno()}"
        line = command(
            setup,
            limits,
            ["/bin/sh", "-c", _SCRIPT, "sh", target, *argv],
            packages=packages,
            stage=stage,
            seccomp=seccomp,
        )
        passed = [fd for fd in (seccomp, packed.fileno() if packed else None) if fd is not None]
        watched = _Run(limits)
        await watched.run(line, stdin, passed, {**ENVIRONMENT, **(env or {})})
        found: dict[str, bytes] = {}
        left_out = 0
        if packed is not None and watched.stopped is None:
            room = limits.result_bytes
            found, left_out = await anyio.to_thread.run_sync(_unpack, packed, room)
    return watched.result(found, left_out)


class _Run:
    """One sandboxed process, its output so far and the limit it ran into."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._output: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._exit_code: int | None = None
        self._seconds = 0.0
        self.stopped: Stop | None = None

    async def run(
        self, line: list[str], stdin: bytes, passed: list[int], env: Mapping[str, str]
    ) -> None:
        began = time.monotonic()
        async with _process(line, passed, env) as process:
            with anyio.move_on_after(self._limits.seconds) as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch, process)
                    tasks.start_soon(_feed, process, stdin)
                    async with anyio.create_task_group() as readers:
                        readers.start_soon(self._read, process, process.stdout, 0)
                        readers.start_soon(self._read, process, process.stderr, 1)
                    self._exit_code = await process.wait()
                    tasks.cancel_scope.cancel()
            if scope.cancelled_caught and self.stopped is None:
                self.stopped = "time"
        self._seconds = time.monotonic() - began

    def result(self, files: Mapping[str, bytes], left_out: int) -> SandboxResult:
        stdout, stderr = (bytes(part).decode("utf-8", "replace") for part in self._output)
        stopped = self.stopped
        if stopped is None and self._exit_code in {128 + signal.SIGXCPU, -signal.SIGXCPU}:
            stopped = "cpu"
        return SandboxResult(
            exit_code=None if stopped else self._exit_code,
            stdout=stdout,
            stderr=stderr,
            seconds=self._seconds,
            stopped=stopped,
            files=files,
            files_left_out=left_out,
        )

    def _stop(self, process: anyio.abc.Process, why: Stop) -> None:
        if self.stopped is None:
            self.stopped = why
        kill_group(process)

    async def _read(
        self, process: anyio.abc.Process, stream: anyio.abc.ByteReceiveStream | None, which: int
    ) -> None:
        assert stream is not None
        with contextlib.suppress(anyio.EndOfStream, anyio.ClosedResourceError):
            while True:
                chunk = await stream.receive(65536)
                room = self._limits.output_bytes - sum(len(part) for part in self._output)
                self._output[which].extend(chunk[:room])
                if len(chunk) > room:
                    self._stop(process, "output")
                    return

    async def _watch(self, process: anyio.abc.Process) -> None:
        try:
            outer = psutil.Process(process.pid)
        except psutil.Error:
            return  # it has ended already
        while True:
            await anyio.sleep(_LOOK_EVERY)
            why = _excess(outer, self._limits)
            if why is not None:
                self._stop(process, why)


def _excess(outer: psutil.Process, limits: Limits) -> Stop | None:
    """Returns the limit that the processes below the outer bubblewrap exceed together."""
    try:
        inside = outer.children(recursive=True)
    except psutil.Error:
        return None
    if len(inside) > limits.processes + 3:  # bubblewrap's own, the shell
        return "processes"
    memory = 0
    for process in inside:
        with contextlib.suppress(psutil.Error):
            memory += process.memory_info().rss
    if memory > limits.memory_bytes and _proportional(inside) > limits.memory_bytes:
        return "memory"
    return "disk" if inside and _disk_full(inside[-1].pid, limits) else None


def _proportional(processes: list[psutil.Process]) -> int:
    """Returns their memory with shared pages counted once: exact, and dearer than the sum."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total


def _disk_full(pid: int, limits: Limits) -> bool:
    """Looks at the in-memory directories from outside; also where bubblewrap sets no size.

    A process that is still being put into the sandbox has this machine's own directories.
    """
    with contextlib.suppress(OSError):
        if os.path.samefile(f"/proc/{pid}/root", "/"):
            return False
    for name in (WORK, "/tmp"):
        with contextlib.suppress(OSError):
            found = os.statvfs(f"/proc/{pid}/root{name}")
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            if used > limits.disk_bytes or found.f_files - found.f_ffree > _FILES_PER_DIRECTORY:
                return True
    return False


@contextlib.asynccontextmanager
async def _process(
    line: list[str], passed: list[int], env: Mapping[str, str]
) -> AsyncIterator[anyio.abc.Process]:
    process = await anyio.open_process(
        line, env=env, cwd="/", start_new_session=True, pass_fds=passed
    )
    try:
        yield process
    finally:
        kill_group(process)
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _feed(process: anyio.abc.Process, stdin: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        await process.stdin.send(stdin)
        await process.stdin.aclose()


def _stage(
    stack: contextlib.ExitStack, files: Mapping[str, bytes | str], limits: Limits, user: int
) -> str | None:
    """Writes the input into a directory that only this user can reach."""
    if not files:
        return None
    if sum(len(content) for content in files.values()) > limits.disk_bytes:
        raise ToolError(
            f"The files are larger than {limits.disk_bytes >> 20} MiB together.",
            hint="Give fewer or smaller files.",
        )
    outer = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ryzanstein-")))
    inner = outer / "stage"
    inner.mkdir()
    for name, content in files.items():
        path = inner / _safe_name(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    for path in (inner, *inner.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    if user:
        os.chown(outer, user, -1)
    return str(inner)


def _safe_name(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ToolError(f"{name!r} is no path inside the sandbox.", hint="Use a relative path.")
    return path


def _seccomp_fd(stack: contextlib.ExitStack) -> int | None:
    program = filter_program()
    if program is None:
        return None
    file = stack.enter_context(tempfile.TemporaryFile())
    file.write(program)
    file.flush()
    file.seek(0)
    return file.fileno()


@contextlib.contextmanager
def _archive() -> Iterator[io.BufferedRandom]:
    """Opens a nameless file for what comes back."""
    with tempfile.TemporaryFile() as file:
        # The other user in the sandbox opens it by /dev/fd, and nobody else can.
        os.fchmod(file.fileno(), 0o666)
        yield file


def _unpack(packed: io.BufferedRandom, room: int) -> tuple[dict[str, bytes], int]:
    """Reads regular files out of an archive that untrusted code may have made."""
    found: dict[str, bytes] = {}
    left_out = 0
    packed.seek(0)
    with contextlib.suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=packed) as archive:
        for member in _members(archive):
            if member.size > room:
                left_out += 1
                continue
            content = archive.extractfile(member)
            if content is not None:
                found[str(PurePosixPath(member.name))] = content.read()
                room -= member.size
    return found, left_out


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for count, member in enumerate(archive):
        if count >= _FILES_PER_DIRECTORY:
            return
        if member.isreg() and ".." not in PurePosixPath(member.name).parts:
            yield member
