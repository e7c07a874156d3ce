"""The sandbox against code that really tries; bubblewrap has to be installed."""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from ryzanstein.errors import ServerUnavailable, ToolError
from ryzanstein.tools import bubblewrap, sandbox
from ryzanstein.tools.child import run_limited
from ryzanstein.tools.limits import Limits
from ryzanstein.tools.sandbox import SandboxResult
from ryzanstein.tools.seccomp import filter_program

SMALL = Limits(seconds=3, memory_bytes=200 << 20, processes=16, disk_bytes=16 << 20)


def as_ordinary_user() -> bubblewrap.Setup:
    """The way in that an ordinary user has; root becomes one for it."""
    found = bubblewrap.find_setup()
    user = found.user or (bubblewrap._unused_user() if os.geteuid() == 0 else 0)
    return dataclasses.replace(found, user_namespace=True, user=user)


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same without Python, whose directory root may keep to itself."""
    setup = as_ordinary_user()
    monkeypatch.setattr(sandbox, "find_setup", lambda: setup)
    monkeypatch.setattr(bubblewrap, "_python_mounts", lambda packages: [])


async def python(code: str, **options: Any) -> SandboxResult:
    options.setdefault("limits", SMALL)
    files = {**options.pop("files", {}), "main.py": textwrap.dedent(code)}
    packages = options.get("packages", False)
    return await sandbox.run([sandbox.interpreter(packages), "main.py"], files=files, **options)


def sandboxed() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE and "bwrap" in process.name()
    ]


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while sandboxed() and time.monotonic() < deadline:
        os.sched_yield()
    assert not sandboxed()


async def test_code_runs_with_its_files_and_gives_them_back() -> None:
    result = await python(
        """
        import sys
        from helper import double
        open("out/made.txt", "w").write(str(double(21)))
        print(sys.stdin.read(), open("data/in.txt").read())
        print("careful", file=sys.stderr)
        """,
        files={"helper.py": "def double(n): return 2 * n", "data/in.txt": b"in", "out/x": b""},
        stdin=b"asked",
        collect=True,
    )
    assert result.ok and result.exit_code == 0 and result.stopped is None
    assert (result.stdout, result.stderr) == ("asked in\n", "careful\n")
    assert result.files["out/made.txt"] == b"42" and result.files["data/in.txt"] == b"in"


async def test_the_exit_status_comes_back() -> None:
    result = await python("raise SystemExit(7)")
    assert not result.ok and result.exit_code == 7
    assert result.explain(SMALL) == "It ended with status 7."


async def test_the_host_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("secret")
    result = await python(
        f"""
        import os
        for path in ("/etc/passwd", "/etc/shadow", "/home", "/var", "/sys",
                     {os.path.expanduser("~root/.bashrc")!r}, {str(tmp_path / "mine")!r},
                     {str(Path.home() / ".bashrc")!r}, {os.getcwd()!r}):
            try:
                print("READ", path, os.listdir(path) if os.path.isdir(path) else open(path).read())
            except OSError as error:
                print(type(error).__name__)
        print(sorted(os.environ.keys() & {{"SHELL", "PWD", "SSH_AUTH_SOCK"}}), os.getuid() != 0)
        print(len([p for p in os.listdir("/proc") if p.isdigit()]) < 6)
        """
    )
    lines = result.stdout.splitlines()
    assert set(lines[:9]) <= {"FileNotFoundError", "PermissionError"}, lines
    assert lines[10] == "True"
    assert lines[9].endswith("True")


async def test_nothing_outside_its_directories_can_be_written() -> None:
    result = await python(
        """
        import os
        for path in ("/x", "/usr/x", "/etc/x", "/stage/x", "/proc/sys/kernel/hostname", "/dev/x",
                     os.path.dirname(os.__file__) + "/x", "/stage/main.py"):
            try:
                open(path, "w").write("x")
                print("WROTE", path)
            except OSError as error:
                pass
        open("/tmp/x", "w").write("x"); open("x", "w").write("x")
        print("done")
        """
    )
    assert result.stdout == "done\n", result


async def test_there_is_no_network() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        port = listener.getsockname()[1]
        result = await python(
            f"""
            import socket
            for family, address in ((socket.AF_INET, ("127.0.0.1", {port})),
                                    (socket.AF_INET, ("1.1.1.1", 53)), (40, (2, 1)), (38, None)):
                try:
                    s = socket.socket(family)
                    s.settimeout(1)
                    s.connect(address)
                    print("CONNECTED", address)
                except (OSError, TypeError):
                    pass
            try:
                print("RESOLVED", socket.getaddrinfo("example.com", 80))
            except OSError:
                print("none")
            """
        )
    assert result.stdout == "none\n", result


async def test_an_endless_loop_ends() -> None:
    began = time.monotonic()
    result = await python("print('x', flush=True)\nwhile True: pass", limits=Limits(seconds=0.5))
    assert result.stopped == "time" and result.exit_code is None and result.stdout == "x\n"
    assert time.monotonic() - began < 30
    assert result.explain(Limits(seconds=0.5)) == "Stopped: it ran longer than 0.5 s."


async def test_cpu_time_is_limited() -> None:
    result = await python("while True: pass", limits=Limits(seconds=20, cpu_seconds=1))
    assert result.stopped == "cpu"


async def test_signals_do_not_keep_it_alive() -> None:
    result = await python(
        """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True: pass
        """,
        limits=Limits(seconds=0.5),
    )
    assert result.stopped == "time"


async def test_orphans_and_sessions_of_their_own_die_with_it() -> None:
    result = await python(
        """
        import os, subprocess, sys, time
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                os._exit(0)
        subprocess.Popen(["/bin/sh", "-c", "sleep 1000 &"], start_new_session=True)
        print("left", flush=True)
        """
    )
    assert result.ok and result.stdout == "left\n"


async def test_a_fork_bomb_is_stopped() -> None:
    # Two to the ninth at most: it must not take the host along where the sandbox has a fault.
    result = await python("import os, time\nfor _ in range(9): os.fork()\ntime.sleep(100)")
    assert result.stopped == "processes" or "BlockingIOError" in result.stderr, result


async def test_processes_are_limited_by_the_kernel_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_excess", lambda outer, limits: None)
    result = await python(
        """
        import os, time
        children = 0
        try:
            while children < 200:
                if os.fork() == 0: time.sleep(100)
                children += 1
        except BlockingIOError:
            print(children < 60)
        """
    )
    assert result.stdout == "True\n", result


async def shell(script: str, **options: Any) -> SandboxResult:
    return await sandbox.run(["/bin/sh", "-c", script], limits=SMALL, **options)


async def test_an_ordinary_user_gets_the_same_isolation(ordinary: None) -> None:
    result = await shell(
        """
        cat /etc/passwd /etc/shadow; ls /home /sys; echo x > /usr/x; echo x > /x
        echo x > /proc/sys/kernel/hostname; echo x > /proc/sysrq-trigger; echo x > /stage/in
        read line < in; echo "$line"; mkdir out; echo made > out/file; id -u
        """,
        files={"in": "given\n"},
        collect=True,
    )
    assert result.stdout == "given\n65534\n", result
    assert result.files == {"in": b"given\n", "out/file": b"made\n"}


async def test_an_ordinary_user_cannot_start_too_many_processes(
    ordinary: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = "n=0; while [ $n -lt 100 ]; do sleep 100 & n=$((n+1)); done; echo all"
    both = await shell(counted)
    assert both.stopped == "processes" or "annot fork" in both.stderr, both
    monkeypatch.setattr(sandbox, "_excess", lambda outer, limits: None)
    result = await shell(counted)
    assert "all" not in result.stdout and "ork" in result.stderr, result


async def test_an_ordinary_user_is_stopped_in_time_and_space(ordinary: None) -> None:
    assert (await shell("while :; do :; done")).stopped == "time"
    full = await shell("while :; do cat /bin/sh >> x || exit 3; done")
    assert full.exit_code == 3 or full.stopped == "disk"


async def test_memory_of_one_process_is_limited() -> None:
    result = await python("x = []\nwhile True: x.append(bytearray(10 << 20))")
    assert result.stopped == "memory" or "MemoryError" in result.stderr


async def test_memory_of_all_processes_together_is_limited() -> None:
    result = await python(
        """
        import os, time
        for _ in range(3): os.fork()
        x = [bytearray(os.urandom(1) * (10 << 20)) for _ in range(12)]
        time.sleep(100)
        """
    )
    assert result.stopped == "memory", result


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_endless_output_is_stopped(stream: str) -> None:
    limits = Limits(seconds=20, output_bytes=100_000)
    result = await python(
        f"import sys\nwhile True: print('y' * 1000, file=sys.{stream})", limits=limits
    )
    assert result.stopped == "output"
    assert 0 < len(result.stdout) + len(result.stderr) <= 100_000


async def test_large_files_and_many_files_are_stopped() -> None:
    one = await python(
        "f = open('x', 'wb')\nwhile True: f.write(b'0' * 100000)",
        limits=Limits(file_bytes=1 << 20),
    )
    assert "File too large" in one.stderr
    for place in (".", "/tmp", "/dev/shm"):
        full = await python(
            f"n = 0\nwhile True:\n n += 1\n open(f'{place}/{{n}}', 'wb').write(b'0' * 500000)"
        )
        assert "No space left" in full.stderr or full.stopped == "disk", place
    many = await python("n = 0\nwhile True:\n n += 1\n open(f'{n}', 'wb').close()")
    assert many.stopped == "disk", many


async def test_new_namespaces_mounts_and_tracing_are_refused() -> None:
    result = await python(
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        calls = {"unshare": (0x10000000,), "mount": (b"none", b"/tmp", b"tmpfs", 0, None),
                 "ptrace": (0, 0, 0, 0), "setns": (0, 0)}
        for name, arguments in calls.items():
            ctypes.set_errno(0)
            print(name, getattr(libc, name)(*arguments), ctypes.get_errno())
        """
    )
    assert result.stdout.splitlines() == [
        f"{name} -1 1" for name in ("unshare", "mount", "ptrace", "setns")
    ]


