"""Packed weights beside a checkpoint: used while they are right, made again when they are not."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference import packed_cache
from ryzanstein.inference.load import load_model
from ryzanstein.inference.model import Model
from ryzanstein.inference.models import weights
from ryzanstein.inference.packed_cache import kept_files
from ryzanstein.inference.packed_file import PackedWriter
from tests.inference import tiny, tiny_bitnet

SHAPE = tiny.Shape("bitnet", hidden=256, inner=512)
TOKENS = [3, 141, 59, 26]


@pytest.fixture(autouse=True)
def small_models_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_cache, "KEPT_FROM", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tiny_bitnet.write_gguf(tmp_path / "model" / "m.gguf", SHAPE, "TQ2_0")


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Types of the matrices that have been packed."""
    made: list[str] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(dtype: str, *arguments: Any) -> Any:
            made.append(dtype)
            return function(dtype, *arguments)

        return call

    for name in ("pack", "pack_ternary", "pack_absmean"):
        monkeypatch.setattr(weights, name, watched(getattr(weights, name)))
    return made


def logits(model: Model) -> Any:
    return model.forward(TOKENS, model.new_state(), all_logits=True)


def load(path: Path, **options: Any) -> tuple[Any, str, int, int]:
    """Logits, fingerprint and sizes of a model that is loaded, and closed."""
    with load_model(path, threads=2, **options) as model:
        return (
            logits(model).tolist(),
            model.fingerprint,
            model.nbytes,
            model.weight_bytes_per_token,
        )


@pytest.mark.parametrize("stored", ["TQ2_0", "I2_S", "packed", "bitlinear", "master", "1bitllm"])
def test_a_kept_model_is_the_same_model(tmp_path: Path, stored: str, packings: list[str]) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    if stored in ("TQ2_0", "I2_S"):
        architecture = "bitnet" if stored == "TQ2_0" else "bitnet-b1.58"
        path = tiny_bitnet.write_gguf(folder / "m.gguf", SHAPE, stored, architecture)
        kept = folder / "m.gguf.rzpack"
    else:
        path = tiny_bitnet.write_hub(folder, SHAPE, stored)
        kept = folder / "model.rzpack"
    want = load(path, keep_packed=False)
    assert not kept.exists()
    assert load(path) == want
    assert kept_files(path) == [kept]
    written, times = kept.stat().st_mtime_ns, len(packings)
    assert load(path) == want
    assert kept.stat().st_mtime_ns == written
    assert len(packings) == times


def test_each_precision_and_form_has_a_file_of_its_own(path: Path, packings: list[str]) -> None:
    options: list[dict[str, Any]] = [{}, {"precision": "int4"}, {"ternary": "ternary5"}]
    want = [load(path, **one) for one in options]
    assert [file.name for file in kept_files(path)] == [
        "m.gguf.int4.rzpack",
        "m.gguf.rzpack",
        "m.gguf.ternary5.rzpack",
    ]
    packings.clear()
    assert [load(path, **one) for one in options] == want
    assert not packings
    assert want[0][0] == want[2][0] != want[1][0]


