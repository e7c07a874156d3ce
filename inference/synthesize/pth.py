"""Writes a .pth file as `torch.save` does, tensor by tensor and without torch.

A zip file of stored members:

    NAME/data.pkl    a pickle: names to tensors, each naming its member
    NAME/byteorder, NAME/version
    NAME/data/0, …   the numbers; each begins at a multiple of 64, as torch aligns them

The pickle holds what torch's holds and nothing else: a dict of calls of `_rebuild_tensor_v2`.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ryzanstein.inference.synthesize.shape import Shape, Tensor
from ryzanstein.inference.synthesize.weights import stored_bytes, stream

__all__ = ["pth_bytes", "write_pth"]

_ALIGNMENT: Final = 64
_LOCAL_HEADER: Final = 30
_PADDING: Final = b"FB"  # what torch marks its padding with
_STORAGES: Final = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage"}
_NEVER: Final = (1980, 1, 1, 0, 0, 0)


def pth_bytes(shape: Shape) -> int:
    """Returns the bytes of all tensors."""
    return sum(stored_bytes(one, shape.hub_dtype) for one in shape.pth_tensors())


def write_pth(path: Path, shape: Shape, *, seed: int, advance: Callable[[int], None]) -> None:
    """Writes the file.

    Args:
        path: The file.
        shape: What to write.
        seed: Of the weights.
        advance: Told the bytes of each piece that was written.
    """
    tensors, dtype = shape.pth_tensors(), shape.hub_dtype
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        for name, data in (
            ("data.pkl", _pickled(tensors, dtype)),
            ("byteorder", b"little"),
            ("version", b"3\n"),
        ):
            _store(file, f"{shape.name}/{name}", len(data), [memoryview(data)])
        for index, tensor in enumerate(tensors):
            pieces = (_told(piece, advance) for piece in stream(tensor, dtype, seed))
            _store(file, f"{shape.name}/data/{index}", stored_bytes(tensor, dtype), pieces)


def _told(piece: memoryview, advance: Callable[[int], None]) -> memoryview:
    advance(piece.nbytes)
    return piece


def _store(file: zipfile.ZipFile, name: str, size: int, pieces: Iterable[memoryview]) -> None:
    """Writes a member; padding in its header aligns its data."""
    member = zipfile.ZipInfo(name, _NEVER)
    member.file_size = size
    at = (file.fp.tell() if file.fp else 0) + _LOCAL_HEADER + len(name.encode()) + 4
    padding = -at % _ALIGNMENT
    member.extra = _PADDING + struct.pack("<H", padding) + b"Z" * padding
    with file.open(member, "w") as out:
        for piece in pieces:
            out.write(piece)
    member.extra = b""  # of no use in the directory at the end


def _pickled(tensors: Iterable[Tensor], dtype: str) -> bytes:
    """A pickle of protocol 2 that makes a dict of tensors; their data are persistent ids."""
    parts = [b"\x80\x02}("]
    for index, tensor in enumerate(tensors):
        strides = [1]
        for size in tensor.shape[:0:-1]:
            strides.append(strides[-1] * size)
        parts += [
            _text(tensor.name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            _text("storage"),
            f"ctorch\n{_STORAGES[dtype]}\n".encode(),
            _text(str(index)),
            _text("cpu"),
            _whole(tensor.size) + b"tQ" + _whole(0),
            _tuple(tensor.shape) + _tuple(strides[::-1]),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
    return b"".join(parts) + b"u."


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _tuple(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_whole, values)) + b"t"
