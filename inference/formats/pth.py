"""A .pth file of torch.save as a checkpoint, memory-mapped; no code of the file is run.

`torch_zip.py` finds the members, `torch_pickle.py` reads what the tensors are called and where they
lie; here both are held against each other. A tensor must fill whole rows in order, lie in its
storage, and share no byte with another. A .pth has no configuration: BlinkDL's RWKV files, which
need none, are the only ones that are opened.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Final

import numpy as np

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.layouts import hf_layout
from ryzanstein.inference.formats.layouts.layout import UnsupportedModel, check_shapes
from ryzanstein.inference.formats.layouts.rwkv import pth_version
from ryzanstein.inference.formats.mapped import MappedCheckpoint
from ryzanstein.inference.formats.raw import BLOCKS, RawTensor
from ryzanstein.inference.formats.torch_pickle import PickleError, Storage, Tensor, read_state_dict
from ryzanstein.inference.formats.torch_zip import Member, ZipError, read_members

__all__ = ["PthCheckpoint", "PthError", "read_tensors"]

DTYPES: Final = ("F32", "F16", "BF16")
_MAX_PICKLE: Final = 32 << 20


class PthError(ValueError):
    """What is wrong with a .pth file, in one line without its path."""


class PthCheckpoint(MappedCheckpoint):
    """Tensors and configuration of one .pth file.

    Attributes:
        path: The file.
        config: Of the layout, told by the names and shapes of the tensors.
        metadata: Empty; there to satisfy the protocol.
    """

    hint = "Fetch the file again, or check its sha256."

    def __init__(self, path: Path) -> None:
        """Maps and checks the file.

        Raises:
            ModelLoadError: it is missing, damaged, no RWKV, or would run code.
        """
        super().__init__(path)
        buffer = _map(path)
        self._buffers.append(buffer)
        try:
            stored = read_tensors(buffer)
            layout = hf_layout(pth_version(stored), path.name)
        except (PthError, UnsupportedModel) as error:
            raise ModelLoadError(f"{path.name} cannot be read: {error}.", hint=self.hint) from error
        self.config, self._tensors = layout.from_hf({}, stored, path.name)
        check_shapes(layout, self.config, self._tensors, path.name)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # what mmap says of an empty file
        raise ModelLoadError(f"{path.name} is empty.", hint=PthCheckpoint.hint) from error
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}.") from error


def read_tensors(buffer: mmap.mmap) -> dict[str, RawTensor]:
    """Returns the tensors under the file's own names and shapes, in the file's order.

    Raises:
        PthError: it is damaged, of another kind, or would run code where PyTorch reads it.
    """
    try:
        members = read_members(buffer)
        pickle = members["data.pkl"]
        if pickle.size > _MAX_PICKLE:
            raise PthError(f"its pickle is {pickle.size} bytes long, longer than any model's")
        _check_order(buffer, members)
        tensors = read_state_dict(buffer[pickle.start : pickle.start + pickle.size])
    except (ZipError, PickleError) as error:
        raise PthError(str(error)) from error
    data = np.frombuffer(buffer, np.uint8)
    placed: dict[str, RawTensor] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, tensor in tensors.items():
        start, end = _range(name, tensor, members)
        ranges.append((start, end, name))
        placed[name] = RawTensor(name, tensor.storage.dtype, tensor.shape, data[start:end])
    _check_apart(ranges)
    return placed


def _check_order(buffer: mmap.mmap, members: dict[str, Member]) -> None:
    """Files older than the member `byteorder` come from little-endian machines too."""
    member = members.get("byteorder")
    if member is not None and buffer[member.start : member.start + member.size] != b"little":
        raise PthError("its numbers are not little-endian")


def _range(name: str, tensor: Tensor, members: dict[str, Member]) -> tuple[int, int]:
    """First byte of a tensor in the file, and the one after its last."""
    storage = tensor.storage
    member = _storage(name, storage, members)
    if not _is_contiguous(tensor):
        raise PthError(
            f"{name} has the strides {tensor.strides} for its shape {tensor.shape}, so it is not "
            "contiguous; save it after .contiguous()"
        )
    count = math.prod(tensor.shape)
    if tensor.offset + count > storage.count:
        raise PthError(f"{name} lies outside its storage of {storage.count} elements")
    size = BLOCKS[storage.dtype][1]
    start = member.start + tensor.offset * size
    return start, start + count * size


def _storage(name: str, storage: Storage, members: dict[str, Member]) -> Member:
    if storage.dtype not in DTYPES:
        raise PthError(f"{name} has type {storage.dtype}, which is not supported (F32, F16, BF16)")
    member = members.get(f"data/{storage.key}")
    if member is None:
        raise PthError(f"{name} lies in the member data/{storage.key[:40]}, which is not there")
    if member.size != storage.count * BLOCKS[storage.dtype][1]:
        raise PthError(
            f"{name} lies in a storage of {storage.count} {storage.dtype}, which does not fit its "
            f"{member.size} bytes"
        )
    return member


def _is_contiguous(tensor: Tensor) -> bool:
    """Whether elements follow each other in order; the stride of a single one does not matter."""
    step = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


def _check_apart(ranges: list[tuple[int, int, str]]) -> None:
    taken, holder = 0, ""
    for start, end, name in sorted(ranges):
        if start < taken and start != end:
            raise PthError(f"{name} overlaps {holder}")
        taken, holder = max(taken, end), name
