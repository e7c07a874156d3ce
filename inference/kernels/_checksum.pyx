"""The checksum of checksum.h, without the GIL: threads can sum different parts together."""

import numpy as np

from libc.stdint cimport uint8_t, uint64_t


cdef extern from "checksum.h" nogil:
    uint64_t rz_checksum(const uint8_t *, size_t)
    void rz_checksums(const uint8_t *, size_t, size_t, uint64_t *)


def checksum(const uint8_t[::1] data not None):
    """Returns the 64-bit checksum of all bytes."""
    cdef uint64_t result
    cdef size_t size = data.shape[0]
    with nogil:
        result = rz_checksum(&data[0] if size else NULL, size)
    return result


def checksums(const uint8_t[::1] data not None, size_t chunk):
    """Returns the checksum of each `chunk` bytes, the last of what is left, as uint64 (ceil(size / chunk),)."""
    if chunk < 1:
        raise ValueError("a chunk has at least one byte")
    cdef size_t size = data.shape[0]
    result = np.empty((size + chunk - 1) // chunk, np.uint64)
    cdef uint64_t[::1] sums = result
    if size:
        with nogil:
            rz_checksums(&data[0], size, chunk, &sums[0])
    return result
