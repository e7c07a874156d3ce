"""Types of the compiled module."""

import mmap

def end_of_strings(
    data: mmap.mmap | bytes | bytearray | memoryview, start: int, count: int
) -> int: ...
