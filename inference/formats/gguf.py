"""A GGUF file as a checkpoint: memory-mapped, checked, under canonical names."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.gguf_header import HeaderError, TensorEntry, read_header
from ryzanstein.inference.formats.layouts import gguf_layout
from ryzanstein.inference.formats.layouts.layout import UnsupportedModel, check_shapes
from ryzanstein.inference.formats.mapped import MappedCheckpoint
from ryzanstein.inference.formats.raw import TAILS, RawTensor

__all__ = ["GgufCheckpoint"]

_DAMAGED = "Fetch the file again, or check its sha256."


class GgufCheckpoint(MappedCheckpoint):
    """Tensors and configuration of one .gguf file.

    Attributes:
        path: The file.
        config: Of the layout, under Hugging Face's keys.
        metadata: The file's own keys and values; string arrays are decoded when they are iterated.
    """

    hint = _DAMAGED

    def __init__(self, path: Path) -> None:
        """Maps and checks the file.

        Raises:
            ModelLoadError: it is missing, damaged, or not a model the engine runs.
        """
        super().__init__(path)
        buffer = _map(path)
        self._buffers.append(buffer)
        try:
            header = read_header(buffer)
        except HeaderError as error:
            raise ModelLoadError(f"{path.name}: {error}.", hint=_DAMAGED) from error
        self.metadata = MappingProxyType(header.metadata)
        layout = gguf_layout(self.metadata.get("general.architecture"), path.name)
        stored = {name: _tensor(entry, buffer) for name, entry in header.tensors.items()}
        try:
            self.config, self._tensors = layout.from_gguf(self.metadata, stored, path.name)
        except UnsupportedModel as error:
            raise ModelLoadError(f"{path.name} cannot be run: {error}.") from error
        check_shapes(layout, self.config, self._tensors, path.name)


def _tensor(entry: TensorEntry, buffer: mmap.mmap) -> RawTensor:
    """A tensor under the file's name; the scale that a type has behind its codes is unchecked."""
    end = entry.start + entry.size
    scale = struct.unpack_from("<f", buffer, end)[0] if entry.dtype in TAILS else 1.0
    data = np.frombuffer(buffer, np.uint8, entry.size, entry.start)
    return RawTensor(entry.name, entry.dtype, entry.shape, data, scale)


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # what mmap says of an empty file
        raise ModelLoadError(f"{path.name} is empty.", hint=_DAMAGED) from error
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}.") from error
