"""A Hugging Face directory as a checkpoint: config.json and memory-mapped .safetensors files.

    u64 length of the header | JSON header | tensor data
    header: {"name": {"dtype": "F32", "shape": [rows, cols], "data_offsets": [begin, end]}, …}

Format: https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import itertools
import json
import mmap
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.layouts import hf_layout
from ryzanstein.inference.formats.layouts.layout import check_shapes
from ryzanstein.inference.formats.mapped import MappedCheckpoint
from ryzanstein.inference.formats.raw import RawTensor, stored_bytes

__all__ = ["SafetensorsCheckpoint"]

DTYPES: Final = ("F32", "F16", "BF16")
# Only what is packed in a linear layer may have these; its layout refuses them elsewhere.
_PACKED: Final = ("U8", "I8")
MAX_HEADER: Final = 100_000_000
_INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"


class SafetensorsCheckpoint(MappedCheckpoint):
    """Tensors and configuration of a directory with config.json and safetensors files.

    Attributes:
        path: The directory.
        config: Of the layout: config.json with defaults filled in.
        metadata: Empty; there to satisfy the protocol.
    """

    def __init__(self, path: Path) -> None:
        """Maps and checks every shard.

        Raises:
            ModelLoadError: a file is missing or damaged, or the model is not one the engine runs.
        """
        super().__init__(path)
        raw = read_json(path / "config.json", path)
        layout = hf_layout(raw.get("model_type"), path.name)
        stored: dict[str, RawTensor] = {}
        for shard, wanted in _shards(path).items():
            buffer = _map(path / shard)
            stored |= _read_shard(buffer, path / shard, wanted)
            self._buffers.append(buffer)
        self.config, self._tensors = layout.from_hf(raw, stored, path.name)
        check_shapes(layout, self.config, self._tensors, path.name)


def read_json(path: Path, root: Path) -> dict[str, Any]:
    """Reads one JSON object of a model directory.

    Raises:
        ModelLoadError: the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{root} has no readable {path.name}: {error.strerror}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelLoadError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{path} holds no JSON object.")
    return value


def _shards(path: Path) -> dict[str, set[str] | None]:
    """The files, each with the tensors the index expects in it; None without an index."""
    if not (path / _INDEX).exists():
        if not (path / _SINGLE).exists():
            raise ModelLoadError(f"{path} has neither {_SINGLE} nor {_INDEX}.")
        return {_SINGLE: None}
    mapping = read_json(path / _INDEX, path).get("weight_map")
    if not isinstance(mapping, dict) or not all(isinstance(name, str) for name in mapping.values()):
        raise ModelLoadError(f"{path / _INDEX} has no usable weight_map.")
    shards: dict[str, set[str] | None] = {}
    for tensor, shard in mapping.items():
        if Path(shard).name != shard:
            raise ModelLoadError(
                f"{path / _INDEX} names the shard {shard!r}, which is no plain file name."
            )
        wanted = shards.setdefault(shard, set())
        if wanted is not None:
            wanted.add(tensor)
    return shards


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # what mmap says of an empty file
        raise ModelLoadError(f"{path} is empty.") from error
    except OSError as error:
        raise ModelLoadError(
            f"The shard {path.name} of {path.parent} cannot be read: {error.strerror}."
        ) from error


def _read_shard(buffer: mmap.mmap, path: Path, wanted: set[str] | None) -> dict[str, RawTensor]:
    header, start = _read_header(buffer, path)
    data = np.frombuffer(buffer, np.uint8)[start:]
    entries = {name: _entry(name, value, data, path) for name, value in header.items()}
    _check_apart(header, path)
    missing = (wanted or set()) - entries.keys()
    if missing:
        raise ModelLoadError(
            f"{path} lacks the tensor {min(missing)} that the index expects there."
        )
    return entries


def _check_apart(header: dict[str, Any], path: Path) -> None:
    """Refuses tensors that share bytes; the entries themselves have been checked."""
    ranges = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    for (_, end, before), (start, _, after) in itertools.pairwise(ranges):
        if start < end:
            raise ModelLoadError(f"{path} is damaged: its tensors {before} and {after} overlap.")


def _read_header(buffer: mmap.mmap, path: Path) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(buffer[:8], "little")
    if len(buffer) < 8 or length > min(len(buffer) - 8, MAX_HEADER):
        raise ModelLoadError(
            f"{path} is truncated or no safetensors file: its header does not fit in it."
        )
    try:
        header = json.loads(buffer[8 : 8 + length])
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelLoadError(
            f"{path} is damaged or no safetensors file: its header is not JSON."
        ) from error
    if not isinstance(header, dict):
        raise ModelLoadError(f"{path} is damaged: its header is no JSON object.")
    header.pop("__metadata__", None)
    return header, 8 + length


def _entry(name: str, value: Any, data: npt.NDArray[np.uint8], path: Path) -> RawTensor:
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        whole = len(shape) <= 4 and name.isprintable()
        whole &= all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise ModelLoadError(f"{path}: the header's entry for {name!r:.80} makes no sense.")
    if dtype not in DTYPES and dtype not in _PACKED:
        raise ModelLoadError(
            f"{path}: {name} has type {dtype!r:.40}, which is not supported ({', '.join(DTYPES)})."
        )
    if stored_bytes("I8" if dtype in _PACKED else dtype, shape) != end - begin:
        raise ModelLoadError(
            f"{path}: {name} takes {end - begin} bytes, which does not fit its shape {shape}."
        )
    if end > len(data):
        raise ModelLoadError(f"{path} is truncated: {name} lies past its end.")
    return RawTensor(name, dtype, shape, data[begin:end])
