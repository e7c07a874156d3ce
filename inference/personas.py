"""States on disk: what a model remembers after a system prompt, so that nobody runs it twice.

    data_dir/states/MODEL-DIGEST/IDS.rzstate     IDS is a digest of the tokens the state holds

A model's folder is named after its weights, their form and the engine's version, so a state is
never offered to another model. Several processes may share it: a file appears whole or not at all
(`state_file.py`), the least recently used ones go when all together pass the bound, and a file that
is damaged is removed and computed anew by whoever finds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ryzanstein.errors import InferenceError
from ryzanstein.inference.state import State, StateShape
from ryzanstein.inference.state_file import read_header

__all__ = ["SavedState", "StateStore", "state_id"]

log = logging.getLogger("ryzanstein.inference")

SUFFIX: Final = ".rzstate"
_ABANDONED_SECONDS: Final = 600


@dataclass(frozen=True, slots=True)
class SavedState:
    """One state on disk.

    Attributes:
        id: Digest of its tokens; the same for the same tokens of any model.
        model: Name of the model's file.
        label: What it was saved as.
        tokens: How many it holds.
        bytes: Of its file.
        used: When it was last saved or loaded, in seconds since the epoch.
        path: Its file.
    """

    id: str
    model: str
    label: str
    tokens: int
    bytes: int
    used: float
    path: Path


def state_id(ids: Sequence[int]) -> str:
    """Names a state by the tokens it holds."""
    return hashlib.blake2b(np.asarray(ids, np.int32).tobytes(), digest_size=8).hexdigest()


class StateStore:
    """The states on disk, of all models.

    Attributes:
        folder: Where they lie; made when the first is saved.
        max_bytes: Bound on the sum of their files.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def has(self, shape: StateShape, ids: Sequence[int]) -> bool:
        """Says whether there is a file for these tokens of this model; it may be damaged."""
        return self._path(shape, ids).exists()

    def find(self, shape: StateShape, ids: Sequence[int]) -> SavedState | None:
        """Returns what is known of the file for these tokens, or None."""
        return _described(self._path(shape, ids))

    def touch(self, saved: SavedState) -> None:
        """Marks a state as used just now."""
        with contextlib.suppress(OSError):
            os.utime(saved.path)

    def load(self, shape: StateShape, ids: Sequence[int], capacity: int) -> State | None:
        """Returns the state after these tokens, or None; a file that is damaged is removed."""
        path = self._path(shape, ids)
        try:
            state, held = State.load_with_ids(path, shape, capacity)
        except InferenceError as error:
            if path.exists() and len(ids) <= capacity:
                log.warning("%s It is computed again.", error)
                path.unlink(missing_ok=True)
            return None
        if not np.array_equal(held, np.asarray(ids, np.int32)):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return state

    def save(self, state: State, ids: Sequence[int], label: str = "") -> SavedState | None:
        """Keeps a state, and drops old ones beyond the bound.

        Returns:
            What was saved, or None where the disk is full, not writable, or the bound is smaller.
        """
        path = self._path(state.shape, ids)
        if state.nbytes > self.max_bytes:
            log.warning("A state of %s bytes is larger than the bound.", f"{state.nbytes:,}")
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            state.save(path, ids, label)
            size = path.stat().st_size
        except (InferenceError, OSError) as error:
            log.warning("A state is not kept: %s", error)
            return None
        self._shrink(path)
        name = state.shape.name
        return SavedState(state_id(ids), name, label, state.length, size, time.time(), path)

    def entries(self) -> list[SavedState]:
        """Returns every state that can be read, the least recently used first."""
        found = [one for one in map(_described, self._files()) if one is not None]
        return sorted(found, key=lambda one: one.used)

    def remove(self, saved: SavedState) -> bool:
        """Deletes one; says whether it was still there."""
        try:
            saved.path.unlink()
        except OSError:
            return False
        return True

    def _path(self, shape: StateShape, ids: Sequence[int]) -> Path:
        whose = f"{shape.fingerprint} {shape.form} {shape.engine}"
        digest = hashlib.blake2b(whose.encode(), digest_size=6).hexdigest()
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", shape.name)[:60].strip("._") or "model"
        return self.folder / f"{name}-{digest}" / f"{state_id(ids)}{SUFFIX}"

    def _files(self) -> Iterator[Path]:
        yield from self.folder.glob(f"*/*{SUFFIX}")

    def _shrink(self, newest: Path) -> None:
        """Deletes the least recently used files beyond the bound, and what killed writers left."""
        sizes: list[tuple[float, int, Path]] = []
        for path in self._files():
            with contextlib.suppress(OSError):  # another process was quicker
                status = path.stat()
                sizes.append((status.st_mtime, status.st_size, path))
        total = sum(size for _, size, _ in sizes)
        for _, size, path in sorted(sizes):
            if total <= self.max_bytes:
                break
            if path != newest:
                path.unlink(missing_ok=True)
                total -= size
        for partial in newest.parent.glob(f".*{SUFFIX}.*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                    partial.unlink()


def _described(path: Path) -> SavedState | None:
    try:
        header, status = read_header(path), path.stat()
    except (InferenceError, OSError):
        return None
    return SavedState(
        id=path.stem,
        model=header.name,
        label=header.label,
        tokens=header.tokens,
        bytes=status.st_size,
        used=status.st_mtime,
        path=path,
    )
