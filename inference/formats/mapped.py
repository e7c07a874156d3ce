"""What checkpoints of every container have in common: tensors that are views of mapped files."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.adapt import Adapted, Tensor, read
from ryzanstein.inference.formats.pages import release_pages
from ryzanstein.inference.formats.raw import RawTensor

__all__ = ["MappedCheckpoint"]


class MappedCheckpoint:
    """Canonical tensors over mapped files; a container's class opens them and fills these in.

    Attributes:
        path: The file or directory.
        config: Of the layout.
        metadata: The file's own keys; empty where it has none.
    """

    hint = ""
    """What to do about a tensor that is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = {}
        self.metadata: Mapping[str, Any] = MappingProxyType({})
        self._buffers: list[mmap.mmap] = []
        self._tensors: Mapping[str, Tensor] = {}

    def names(self) -> list[str]:
        """Names of all tensors, in the files' order."""
        return list(self._tensors)

    def tensor(self, name: str) -> RawTensor:
        """Returns one tensor: a view of its mapped file, or values computed of such.

        Raises:
            ModelLoadError: there is no such tensor.
        """
        return read(self._stored(name), name)

    def type_and_shape(self, name: str) -> tuple[str, tuple[int, ...]]:
        """What `tensor` would give, without a look at its values.

        Raises:
            ModelLoadError: there is no such tensor.
        """
        tensor = self._stored(name)
        return tensor.dtype, tensor.shape

    def release(self, name: str) -> None:
        """Gives back the memory of a tensor's pages; a later look reads the file again."""
        tensor = self._stored(name)
        data = (tensor.source if isinstance(tensor, Adapted) else tensor).data
        for buffer in self._buffers:
            start = data.ctypes.data - np.frombuffer(buffer, np.uint8).ctypes.data
            if 0 <= start < len(buffer):
                release_pages(buffer, start, data.size)

    def close(self) -> None:
        """Lets go of the mappings; they disappear with the last view of them."""
        self._tensors = {}
        self._buffers = []

    def _stored(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise ModelLoadError(f"{self.path.name} has no tensor {name}.", hint=self.hint)
        return self._tensors[name]
