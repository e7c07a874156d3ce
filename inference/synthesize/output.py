"""Where a synthesised checkpoint goes: all of it under its name, or nothing at all.

OUT.partial     while it is written; removed when the writing ends early
OUT             after the last byte
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ryzanstein.errors import StorageError, ValidationError
from ryzanstein.inference.synthesize.hub import HUB_FILES

__all__ = ["require_free", "require_room", "written"]

_MARGIN: Final = 64 << 20  # for the tokenizer, and left free on the disk


def require_free(out: Path, *, folder: bool, force: bool) -> None:
    """Refuses a place that is taken.

    Raises:
        ValidationError: something is there, and it may not or must not be replaced.
    """
    if not (out.exists() or out.is_symlink()):
        return
    if not force:
        raise ValidationError(f"{out} exists already.", hint="Add --force to replace it.")
    if folder and out.is_dir() and not out.is_symlink():
        names = {one.name for one in out.iterdir()} - set(HUB_FILES)
        # Packed weights that the engine keeps beside a checkpoint are no more than a cache of it.
        foreign = sorted(name for name in names if not name.endswith(".rzpack"))
        if not foreign:
            return
        raise ValidationError(
            f"{out} holds {foreign[0]!r:.80}, which is no part of a synthesised model.",
            hint="Name a folder that does not exist.",
        )
    if folder or not out.is_file():
        wanted = "folder" if folder else "file"
        raise ValidationError(f"{out} is no {wanted} that could be replaced.")


def require_room(out: Path, wanted: int) -> None:
    """Refuses what does not fit on the disk.

    Raises:
        StorageError: there is not enough room.
    """
    place = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < wanted + _MARGIN:
        raise StorageError(
            f"{place} has {free / 1e6:,.0f} MB free; {(wanted + _MARGIN) / 1e6:,.0f} are needed.",
            hint="Free some space, or name a place on another disk.",
        )


@contextlib.contextmanager
def written(out: Path, *, folder: bool) -> Iterator[Path]:
    """Gives a path to write to, and moves what is there to `out` at the end.

    Raises:
        StorageError: the disk is full, or may not be written.
    """
    partial = out.with_name(f"{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        if folder:
            partial.mkdir()
        yield partial
        if folder:
            _remove(out)
        partial.replace(out)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        reason = "the disk is full" if full else (error.strerror or str(error))
        raise StorageError(
            f"{out} cannot be written: {reason}.", hint="Name another place."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
