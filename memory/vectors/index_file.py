"""The files of an index beside its database: found whole and right, or not used at all.

Written under another name, synchronised to the disk, renamed. A header names the space, the model
and the revision up to which it knows the database. Vectors are mapped: shared with other processes
and copied where they change. Forgetting overwrites a vector in both files, in place, with the
checksums around it: killed in the middle it leaves files that are refused and made anew.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import secrets
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from ryzanstein.durable import sync_folder
from ryzanstein.errors import StorageError
from ryzanstein.memory.vectors.graph import Graph
from ryzanstein.memory.vectors.index_format import (
    VERSION,
    BadIndexFile,
    Chosen,
    Header,
    Tables,
    chunk_sums,
    read_blocks,
    read_header,
    save_graph,
    wipe_rows,
    write_index,
)

if TYPE_CHECKING:
    from filelock import FileLock
    from numpy.typing import NDArray

__all__ = ["IndexFile", "Stored", "wipe"]

# Room that an index leaves for the database on the same disk.
_SPARE_BYTES = 256 << 20
_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A verified index file.

    Attributes:
        header: What it says of itself.
        tables: What it knows by slot.
        blocks: Vectors [65,536, dimension]; changes stay in memory.
    """

    header: Header
    tables: Tables
    blocks: list[NDArray[np.float32]]


