"""Packed files: whole or not there, and never a matrix that is not the one that was packed."""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.inference.kernels._checksum import checksum
from ryzanstein.inference.kernels.pack import PackedMatrix, pack
from ryzanstein.inference.packed_file import (
    CHUNK,
    MAGIC,
    PAGE,
    PackedFile,
    PackedWriter,
    Request,
    Unusable,
)

KEY = {"layout": 1, "sources": [["m.gguf", 7, 9]]}
SHAPES = (("a", 65, 320), ("b", 300, 448), ("c", 1, 1))


def packed(name: str, rows: int, cols: int) -> PackedMatrix:
    rng = np.random.default_rng(len(name) + rows)
    if name == "b":
        matrix = PackedMatrix("ternary5", "tensor", rows, cols, tensor_scale=0.1)
        matrix.pack_trits(24, rng.integers(-1, 2, rows * cols).astype(np.int8).view(np.uint8))
        return matrix
    values = rng.standard_normal((rows, cols)).astype(np.float32)
    return pack("F32", values.reshape(-1).view(np.uint8), rows, cols)


def never() -> PackedMatrix:
    raise AssertionError("packed again")


def give(writer: PackedWriter) -> None:
    for shape in SHAPES:
        made = writer.matrix(Request(*shape, "so"), partial(packed, *shape))
        np.testing.assert_array_equal(made.codes, packed(*shape).codes)


def write(path: Path, key: dict[str, Any] = KEY) -> None:
    with PackedWriter(path, key) as writer:
        give(writer)
        assert writer.commit()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "m.rzpack"
    write(path)
    return path.read_bytes()


def assert_right_or_unusable(path: Path) -> bool:
    """Says whether the file was used; then every matrix in it is what was packed."""
    try:
        file = PackedFile(path, KEY, 2)
    except Unusable:
        return False
    for name, rows, cols in SHAPES:
        found = file.matrix(Request(name, rows, cols, "so"), never)
        made = packed(name, rows, cols)
        assert (found.form, found.scale, found.rows, found.cols) == (
            made.form,
            made.scale,
            rows,
            cols,
        )
        assert found.tensor_scale == made.tensor_scale
        np.testing.assert_array_equal(found.codes, made.codes)
    return True


def test_matrices_come_back_as_they_were_packed(tmp_path: Path) -> None:
    write(tmp_path / "m.rzpack")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["m.rzpack"]
    assert assert_right_or_unusable(tmp_path / "m.rzpack")


def test_what_was_not_written_is_not_found(tmp_path: Path) -> None:
    write(tmp_path / "m")
    file = PackedFile(tmp_path / "m", KEY)
    wanted = [
        ("a", 65, 320, "other"),
        ("a", 64, 320, "so"),
        ("a", 65, 321, "so"),
        ("d", 65, 320, "so"),
    ]
    for request in wanted:
        with pytest.raises(Unusable, match="it has no"):
            file.matrix(Request(*request), never)


def test_another_key_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "m")
    for key in ({}, KEY | {"layout": 2}, KEY | {"more": 1}):
        with pytest.raises(Unusable, match="another checkpoint"):
            PackedFile(tmp_path / "m", key)


def test_a_matrix_of_several_chunks_is_verified_to_its_end(tmp_path: Path) -> None:
    rows, cols = 1024, 4500
    request = Request("large", rows, cols, "so")
    with PackedWriter(tmp_path / "m", KEY) as writer:
        values = np.ones((rows, cols), np.float32).reshape(-1).view(np.uint8)
        made = writer.matrix(request, lambda: pack("F32", values, rows, cols))
        assert made.nbytes > CHUNK
        assert writer.commit()
    content = (tmp_path / "m").read_bytes()
    PackedFile(tmp_path / "m", KEY, 3).matrix(request, never)
    for at in (PAGE, PAGE + CHUNK - 1, PAGE + CHUNK, PAGE + made.nbytes - 1):
        (tmp_path / "m").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(Unusable, match="data is damaged"):
            PackedFile(tmp_path / "m", KEY, 3)


def test_a_flipped_bit_anywhere_never_gives_a_wrong_matrix(tmp_path: Path, whole: bytes) -> None:
    rng = np.random.default_rng(1)
    places = [*range(40), *rng.integers(0, len(whole), 400).tolist(), len(whole) - 1]
    used = 0
    for at in places:
        changed = bytearray(whole)
        changed[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "m").write_bytes(changed)
        used += assert_right_or_unusable(tmp_path / "m")
    assert used < len(places) / 2  # those in the padding between matrices