async def test_threads_and_processes_work_within_the_limits() -> None:
    result = await python(
        """
        import multiprocessing, threading
        def square(n): return n * n
        if __name__ == "__main__":
            threading.Thread(target=print, args=("thread",)).start()
            with multiprocessing.Pool(2) as pool: print(pool.map(square, [1, 2, 3]))
        """,
        limits=Limits(),
    )
    assert result.stdout.split("\n", 1)[1] == "[1, 4, 9]\n", result


async def test_packages_are_there_only_where_asked() -> None:
    assert "ModuleNotFoundError" in (await python("import pydantic")).stderr
    assert (await python("import pydantic; print(1)", packages=True, limits=Limits())).ok


async def test_a_sandbox_that_ends_at_once_is_no_fault() -> None:
    ended = await anyio.open_process(["true"], start_new_session=True)
    await ended.wait()
    await sandbox._Run(SMALL)._watch(ended)
    await ended.aclose()


async def test_a_trusted_program_leaves_nothing_behind() -> None:
    began = time.monotonic()
    line = ["sh", "-c", "echo said; sleep 60 & echo $!"]
    done = await run_limited(line, cwd=Path("/"), env={}, seconds=30, output_bytes=100)
    assert done.exit_code == 0 and time.monotonic() - began < 30
    said, left = done.stdout.split()
    assert said == "said"
    with pytest.raises(psutil.NoSuchProcess):
        psutil.Process(int(left)).wait(10)
        psutil.Process(int(left))