def test_what_packs_in_a_moment_is_not_kept(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = tiny.write_gguf(tmp_path / "dense.gguf", tiny.Shape(), "Q8_0")
    load(dense)
    load(path, precision="float")
    monkeypatch.setattr(packed_cache, "KEPT_FROM", 32 << 20)
    load(path)
    assert not list(tmp_path.rglob("*.rzpack"))


def test_it_says_in_the_log_why_a_file_is_not_used(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(path)
    kept_files(path)[0].write_bytes(b"GGUF")
    with caplog.at_level(logging.DEBUG, "ryzanstein.inference"):
        load(path)
    assert "is not used: it is no packed file" in caplog.text
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "another format": lambda content: b"GGUF" + content[4:],
    "another version": lambda content: content.replace(b"RZPACK01", b"RZPACK00"),
    "cut in the first page": lambda content: content[:100],
    "cut in the data": lambda content: content[: len(content) // 2],
    "cut in the index": lambda content: content[:-1],
    "grown": lambda content: content + b"\0",
    "a bit of the data": lambda content: (
        content[:5000] + bytes([content[5000] ^ 4]) + content[5001:]
    ),
    "a bit of the index": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "data of zeros": lambda content: content[:4096] + bytes(99999) + content[4096 + 99999 :],
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_made_again(path: Path, packings: list[str], name: str) -> None:
    want = load(path)
    kept = kept_files(path)[0]
    whole = kept.read_bytes()
    kept.write_bytes(DAMAGE[name](whole))
    assert load(path) == want
    assert kept.read_bytes() == whole
    packings.clear()
    assert load(path) == want
    assert not packings


@pytest.mark.parametrize("constant", ["LAYOUT_VERSION", "_layout"])
def test_another_layout_of_the_packed_forms_is_made_again(
    path: Path, packings: list[str], monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    want = load(path)
    monkeypatch.setattr(packed_cache, constant, 99 if constant.isupper() else lambda: "other")
    packings.clear()
    assert load(path) == want
    assert packings


def test_another_byte_order_is_made_again(
    path: Path, packings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    want = load(path)
    packings.clear()
    monkeypatch.setattr(sys, "byteorder", "big")
    assert load(path) == want
    assert packings


def test_a_file_that_lacks_a_matrix_is_made_again(path: Path, packings: list[str]) -> None:
    want = load(path)
    kept = kept_files(path)[0]
    index = kept.read_bytes()
    assert index.count(b'"how": "TQ2_0 ternary2') == 14
    renamed = packed_cache.PackedFile.matrix

    def lacking(self: Any, request: Any, make: Any) -> Any:
        if "layers.1.mlp.down" in request.name:
            request = dataclasses.replace(request, how="of another kind")
        return renamed(self, request, make)

    packings.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_cache.PackedFile, "matrix", lacking)
        assert load(path) == want
    assert packings


def test_a_checkpoint_that_changed_is_packed_again(path: Path) -> None:
    old = load(path)
    before = path.stat()
    other = tiny_bitnet.write_gguf(
        path.with_name("o.gguf"), dataclasses.replace(SHAPE, seed=5), "TQ2_0"
    )
    want = load(other, keep_packed=False)
    assert other.stat().st_size == before.st_size
    os.replace(other, path)
    assert load(path) == want != old


def test_a_checkpoint_changed_behind_the_clock_s_back_is_packed_again(path: Path) -> None:
    """Same size and same time, as a copy that keeps times may leave it: the samples tell."""
    load(path)
    before = path.stat()
    other = tiny_bitnet.write_gguf(
        path.with_name("o.gguf"), dataclasses.replace(SHAPE, seed=5), "TQ2_0"
    )
    want = load(other, keep_packed=False)
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(path) == want


def test_a_moved_model_takes_its_file_along(
    path: Path, tmp_path: Path, packings: list[str]
) -> None:
    want = load(path)
    moved = path.parent.rename(tmp_path / "moved")
    packings.clear()
    assert load(moved / path.name) == want
    assert not packings


def test_where_nothing_can_be_written_the_user_s_cache_is_used(
    path: Path, packings: list[str], monkeypatch: pytest.MonkeyPatch, isolated_home: Path
) -> None:
    def writer(place: Path, key: dict[str, Any]) -> PackedWriter:
        if place.parent == path.parent:
            raise PermissionError(13, "Permission denied")
        return PackedWriter(place, key)

    monkeypatch.setattr(packed_cache, "PackedWriter", writer)
    want = load(path)
    kept = kept_files(path)
    assert [file.parent for file in kept] == [isolated_home / "cache" / "packed"]
    assert kept[0].name.startswith("m.gguf-")
    packings.clear()
    assert load(path) == want
    assert not packings


def test_where_nothing_can_be_written_at_all_it_is_packed_in_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = load(path, keep_packed=False)

    def refuse(*_: object) -> PackedWriter:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(packed_cache, "PackedWriter", refuse)
    assert load(path) == want
    assert not kept_files(path)


def test_a_nearly_full_disk_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = load(path, keep_packed=False)
    usage = shutil.disk_usage(path.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=200 << 20))
    assert load(path) == want
    assert not kept_files(path)


def test_a_folder_in_the_file_s_place_does_not_matter(path: Path) -> None:
    want = load(path, keep_packed=False)
    place = path.with_name("m.gguf.rzpack")
    place.mkdir()
    assert load(path) == want
    assert [one.name for one in path.parent.iterdir() if one.is_file()] == ["m.gguf"]


def test_settings_that_are_wrong_do_not_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RYZANSTEIN_THREADS", "many")
    want = load(path)
    assert load(path) == want


def test_a_damaged_checkpoint_leaves_no_file(path: Path) -> None:
    content = bytearray(path.read_bytes())
    name = b"blk.1.ffn_down.weight"
    assert name in content
    content[-66 * 100 :] = b"\xff" * 66 * 100  # codes of 3, and scales that are no numbers
    path.write_bytes(content)
    with pytest.raises(ModelLoadError):
        load(path)
    assert [one.name for one in path.parent.iterdir()] == ["m.gguf"]


def test_several_at_once_get_the_same_model(path: Path) -> None:
    want = load(path, keep_packed=False)
    with ThreadPoolExecutor(4) as pool:
        assert all(one == want for one in pool.map(load, [path] * 4))
    assert [one.name for one in sorted(path.parent.iterdir())] == ["m.gguf", "m.gguf.rzpack"]


def test_a_loaded_model_survives_that_its_files_go(path: Path) -> None:
    want = load(path)[0]
    with load_model(path, threads=2) as model:
        shutil.rmtree(path.parent)
        assert logits(model).tolist() == want


_INTERRUPTED = """
import os, signal, sys
from ryzanstein.inference import load_model, packed_cache
from ryzanstein.inference.models import weights
packed_cache.KEPT_FROM = 0
whole, count = weights.pack_ternary, 0
def pack_ternary(*arguments):
    global count
    count += 1
    if count == 5:
        os.kill(os.getpid(), int(sys.argv[2]))
    return whole(*arguments)
weights.pack_ternary = pack_ternary
load_model(sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_load_leaves_no_file_that_is_used(path: Path, number: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _INTERRUPTED, str(path), str(int(number))],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == -number
    assert not kept_files(path)
    left = [one.name for one in path.parent.iterdir() if one != path]
    assert not left or number == signal.SIGKILL
    want = load(path, keep_packed=False)
    assert load(path) == want == load(path)


def test_logits_do_not_depend_on_the_instruction_set_that_packed(path: Path) -> None:
    """Packed forms have one layout, whatever the CPU: a folder on a shared disk is used by all."""
    want = np.array(load(path)[0], np.float32)
    environment = os.environ | {"RYZANSTEIN_ISA": "portable"}
    code = (
        "import sys; from ryzanstein.inference import load_model, packed_cache\n"
        "from ryzanstein.inference.models import weights\n"
        "packed_cache.KEPT_FROM = 0; weights.pack = weights.pack_ternary = None\n"
        "m = load_model(sys.argv[1], 1)\n"
        f"print(m.forward({TOKENS}, m.new_state(), all_logits=True).tolist())"
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path)],
        capture_output=True,
        timeout=120,
        check=True,
        env=environment,
        text=True,
    )
    np.testing.assert_allclose(np.array(json.loads(ended.stdout)), want, atol=1e-3)
