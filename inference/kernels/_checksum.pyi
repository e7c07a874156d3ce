"""Types of the compiled module."""

import mmap

import numpy as np
from numpy.typing import NDArray

Data = NDArray[np.uint8] | bytes | bytearray | memoryview | mmap.mmap

def checksum(data: Data) -> int: ...
def checksums(data: Data, chunk: int) -> NDArray[np.uint64]: ...