async def test_a_cancelled_run_leaves_nothing(nothing_is_left_running: None) -> None:
    with anyio.move_on_after(0.3) as scope:
        await python("import os\nos.fork()\nwhile True: pass", limits=Limits(seconds=60))
    assert scope.cancelled_caught
    # That nothing is left running is looked at after every test.


async def test_the_sandbox_dies_with_the_program_that_started_it() -> None:
    code = (
        "import anyio, os, sys\n"
        "from ryzanstein.tools.sandbox import interpreter, run\n"
        "async def main():\n"
        "    async with anyio.create_task_group() as tasks:\n"
        "        tasks.start_soon(run, [interpreter(False), '-c', 'while 1: pass'])\n"
        "        await anyio.sleep(0.5)\n"
        "        os.kill(os.getpid(), 9)\n"
        "anyio.run(main)\n"
    )
    before = {process.pid for process in psutil.process_iter()}
    subprocess.run([sys.executable, "-P", "-c", code], check=False)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        left = [
            process
            for process in psutil.process_iter(["pid", "name", "cmdline"])
            if process.pid not in before and "while 1: pass" in (process.info["cmdline"] or [])
        ]
        if not left:
            return
    raise AssertionError(left)


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\0b"])
async def test_files_cannot_be_put_elsewhere(name: str) -> None:
    with pytest.raises(ToolError, match="no path inside"):
        await python("", files={name: b"x"})


