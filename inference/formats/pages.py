"""Memory of mapped files, given back once a tensor has been packed so that the peak is low."""

from __future__ import annotations

import mmap

__all__ = ["release_pages"]


def release_pages(buffer: mmap.mmap, start: int, size: int) -> None:
    """Gives back the whole pages of a range of a read-only mapping; a later look reads them again.

    Does nothing where the system has no such call.
    """
    advise = getattr(mmap, "MADV_DONTNEED", None)
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (start + size - first) // mmap.PAGESIZE * mmap.PAGESIZE
    if advise is not None and length > 0:
        buffer.madvise(advise, first, length)
