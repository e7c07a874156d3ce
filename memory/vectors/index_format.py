"""The format of an index's files: how they are written, read, and changed in place.

NAME.index         b"RZINDEX1" | bytes and checksum of the header | header, JSON | page border
checksum of the tables | tables | page border
vectors, float32 by slot
NAME-TOKEN.graph   what hnswlib saves

tables       rows    int64 by slot, -1 for free ones
nodes   int32 by slot: where the graph has it; -1 nowhere; -2 - n deleted at n
stale   one byte by slot: the graph has an older vector
sums    uint64 of every MiB of vectors (anew for each block), then of the graph
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ryzanstein.inference.kernels._checksum import checksum, checksums
from ryzanstein.memory.vectors.table import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ryzanstein.memory.vectors.graph import Graph

__all__ = [
    "VERSION",
    "BadIndexFile",
    "Chosen",
    "Header",
    "Tables",
    "chunk_sums",
    "read_blocks",
    "read_header",
    "save_graph",
    "wipe_rows",
    "write_index",
]

VERSION = "1 little-endian"
_MAGIC = b"RZINDEX1"
_START = struct.Struct("<8sQQ")
_PAGE = 65_536
_CHUNK = 1 << 20
# hnswlib 0.8: count, bytes an element, where in an element its label and its vector are.
_GRAPH_HEADER = struct.Struct("<16xQQQQ48x")


class BadIndexFile(Exception):
    """The file is missing, damaged, foreign or of another version: the index is made anew."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The form of the codes that are scanned, and why it was chosen.

    Attributes:
        name: Of the form.
        factor: Candidates to rescore for each result.
        why: A sentence for people.
    """

    name: str
    factor: int
    why: str


@dataclass(frozen=True, slots=True)
class Header:
    """What an index file says of itself.

    Attributes:
        version: Of this format.
        space: Memories or experiences.
        model_id: Model of the vectors.
        dimension: Their length.
        revision: Everything up to this one is inside.
        slots: Vectors, free slots among them.
        graph: Name of the graph's file; empty where there is none.
        graph_bytes: Its size.
        width: How widely it is searched.
        codes: The form in which vectors are scanned; None where none was chosen.
    """

    version: str
    space: str
    model_id: str
    dimension: int
    revision: int
    slots: int
    graph: str
    graph_bytes: int
    width: int
    codes: Chosen | None

    def encoded(self) -> bytes:
        """Returns the first bytes of the file, up to the tables."""
        text = json.dumps(asdict(self)).encode()
        return _padded(_START.pack(_MAGIC, len(text), checksum(text)) + text)


@dataclass(slots=True)
class Tables:
    """What the file knows by slot, and its checksums; see the module's table."""

    rows: NDArray[np.int64]
    nodes: NDArray[np.int32]
    stale: NDArray[np.bool_]
    sums: NDArray[np.uint64]

    def encoded(self) -> bytes:
        """Returns the tables with their checksum, up to the vectors."""
        parts = (self.rows, self.nodes, self.stale, self.sums)
        data = b"".join(part.tobytes() for part in parts)
        return _padded(checksum(data).to_bytes(8, "little") + data)

    def outdated(self) -> NDArray[np.bool_]:
        """Says of each slot whether the graph has another vector than the file, or none."""
        used = self.rows >= 0
        return self.stale | (used & (self.nodes < 0)) | (~used & (self.nodes >= 0))

    def vouch(self, blocks: list[NDArray[np.float32]]) -> bool:
        """Says whether the vectors have these checksums."""
        starts = range(0, len(self.rows), BLOCK)
        used = [block[: len(self.rows) - at] for block, at in zip(blocks, starts, strict=True)]
        sums = [chunk_sums(block) for block in used]
        found = np.concatenate([np.zeros(0, dtype=np.uint64), *sums])
        return np.array_equal(found, self.sums[: len(found)])

    @classmethod
    def read(cls, file: IO[bytes], header: Header) -> Tables:
        """Reads the tables from where the file stands."""
        slots = header.slots
        if os.fstat(file.fileno()).st_size < slots * (13 + 4 * header.dimension):
            raise BadIndexFile("It was cut.")
        sum_ = int.from_bytes(file.read(8), "little")
        vectors = sum(len(_chunks(block)) for block in _block_bytes(slots, header.dimension))
        sums = vectors + len(_chunks(header.graph_bytes))
        data = file.read(13 * slots + 8 * sums)
        if len(data) != 13 * slots + 8 * sums or checksum(data) != sum_:
            raise BadIndexFile("Its tables are damaged.")
        return cls(
            np.frombuffer(data, "<i8", slots).copy(),
            np.frombuffer(data, "<i4", slots, 8 * slots).copy(),
            np.frombuffer(data, np.bool_, slots, 12 * slots).copy(),
            np.frombuffer(data, "<u8", sums, 13 * slots).copy(),
        )


def save_graph(
    graph: Graph | None, path: Path, slots: int
) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
    """Saves the graph; returns where it has each slot, and the checksums of its file."""
    nodes = np.full(slots, -1, dtype=np.int32)
    if graph is None:
        return nodes, np.zeros(0, dtype=np.uint64)
    graph.save(path)
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        if os.fstat(file.fileno()).st_size != graph.file_bytes:
            raise OSError("the graph was not written whole")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    count, element, label, _ = _GRAPH_HEADER.unpack_from(mapped)
    at = _GRAPH_HEADER.size + label
    labels = np.ndarray((count,), "<u8", mapped, at, (element,)).astype(np.int64)
    order = np.arange(count, dtype=np.int32)
    inside = labels < slots
    nodes[labels[inside]] = order[inside]
    deleted = graph.deleted()
    deleted = deleted[deleted < slots]
    nodes[deleted] = -2 - nodes[deleted]
    sums = chunk_sums(mapped)
    mapped.close()
    return nodes, sums


