"""A GGUF file as a checkpoint: memory-mapped, checked, under Hugging Face's names."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.architectures import GGUF, check_architecture, check_shapes
from ryzanstein.inference.formats.bitnet import LINEAR, from_tensor_types
from ryzanstein.inference.formats.gguf_header import HeaderError, TensorEntry, read_header
from ryzanstein.inference.formats.names import (
    BITNETS,
    UnsupportedModel,
    config_from_metadata,
    tensor_name,
)
from ryzanstein.inference.formats.pages import release_pages
from ryzanstein.inference.formats.raw import TAILS, RawTensor

__all__ = ["GgufCheckpoint"]

_DAMAGED = "Fetch the file again, or check its sha256."


class GgufCheckpoint:
    """Tensors and configuration of one .gguf file.

    Attributes:
        path: The file.
        config: Hugging Face's keys (`names.config_from_metadata`).
        metadata: The file's own keys and values; string arrays are decoded when they are iterated.
    """

    def __init__(self, path: Path) -> None:
        """Maps and checks the file.

        Raises:
            ModelLoadError: it is missing, damaged, or not a model the engine runs.
        """
        self.path = path
        self._buffer = _map(path)
        try:
            header = read_header(self._buffer)
        except HeaderError as error:
            raise ModelLoadError(f"{path.name}: {error}.", hint=_DAMAGED) from error
        self.metadata: Mapping[str, Any] = MappingProxyType(header.metadata)
        architecture = str(self.metadata.get("general.architecture", ""))
        check_architecture(architecture, path.name, GGUF)
        try:
            self._entries = {tensor_name(name): entry for name, entry in header.tensors.items()}
            self.config = config_from_metadata(self.metadata, set(self._entries))
            self._scales = self._take_scales(architecture in BITNETS)
        except UnsupportedModel as error:
            raise ModelLoadError(f"{path.name} cannot be run: {error}.") from error
        self.config["bitnet"] = from_tensor_types(
            architecture in BITNETS,
            {name: entry.dtype for name, entry in self._entries.items()},
            self.config["rms_norm_eps"],
        )
        check_shapes(self.config, {name: e.shape for name, e in self._entries.items()}, path.name)
        self._bytes = np.frombuffer(self._buffer, np.uint8)
        if "model.rope_freqs.weight" in self._entries:
            factors = self.tensor("model.rope_freqs.weight").data.view(np.float32)
            self.config["rope_scaling"]["factors"] = factors.tolist()

    def names(self) -> list[str]:
        """Names of all tensors, in the file's order."""
        return list(self._entries)

    def tensor(self, name: str) -> RawTensor:
        """Returns one tensor as a view of the mapped file.

        Raises:
            ModelLoadError: the file has no such tensor.
        """
        entry = self._entry(name)
        data = self._bytes[entry.start : entry.start + entry.size]
        return RawTensor(name, entry.dtype, entry.shape, data, self._scales.get(name, 1.0))

    def release(self, name: str) -> None:
        """Gives back the memory of a tensor's pages; a later look reads the file again."""
        entry = self._entry(name)
        release_pages(self._buffer, entry.start, entry.size)

    def close(self) -> None:
        """Lets go of the mapping; it disappears with the last view of it."""
        self._bytes = np.empty(0, np.uint8)

    def _take_scales(self, bitnet: bool) -> dict[str, float]:
        """Scales of whole tensors: behind I2_S's codes, and llama.cpp's `blk.N.attn_q.scale`."""
        scales: dict[str, float] = {}
        for name, entry in self._entries.items():
            if entry.dtype in TAILS:
                if not LINEAR.fullmatch(name.removesuffix(".weight")) or name == "lm_head.weight":
                    raise UnsupportedModel(f"{entry.name} has type I2_S and is no linear layer")
                scales[name] = self._float(entry, entry.start + entry.size)
        for name in [name for name in self._entries if name.endswith(".weight_scale")]:
            entry, weight = self._entries.pop(name), name.removesuffix("_scale")
            linear = LINEAR.fullmatch(weight.removesuffix(".weight")) and weight in self._entries
            if not bitnet or not linear or (entry.dtype, entry.shape) != ("F32", (1,)):
                raise UnsupportedModel(
                    f"it holds the tensor {entry.name}, which the engine has no use for"
                )
            scales[weight] = scales.get(weight, 1.0) * self._float(entry, entry.start)
        return scales

    def _float(self, entry: TensorEntry, at: int) -> float:
        """A scale at a byte of the file."""
        (value,) = struct.unpack_from("<f", self._buffer, at)
        if not 1e-30 < value < 1e30:
            raise UnsupportedModel(f"{entry.name} has the scale {value:g}, no scale of weights")
        return float(value)

    def _entry(self, name: str) -> TensorEntry:
        if name not in self._entries:
            raise ModelLoadError(f"{self.path.name} has no tensor {name}.", hint=_DAMAGED)
        return self._entries[name]


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # what mmap says of an empty file
        raise ModelLoadError(f"{path.name} is empty.", hint=_DAMAGED) from error
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}.") from error
