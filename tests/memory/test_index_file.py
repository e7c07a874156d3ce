from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import StorageError
from ryzanstein.inference.kernels._checksum import checksum
from ryzanstein.memory.vectors import index_file, index_format, upkeep
from ryzanstein.memory.vectors.index import VectorIndex
from ryzanstein.memory.vectors.index_file import IndexFile, wipe
from ryzanstein.memory.vectors.index_format import BadIndexFile

DIMENSION = 16
COUNT = 400


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


VECTORS = unit(COUNT, 1)
QUERIES = unit(20, 2)


def new_index(folder: Path, model: str = "model") -> VectorIndex:
    file = IndexFile(folder, "memory", model, DIMENSION)
    return VectorIndex(DIMENSION, graph_from=200, pending=40, file=file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the file of an index of 400 vectors, rows 0 to 399, and its graph."""
    folder = tmp_path / "memory.db.index"
    index = new_index(folder)
    index.revision = 7
    index.add(np.arange(COUNT), VECTORS)
    index.wait()
    index.close()
    return folder


def only(folder: Path, suffix: str) -> Path:
    (found,) = folder.glob(f"*{suffix}")
    return found


def assert_right(index: VectorIndex, vectors: np.ndarray = VECTORS) -> None:
    for query in QUERIES:
        best = np.argsort(-(vectors @ query))[:5]
        assert index.search(query, 5)[0].tolist() == best.tolist()


def test_an_index_is_opened_from_its_file_and_so_is_its_graph(folder: Path) -> None:
    index = new_index(folder)
    assert index.open() and index.revision == 7 and len(index) == COUNT
    assert_right(index)
    index.wait()
    assert index.form == "hnsw" and index.stats()["trouble"] == ""
    assert_right(index)
    index.add(np.array([1000]), QUERIES[:1])
    index.remove(np.arange(0, 400, 2))
    assert index.search(QUERIES[0], 1)[0].tolist() == [1000]
    index.close()


def damaged(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("at", [0.0, 0.00002, 0.0006, 0.4, 0.43, 0.99, 1.0])
def test_a_flipped_bit_is_seen_and_the_index_is_built_anew(folder: Path, at: float) -> None:
    path = only(folder, ".index")
    header, tables = 0.0006, 0.43  # the page borders between them hold nothing
    assert path.stat().st_size * header < 300 and path.stat().st_size * tables > 65_536
    damaged(path, at)
    index = new_index(folder)
    opened = index.open()
    if not opened:
        assert str(path) in index.stats()["trouble"]
        index.revision = 7
        index.add(np.arange(COUNT), VECTORS)
    assert_right(index)
    index.wait()
    assert index.form == "hnsw"
    assert_right(index)
    index.close()
    assert new_index(folder).open()


@pytest.mark.parametrize("at", [0.0, 0.001, 0.3, 0.7, 1.0])
def test_a_damaged_graph_is_never_loaded_and_is_built_anew(folder: Path, at: float) -> None:
    before = only(folder, ".graph")
    damaged(before, at)
    index = new_index(folder)
    assert index.open()
    assert_right(index)
    index.wait()
    assert "damaged" in index.stats()["trouble"] or index.stats()["trouble"] == ""
    assert index.form == "hnsw" and only(folder, ".graph") != before
    assert_right(index)
    index.close()


@pytest.mark.parametrize("suffix", [".index", ".graph"])
@pytest.mark.parametrize("length", [0, 1, 30, 66_000, -1])
def test_a_cut_file_is_refused(folder: Path, suffix: str, length: int) -> None:
    path = only(folder, suffix)
    content = path.read_bytes()
    path.write_bytes(content[:length])
    file = IndexFile(folder, "memory", "model", DIMENSION)
    with pytest.raises(BadIndexFile):
        file.load_graph(file.open(), threads=1)


def test_a_file_that_is_missing_or_of_another_model_space_or_version_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = only(folder, ".index")
    for space, model, dimension in (
        ("memory", "other", DIMENSION),
        ("experience", "model", DIMENSION),
        ("memory", "model", 8),
    ):
        file = IndexFile(folder, space, model, dimension)
        with pytest.raises(BadIndexFile, match="not there"):
            file.open()
        shutil.copy(path, file.path)
        with pytest.raises(BadIndexFile, match="another space, model or version"):
            file.open()
    file = IndexFile(folder, "memory", "model", DIMENSION)
    monkeypatch.setattr(index_file, "VERSION", "2")
    with pytest.raises(BadIndexFile, match="version"):
        file.open()
    monkeypatch.undo()
    for header in (b'{"version": "1"}', b"[1]", b"{}", b"no JSON"):
        start = index_format._START.pack(b"RZINDEX1", len(header), checksum(header))
        path.write_bytes(start + header)
        with pytest.raises(BadIndexFile, match="version"):
            file.open()


def test_a_folder_that_cannot_be_made_is_told_and_searches_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    index = new_index(tmp_path / "file" / "folder")
    assert not index.open()
    index.revision = 7
    index.add(np.arange(COUNT), VECTORS)
    index.wait()
    assert index.form == "hnsw" and "cannot be written" in index.stats()["trouble"]
    assert_right(index)
    index.close()


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("late", [False, True])
def test_on_a_full_disk_the_old_file_stays_and_nothing_else_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    names = sorted(path.name for path in folder.iterdir())
    index = new_index(folder)
    assert index.open()
    if late:
        monkeypatch.setattr(index_format.os, "fsync", full)
    else:
        usage = shutil.disk_usage(folder)._replace(free=1000)
        monkeypatch.setattr(index_file.shutil, "disk_usage", lambda path: usage)
    index.add(np.arange(1000, 1300), unit(300, 3))
    index.wait()
    assert "cannot be written" in index.stats()["trouble"]
    assert set(names) >= {path.name for path in folder.iterdir() if path.suffix != ".building"}
    monkeypatch.undo()
    index.close()
    reopened = new_index(folder)
    assert reopened.open() and len(reopened) == COUNT
    reopened.close()


def traces(folder: Path, vector: np.ndarray) -> list[str]:
    """Names files with four numbers of the vector in a row."""
    pieces = [vector[at : at + 4].tobytes() for at in range(0, DIMENSION, 4)]
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    return [name for name, content in contents.items() if any(piece in content for piece in pieces)]


def test_a_forgotten_vector_is_in_no_file_and_not_in_the_graph(folder: Path) -> None:
    gone = np.array([3, 77, 399])
    assert all(len(traces(folder, VECTORS[row])) == 2 for row in gone)
    index = new_index(folder)
    assert index.open()
    index.wait()
    index.remove(gone)
    wipe(folder, "memory", gone)
    assert all(traces(folder, VECTORS[row]) == [] for row in gone)
    index.wait()
    graph = index._live.graph
    assert graph is not None
    graph.save(folder / "memory")
    assert all(traces(folder, VECTORS[row]) == [] for row in gone)
    assert traces(folder, VECTORS[4])
    index.close()

    reopened = new_index(folder)
    assert reopened.open() and len(reopened) == COUNT - 3
    reopened.wait()
    assert reopened.stats()["trouble"] == "" and reopened.form == "hnsw"
    kept = VECTORS.copy()
    kept[gone] = 0
    assert_right(reopened, kept)
    reopened.close()


def test_forgetting_reaches_the_files_of_every_model(folder: Path) -> None:
    other = new_index(folder, model="other")
    other.revision = 7
    other.add(np.arange(COUNT), VECTORS)
    other.wait()
    other.close()
    assert len(traces(folder, VECTORS[9])) == 4
    wipe(folder, "memory", np.array([9]))
    assert traces(folder, VECTORS[9]) == []
    assert IndexFile(folder, "memory", "other", DIMENSION).open().header.slots == COUNT


def test_a_file_in_which_nothing_can_be_overwritten_is_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_format.os, "fsync", full)
    wipe(folder, "memory", np.array([5]))
    assert not list(folder.glob("*.index")) and not list(folder.glob("*.graph"))


def test_a_file_that_cannot_even_be_deleted_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_format.os, "fsync", full)
    monkeypatch.setattr(Path, "unlink", full)
    with pytest.raises(StorageError, match="still in") as caught:
        wipe(folder, "memory", np.array([5]))
    assert str(only(folder, ".index")) in str(caught.value)


def test_what_is_removed_while_the_file_is_written_is_not_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = new_index(tmp_path / "index")
    parts = upkeep.Upkeep._until_stopped

    def removing(self: Any, given: Iterator[Any]) -> Iterator[Any]:
        for part in parts(self, given):
            yield part
            index.remove(np.array([11]))
            index.add(np.array([500]), QUERIES[:1])  # takes the slot

    monkeypatch.setattr(upkeep.Upkeep, "_until_stopped", removing)
    index.revision = 7
    index.add(np.arange(COUNT), VECTORS)
    index.wait()
    assert traces(tmp_path / "index", VECTORS[11]) == []
    assert 11 not in index.search(VECTORS[11], 5)[0]
    index.close()


def test_only_one_of_two_builds_and_the_other_sees_that_there_is_a_file(
    tmp_path: Path,
) -> None:
    def try_again() -> None:
        second._upkeep._retry_at = 1e-9
        second.retry()
        second.wait()

    first, second = (new_index(tmp_path / "index") for _ in range(2))
    assert first.file is not None and first.file.hold()
    second.revision = 7
    second.add(np.arange(COUNT), VECTORS)
    second.wait()
    assert second.form != "hnsw" and not second.replaced()
    assert_right(second)
    first.revision = 7
    first.add(np.arange(COUNT), VECTORS)
    first.wait()
    assert first.form == "hnsw" and second.replaced()
    try_again()
    assert second.form != "hnsw" and second.replaced()
    second.ignore_file()
    try_again()
    assert second.form == "hnsw"
    first.close()
    second.close()


def test_the_file_follows_when_much_has_changed(folder: Path) -> None:
    index = new_index(folder)
    assert index.open()
    index.wait()
    index.revision = 9
    index.add(np.arange(1000, 1200), unit(200, 5))
    index.wait()
    text = only(folder, ".index").read_bytes()[24:4096].rstrip(b"\0").decode()
    header = json.loads(text)
    assert header["slots"] == 600 and header["revision"] == 9
    index.close()


def test_what_another_process_has_saved_is_not_saved_again(folder: Path) -> None:
    first, second = new_index(folder), new_index(folder)
    for index in (first, second):
        assert index.open()
        index.wait()
        index.revision = 9
    for index in (first, second):
        index.add(np.arange(1000, 1200), unit(200, 5))
        index.wait()
        if index is first:
            written = index.file.stamp() if index.file else None
    assert second.file is not None and second.file.stamp() == written
    assert second.stats()["unsaved"] == 0
    first.close()
    second.close()


def test_closing_in_the_middle_leaves_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = new_index(folder)
    assert index.open()
    index.wait()
    write: Callable[..., Any] = IndexFile.write

    def closing(self: IndexFile, *arguments: Any) -> Any:
        index._upkeep._stopping.set()
        return write(self, *arguments)

    monkeypatch.setattr(IndexFile, "write", closing)
    index.add(np.arange(1000, 1200), unit(200, 5))
    index.close()
    assert {path.suffix for path in folder.iterdir()} <= {".index", ".graph", ".lock", ".building"}
    reopened = new_index(folder)
    assert reopened.open() and len(reopened) == COUNT
    reopened.close()
    assert os.listdir(folder)