def write_index(
    file: IO[bytes],
    header: Header,
    parts: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]],
    nodes: NDArray[np.int32],
    stale: NDArray[np.bool_],
    graph_sums: NDArray[np.uint64],
) -> None:
    """Writes an index file from the parts' rows and vectors, to the disk."""
    start = header.encoded()
    blocks = _block_bytes(header.slots, header.dimension)
    count = sum(len(_chunks(block)) for block in blocks) + len(graph_sums)
    rows = np.full(header.slots, -1, dtype=np.int64)
    tables = Tables(rows, nodes, stale, np.zeros(count, dtype=np.uint64))
    vectors_at = len(start) + len(tables.encoded())
    file.seek(vectors_at)
    at = 0
    for part, vectors in parts:
        rows[at : at + len(part)] = part
        file.write(np.ascontiguousarray(vectors, dtype="<f4").data)
        at += len(part)
    file.flush()
    sums = []
    file.seek(vectors_at)
    for length in blocks:
        sums += [checksum(file.read(chunk)) for chunk in _chunks(length)]
    tables.sums[:] = [*sums, *graph_sums.tolist()]
    file.seek(0)
    file.write(start + tables.encoded())
    file.flush()
    os.fsync(file.fileno())


def read_header(file: IO[bytes]) -> Header:
    """Reads the header; the file then stands at the tables."""
    try:
        magic, length, sum_ = _START.unpack(file.read(_START.size))
        text = file.read(length) if magic == _MAGIC and length < _PAGE else b""
        if not text or checksum(text) != sum_:
            raise BadIndexFile("It is no index file, or its header is damaged.")
        fields = json.loads(text)
        codes = fields.pop("codes")
        header = Header(**fields, codes=Chosen(**codes) if codes else None)
    except (struct.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadIndexFile("It is of another version.") from error
    file.seek(len(header.encoded()))
    return header


def read_blocks(file: IO[bytes], header: Header) -> list[NDArray[np.float32]]:
    """Maps whole blocks, private and copied on writing; reads the last one, which will grow."""
    at, size = file.tell(), 4 * header.dimension
    at += -at % _PAGE
    if os.fstat(file.fileno()).st_size != at + header.slots * size:
        raise BadIndexFile("It was cut.")
    blocks: list[NDArray[np.float32]] = []
    for start in range(0, header.slots, BLOCK):
        used = min(BLOCK, header.slots - start)
        shape = (BLOCK, header.dimension)
        if used == BLOCK:
            block = np.memmap(file, np.dtype("<f4"), "c", at, shape).view(np.ndarray)
        else:
            block = np.zeros(shape, dtype=np.float32)
            file.seek(at)
            file.readinto(block[:used])  # type: ignore[attr-defined]
        blocks.append(block)
        at += used * size
    return blocks


def _block_bytes(slots: int, dimension: int) -> list[int]:
    return [4 * dimension * min(BLOCK, slots - start) for start in range(0, slots, BLOCK)]


def _chunks(length: int) -> list[int]:
    return [min(_CHUNK, length - start) for start in range(0, length, _CHUNK)]


def chunk_sums(data: NDArray[Any] | mmap.mmap) -> NDArray[np.uint64]:
    """Returns the checksums of every MiB."""
    if isinstance(data, mmap.mmap):
        return checksums(data, _CHUNK)
    return checksums(data.reshape(-1).view(np.uint8), _CHUNK)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _PAGE)


def wipe_rows(file: IO[bytes], folder: Path, rows: NDArray[np.int64]) -> None:
    """Overwrites the vectors of rows in an index file, open at its start, and in its graph."""
    header = read_header(file)
    tables_at = file.tell()
    tables = Tables.read(file, header)
    slots = np.flatnonzero(np.isin(tables.rows, rows))
    if not len(slots):
        return
    vectors_at, size = tables_at + len(tables.encoded()), 4 * header.dimension
    block_sums = len(_chunks(BLOCK * size))
    blocks = _block_bytes(header.slots, header.dimension)
    for slot in slots.tolist():
        number, place = divmod(slot, BLOCK)
        start = vectors_at + number * BLOCK * size
        sums = tables.sums[number * block_sums :]
        _overwrite(file, start, blocks[number], place * size, size, sums)
    nodes = tables.nodes[slots]
    if header.graph:
        sums = tables.sums[len(tables.sums) - len(_chunks(header.graph_bytes)) :]
        with (folder / header.graph).open("r+b") as graph:
            _, element, _, vector = _GRAPH_HEADER.unpack(graph.read(_GRAPH_HEADER.size))
            for node in nodes[nodes >= 0].tolist():
                at = _GRAPH_HEADER.size + node * element + vector
                _overwrite(graph, 0, header.graph_bytes, at, size, sums)
            os.fsync(graph.fileno())
    tables.rows[slots] = -1
    file.seek(tables_at)
    file.write(tables.encoded())
    file.flush()
    os.fsync(file.fileno())


def _overwrite(
    file: IO[bytes], start: int, length: int, at: int, size: int, sums: NDArray[np.uint64]
) -> None:
    """Zeroes `size` bytes at `at` of the part that begins at `start`, and mends its checksums."""
    file.seek(start + at)
    file.write(bytes(size))
    for chunk in range(at // _CHUNK, (at + size - 1) // _CHUNK + 1):
        file.seek(start + chunk * _CHUNK)
        sums[chunk] = checksum(file.read(min(_CHUNK, length - chunk * _CHUNK)))
