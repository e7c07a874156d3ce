"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing", "sync_folder"]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes the place of `path` once all of it is on the disk.

    Where the block fails, or the process dies, what was at `path` stays as it was.

    Raises:
        OSError: It cannot be written.
    """
    options = {"dir": path.parent, "prefix": f".{path.name}.", "suffix": ".partial"}
    with tempfile.NamedTemporaryFile(delete=False, **options) as file:  # type: ignore[call-overload]
        partial = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):  # on a disk that failed this fails too
                partial.unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # a system that cannot sync folders keeps names otherwise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk.

    Raises:
        OSError: They are not, or this system cannot do that.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