def test_a_file_cut_short_or_grown_is_refused(tmp_path: Path, whole: bytes) -> None:
    place = int.from_bytes(whole[8:16], "little")
    lengths = [0, 1, 7, 8, 9, 31, 32, PAGE - 1, PAGE, PAGE + 1, len(whole) // 2]
    for length in [*lengths, place - 1, place, place + 1, len(whole) - 1]:
        (tmp_path / "m").write_bytes(whole[:length])
        with pytest.raises(Unusable):
            PackedFile(tmp_path / "m", KEY)
    (tmp_path / "m").write_bytes(whole + b"\0")
    with pytest.raises(Unusable, match="cut short"):
        PackedFile(tmp_path / "m", KEY)


@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(9000), MAGIC, MAGIC + b"\xff" * 9000])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(Unusable):
        PackedFile(tmp_path / "m", KEY)


def test_no_file_and_a_folder_in_its_place_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(Unusable):
            PackedFile(path, KEY)


def change(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def alter(index: dict[str, Any]) -> None:
        index["matrices"][0][name] = value

    return alter


@pytest.mark.parametrize(
    "alter",
    [
        change("offset", 1 << 40),
        change("offset", -PAGE),
        change("offset", 0),
        change("offset", PAGE + 8),
        change("size", 1 << 62),
        change("size", 0),
        change("size", -1),
        change("sums", ""),
        change("sums", 5),
        change("name", None),
        change("unknown", 1),
        change("rows", "65"),
        lambda index: index.pop("matrices"),
        lambda index: index.pop("key"),
        lambda index: index.update(matrices=5),
        lambda index: index.update(matrices=[5]),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(
    tmp_path: Path, whole: bytes, alter: Callable[[dict[str, Any]], Any]
) -> None:
    with_index(tmp_path / "m", whole, alter)
    with pytest.raises(Unusable):
        PackedFile(tmp_path / "m", KEY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("form", "int4"),
        ("form", "other"),
        ("scale", "tensor"),
        ("rows", 1 << 31),
        ("rows", 97),
        ("cols", 352),
        ("tensor_scale", float("nan")),
    ],
)
def test_a_matrix_that_does_not_fit_its_bytes_is_refused(
    tmp_path: Path, whole: bytes, name: str, value: Any
) -> None:
    with_index(tmp_path / "m", whole, change(name, value))
    wanted = {"rows": 65, "cols": 320} | {name: value}
    file = PackedFile(tmp_path / "m", KEY)
    with pytest.raises(Unusable, match="a is no matrix"):
        file.matrix(Request("a", wanted["rows"], wanted["cols"], "so"), never)


def with_index(path: Path, whole: bytes, alter: Callable[[dict[str, Any]], Any]) -> None:
    """Writes the file with an altered index and right checksums."""
    place = int.from_bytes(whole[8:16], "little")
    index = json.loads(whole[place:])
    alter(index)
    text = json.dumps(index).encode()
    numbers = np.array([place, len(text), checksum(text)], np.uint64).tobytes()
    path.write_bytes(MAGIC + numbers + whole[32:place] + text)


def test_a_mapped_file_may_be_replaced_or_deleted(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write(path)
    found = PackedFile(path, KEY).matrix(Request("a", 65, 320, "so"), never)
    write(path, {"other": 1})
    path.unlink()
    np.testing.assert_array_equal(found.codes, packed("a", 65, 320).codes)
    assert not found.codes.flags.writeable


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), PackedWriter(tmp_path / "m", KEY) as writer:
        writer.matrix(Request("a", 65, 320, "so"), lambda: packed("a", 65, 320))
        raise KeyboardInterrupt
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_file_without_a_matrix_is_not_kept(tmp_path: Path) -> None:
    with PackedWriter(tmp_path / "m", KEY) as writer:
        assert not writer.commit()
    assert not (tmp_path / "m").exists()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Makes writing beyond so many bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, PAGE, 15 * PAGE + 100])
def test_a_full_disk_disturbs_nothing_and_leaves_nothing(tmp_path: Path, size: int) -> None:
    with file_size_limit(size), PackedWriter(tmp_path / "m", KEY) as writer:
        for _ in range(3):
            give(writer)
        assert not writer.commit()
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


def test_a_folder_that_is_not_there_is_an_error_of_the_writer(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"):
        PackedWriter(tmp_path / "none" / "m", KEY)


def test_two_writers_at_once_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with PackedWriter(path, KEY) as first, PackedWriter(path, KEY) as second:
        for writer in (first, second):
            give(writer)
        assert first.commit()
        assert second.commit()
    assert assert_right_or_unusable(path)
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["m"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    old, new = tmp_path / "m.1-2.partial", tmp_path / "m.3-4.partial"
    for path in (old, new):
        path.write_bytes(b"part")
    hour_ago = time.time() - 4000
    os.utime(old, (hour_ago, hour_ago))
    write(tmp_path / "m")
    assert not old.exists()
    assert new.exists()


def test_a_copy_is_as_good(tmp_path: Path) -> None:
    write(tmp_path / "m")
    shutil.copy(tmp_path / "m", tmp_path / "n")
    assert assert_right_or_unusable(tmp_path / "n")