async def test_too_much_input_is_refused() -> None:
    with pytest.raises(ToolError, match="larger than 16 MiB"):
        await python("", files={"x": bytes(17 << 20)})


async def test_results_are_limited_and_links_do_not_come_back() -> None:
    result = await python(
        """
        import os
        open("big", "wb").write(bytes(2 << 20)); open("small", "w").write("s")
        os.symlink("/etc/passwd", "link"); os.mkfifo("pipe")
        """,
        limits=Limits(result_bytes=1 << 20),
        collect=True,
    )
    assert set(result.files) == {"main.py", "small"} and result.files_left_out == 1


def test_a_forged_archive_does_no_harm() -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("../escape", "fine"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    files, _ = sandbox._unpack(packed, 100)  # type: ignore[arg-type]
    assert files == {"fine": b"x"}
    assert sandbox._unpack(io.BytesIO(b"rubbish" * 1000), 100)[0] == {}  # type: ignore[arg-type]


def test_the_filter_has_a_table_for_each_machine() -> None:
    for machine in ("x86_64", "aarch64"):
        program = filter_program(machine)
        assert program is not None and len(program) % 8 == 0 and len(program) // 8 < 4096
    assert filter_program("riscv64") is None


def test_without_bubblewrap_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def which(name: str, path: str | None = None) -> str | None:
        return "/usr/bin/apt-get" if name == "apt-get" else None

    monkeypatch.setattr(bubblewrap.shutil, "which", which)
    with pytest.raises(ServerUnavailable, match=r"not installed.*apt-get install bubblewrap"):
        bubblewrap.find_setup.__wrapped__()
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name, path=None: None)
    with pytest.raises(ServerUnavailable, match="package bubblewrap"):
        bubblewrap.find_setup.__wrapped__()


def test_where_namespaces_are_refused_it_says_what_to_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\n[ \"$1\" = --help ] && echo '--perms OCTAL' && exit 0\n"
        "echo 'bwrap: No permissions to create new namespace' >&2; exit 1\n"
    )
    refusing.chmod(0o755)
    monkeypatch.setattr(bubblewrap.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda name, path=None: str(refusing))
    with pytest.raises(ServerUnavailable, match="No permissions to create new namespace") as caught:
        bubblewrap.find_setup.__wrapped__()
    assert "namespaces" in caught.value.hint
    refusing.write_text("#!/bin/sh\necho old\n")
    with pytest.raises(ServerUnavailable, match=r"too old.*0\.5"):
        bubblewrap.find_setup.__wrapped__()


def test_another_system_is_told_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.sys, "platform", "darwin")
    with pytest.raises(ServerUnavailable, match="virtual machine"):
        bubblewrap.find_setup.__wrapped__()


def test_a_process_that_is_not_inside_yet_is_not_taken_for_one_that_fills_the_disk() -> None:
    assert not sandbox._disk_full(os.getpid(), Limits(disk_bytes=0))
