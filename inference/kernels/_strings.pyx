"""Walks over a table of strings as GGUF stores it: u64 length, little-endian, then the bytes; and the next."""

from libc.stdint cimport uint8_t, uint64_t


def end_of_strings(const uint8_t[::1] data not None, size_t start, size_t count):
    """Returns where `count` strings that begin at `start` end, or -1 where they go beyond the data."""
    cdef size_t at = start, size = data.shape[0], i
    cdef uint64_t length
    cdef int byte
    if at > size:
        return -1
    for i in range(count):
        if size - at < 8:
            return -1
        length = 0
        for byte in range(8):
            length |= <uint64_t>data[at + byte] << (8 * byte)
        at += 8
        if length > size - at:
            return -1
        at += length
    return at
