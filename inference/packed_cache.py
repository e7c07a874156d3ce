"""Keeps a model's packed weights beside its checkpoint, and takes them from there.

    NAME.gguf        NAME.gguf.rzpack
    directory        directory/model.rzpack
    not writable     cache_dir/packed/NAME-DIGEST.rzpack, the digest being that of the path

A precision, ternary form or head other than the usual ones stands before the suffix. Only ternary
models above KEPT_FROM bytes are kept: theirs is the packing that takes seconds, and the file is
small beside the checkpoint.

A kept file is used where it has the key that is computed now: layout of the packed forms, byte
order, forms, and of the checkpoint names, sizes, times of change and a digest of its
configuration and of the beginning of every tensor. Anything else, and any damage, leads to packing
again; the reason is a line of the debug log.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import numpy as np

from ryzanstein.errors import ConfigError
from ryzanstein.inference.formats.checkpoint import Checkpoint
from ryzanstein.inference.formats.raw import stored_bytes
from ryzanstein.inference.kernels._linear import LAYOUT_VERSION, TERNARY
from ryzanstein.inference.kernels.pack import TRITS, Head, PackedMatrix, Precision, pack
from ryzanstein.inference.models.footprint import packed_bytes
from ryzanstein.inference.packed_file import PackedFile, PackedWriter, Shelf, Unusable
from ryzanstein.machine import release_memory

__all__ = ["Packing", "build_once", "kept_files"]

log = logging.getLogger("ryzanstein.inference")

SUFFIX: Final = ".rzpack"
KEPT_FROM: Final = 32 << 20
_MARGIN: Final = 256 << 20  # left free on the disk beyond the file
_SAMPLE: Final = 4096
_PRECISIONS: Final[tuple[Head, ...]] = ("auto", "float", "scan")
_SOURCES: Final = ("F32", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q6_K")


@dataclass(frozen=True, slots=True)
class Packing:
    """How a model's weights are packed: the dense ones, a BitNet's, and the output matrix."""

    precision: Precision = "auto"
    ternary: str = TERNARY[0]
    head: Head = "auto"

    @property
    def name(self) -> str:
        """What is unusual about it, for the name of a file."""
        usual = Packing()
        name = f".{self.precision}" if self.precision != usual.precision else ""
        name += f".{self.ternary}" if self.ternary != usual.ternary else ""
        return name + (f".head-{self.head}" if self.head != usual.head else "")


class _Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=_Closes)


def build_once(
    build: Callable[[Shelf | None], T], checkpoint: Checkpoint, packing: Packing, threads: int
) -> T:
    """Builds a model from its kept weights, keeping them first where there are none.

    The first time the model is built twice: from the checkpoint, and then, when that one's memory
    is given back, from the file, whose pages several processes share and the system can drop.

    Args:
        build: Makes the model; takes its matrices from the shelf where there is one.
        checkpoint: An open one.
        packing: The forms of the model's weights.
        threads: Of comparing checksums.
    """
    size = packed_bytes(checkpoint, packing.precision, packing.head)
    ternary = checkpoint.config.get("bitnet") is not None and packing.precision != "float"
    if not ternary or size < KEPT_FROM:
        return build(None)
    try:
        key = _key(checkpoint, packing)
    except OSError as error:  # the checkpoint was moved away; it is mapped, and good enough to pack
        log.debug("packed weights are not kept: %s", error)
        return build(None)
    model = _from_file(build, _places(checkpoint.path, packing.name), key, threads)
    if model is not None:
        return model
    writer = _writer(_places(checkpoint.path, packing.name), key, size)
    if writer is None:
        return build(None)
    with writer:
        model = build(writer)
        if not writer.commit():
            log.debug("%s could not be written", writer.path)
            return model
    model.close()
    del model
    release_memory()
    return _from_file(build, [writer.path], key, threads) or build(None)


def kept_files(path: Path) -> list[Path]:
    """Returns the packed weights kept for a checkpoint, or for those in a folder."""
    paths = [path, *path.glob("*.gguf")] if path.is_dir() else [path]
    usual = [place for one in paths for place in _places(one, "")]
    return [
        file
        for place in usual
        for file in sorted(place.parent.glob(f"{escape(place.stem)}.*{SUFFIX[1:]}"))
        if file.is_file()
    ]


def _from_file(
    build: Callable[[Shelf | None], T], places: Iterable[Path], key: dict[str, Any], threads: int
) -> T | None:
    for place in places:
        try:
            model = build(PackedFile(place, key, threads))
        except Unusable as reason:
            log.debug("%s is not used: %s", place, reason)
        else:
            log.debug("packed weights are taken from %s", place)
            return model
    return None


def _writer(places: Iterable[Path], key: dict[str, Any], size: int) -> PackedWriter | None:
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(place.parent).free >= size + _MARGIN:
                return PackedWriter(place, key)
            log.debug("%s is not written: the disk is nearly full", place)
        except OSError as error:
            log.debug("%s is not written: %s", place, error)
    return None


def _places(path: Path, kind: str) -> Iterator[Path]:
    """Where a file may be, the best first."""
    beside = path / "model" if path.is_dir() else path
    yield beside.with_name(f"{beside.name}{kind}{SUFFIX}")
    from ryzanstein.config import load_settings

    try:
        folder = load_settings().cache_dir / "packed"
    except ConfigError:  # whoever needs the settings will say what is wrong with them
        return
    digest = hashlib.blake2b(str(path.absolute()).encode(), digest_size=8).hexdigest()
    yield folder / f"{path.name}-{digest}{kind}{SUFFIX}"


def _key(checkpoint: Checkpoint, packing: Packing) -> dict[str, Any]:
    """Everything that decides the bytes of the packed weights."""
    return {
        "layout": [LAYOUT_VERSION, _layout()],
        "byteorder": sys.byteorder,
        "packing": [packing.precision, packing.ternary, packing.head],
        "sources": _sources(checkpoint.path),
        "samples": _samples(checkpoint),
    }


def _sources(path: Path) -> list[list[Any]]:
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def _samples(checkpoint: Checkpoint) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(checkpoint.config, default=str, sort_keys=True).encode())
    for name in sorted(checkpoint.names()):
        raw = checkpoint.tensor(name)
        digest.update(f"{name} {raw.dtype} {raw.shape} {raw.scale!r}".encode())
        digest.update(raw.data[:_SAMPLE].tobytes())
        checkpoint.release(name)
    return digest.hexdigest()


@cache
def _layout() -> str:
    """Digest of small matrices in every packed form: it changes when the bytes of a form do."""
    rows, cols = 33, 512
    digest = hashlib.blake2b(digest_size=16)
    for dtype in _SOURCES:
        # Below 0x3c, so that every scale among them is a finite half.
        data = (np.arange(rows * stored_bytes(dtype, (cols,))) * 7 % 0x3B).astype(np.uint8)
        for precision in _PRECISIONS:
            digest.update(pack(dtype, data, rows, cols, precision).codes.tobytes())
    trits = (np.arange(rows * cols) * 7 % 13 % 3 - 1).astype(np.int8).view(np.uint8)
    for form in TERNARY:
        matrix = PackedMatrix(form, "tensor", rows, cols)
        matrix.pack_trits(TRITS["I8"], trits)
        digest.update(matrix.codes.tobytes())
    return digest.hexdigest()