class IndexFile:
    """The index file of one space and one embedding model.

    Args:
        folder: Where it is or will be; made when something is written.
        space: Memories or experiences.
        model_id: Model of the vectors.
        dimension: Their length.
    """

    def __init__(self, folder: Path, space: str, model_id: str, dimension: int) -> None:
        digest = hashlib.sha256(f"{model_id}\0{dimension}".encode()).hexdigest()[:12]
        self.path = folder / f"{space}-{digest}.index"
        self._space, self._model_id, self._dimension = space, model_id, dimension
        self._building: FileLock | None = None

    @property
    def size(self) -> int:
        """Bytes of everything on the disk."""
        with suppress(OSError):
            return sum(path.stat().st_size for path in self._files())
        return 0

    def stamp(self) -> tuple[int, int] | None:
        """Tells one file that was written from the next; None where there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size

    def revision(self) -> int:
        """Returns the revision that the file says it has; -1 where it says nothing."""
        try:
            with self.path.open("rb") as file:
                return read_header(file).revision
        except (OSError, BadIndexFile):
            return -1

    def open(self) -> Stored:
        """Verifies and maps the vectors.

        Raises:
            BadIndexFile: The file is missing, damaged, or of another space, model or version.
        """
        if not self.path.exists():
            raise BadIndexFile(f"{self.path} is not there.")
        with _translated(self.path), _locked(self.path), self.path.open("rb") as file:
            header, tables = self._read(file)
            blocks = read_blocks(file, header)
            if not tables.vouch(blocks):
                raise BadIndexFile("Its vectors are damaged.")
        return Stored(header, tables, blocks)

    def load_graph(self, stored: Stored, threads: int) -> Graph:
        """Verifies and loads the graph that belongs to what `open` has given.

        Raises:
            BadIndexFile: There is none, it is damaged, or the file was replaced meanwhile.
        """
        path = self.path.parent / stored.header.graph
        with _translated(path), _locked(self.path), self.path.open("rb") as file:
            header, tables = self._read(file)
            if header != stored.header or not header.graph:
                raise BadIndexFile("There is no graph with it.")
            with path.open("rb") as graph:
                size = os.fstat(graph.fileno()).st_size
                mapped = mmap.mmap(graph.fileno(), 0, access=mmap.ACCESS_READ)
            sums = chunk_sums(mapped)
            mapped.close()
            if size != header.graph_bytes or not np.array_equal(sums, tables.sums[-len(sums) :]):
                raise BadIndexFile("The graph is damaged.")
            deleted = np.flatnonzero(tables.nodes < -1)
            return Graph.load(path, header.dimension, deleted, header.width, threads)

    def hold(self) -> bool:
        """Claims the building of the index for this process; False where another has it."""
        import filelock

        if self._building is None:
            lock = filelock.FileLock(self.path.with_suffix(".building"), thread_local=False)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
            except filelock.Timeout:
                return False
            except (OSError, NotImplementedError):
                return True  # nobody can write there, so everybody builds for himself
            self._building = lock
        return True

    def release(self) -> None:
        """Lets other processes build."""
        if self._building is not None:
            self._building.release()
            self._building = None

    def write(
        self,
        revision: int,
        slots: int,
        parts: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]],
        graph: Graph | None,
        stale: NDArray[np.bool_],
        codes: Chosen | None = None,
    ) -> Stored:
        """Writes both files anew and maps the vectors.

        Args:
            revision: Everything up to this one is inside.
            slots: Vectors, free slots among them.
            parts: Their rows and vectors, in order.
            graph: The graph over the slots.
            stale: Slots of which the graph has an older vector.
            codes: The form in which vectors are scanned.

        Raises:
            StorageError: The folder cannot be written or the disk is too full; the old files stay.
        """
        token = secrets.token_hex(4)
        temporary = self.path.with_name(f"{self.path.stem}-{token}.tmp")
        graph_path = self.path.with_name(f"{self.path.stem}-{token}.graph")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._sweep()
            self._check_room(slots, graph)
            nodes, graph_sums = save_graph(graph, graph_path, slots)
            header = Header(
                VERSION,
                self._space,
                self._model_id,
                self._dimension,
                revision,
                slots,
                graph_path.name if graph else "",
                graph_path.stat().st_size if graph else 0,
                graph.width if graph else 0,
                codes,
            )
            with temporary.open("w+b") as file:
                write_index(file, header, parts, nodes, stale, graph_sums)
            with _locked(self.path):
                temporary.replace(self.path)
                sync_folder(self.path.parent)
            self._sweep(graph_path.name)
            return self.open()
        except (OSError, BadIndexFile) as error:
            for path in (temporary, graph_path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            raise StorageError(
                f"The index file {self.path} cannot be written: {error}.",
                hint="Searches work without it; free some room or make its folder writable.",
            ) from error

    def wipe(self, rows: NDArray[np.int64]) -> None:
        """Overwrites the vectors of rows in every index file of the space; see `wipe`."""
        wipe(self.path.parent, self._space, rows)

    def discard(self) -> None:
        """Deletes the files."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        found = self.path.parent.glob(f"{self.path.stem}*")
        return [path for path in found if path.suffix in (".index", ".graph", ".tmp")]

    def _sweep(self, kept: str = "") -> None:
        """Deletes what killed processes left, and older graphs."""
        with suppress(OSError, BadIndexFile), self.path.open("rb") as file:
            kept = kept or read_header(file).graph
        for path in self._files():
            if path.name not in (kept, self.path.name):
                path.unlink(missing_ok=True)

    def _check_room(self, slots: int, graph: Graph | None) -> None:
        need = slots * (4 * self._dimension + 16) + (graph.file_bytes if graph else 0)
        free = shutil.disk_usage(self.path.parent).free
        if free < need + _SPARE_BYTES:
            raise OSError(f"{need >> 20} MiB are needed and {free >> 20} MiB are free")

    def _read(self, file: IO[bytes]) -> tuple[Header, Tables]:
        header = read_header(file)
        expected = (VERSION, self._space, self._model_id, self._dimension)
        if (header.version, header.space, header.model_id, header.dimension) != expected:
            raise BadIndexFile("It is of another space, model or version.")
        return header, Tables.read(file, header)


def wipe(folder: Path, space: str, rows: NDArray[np.int64]) -> None:
    """Overwrites the vectors of rows in every index file of a space, whatever its model.

    A file in which that cannot be done is deleted.

    Raises:
        StorageError: Nor can it be deleted.
    """
    for path in folder.glob(f"{space}-*.index"):
        try:
            try:
                with _translated(path), _locked(path), path.open("r+b") as file:
                    wipe_rows(file, path.parent, rows)
            except BadIndexFile:
                for other in folder.glob(f"{path.stem}*"):
                    if other.suffix in (".index", ".graph"):
                        other.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"A forgotten vector is still in {path}: {error}.", hint="Delete that file."
            ) from error


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except BadIndexFile as error:
        raise BadIndexFile(f"{path}: {error}") from error
    except (OSError, ValueError, TypeError, MemoryError, struct.error, RuntimeError) as error:
        raise BadIndexFile(f"{path}: {error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps others from changing a file in place meanwhile; a folder nobody can write needs none.

    Raises:
        BadIndexFile: Another process kept it too long.
    """
    import filelock

    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=_WAIT_SECONDS)
    except filelock.Timeout as error:
        raise BadIndexFile("Another process keeps it locked.") from error
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()
