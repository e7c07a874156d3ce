"""GGUF files whose weights are given another type."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein.errors import InvalidRequest, ModelLoadError, QuantizationError, StorageError
from ryzanstein.inference import load_model
from ryzanstein.inference.convert import TARGETS, convert
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from tests.inference import tiny, tiny_bitnet

SHAPE = tiny.Shape(hidden=256, inner=512, layers=1, seed=2)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tiny.write_gguf(tmp_path / "plain.gguf", SHAPE, "F32")


def weights(path: Path) -> dict[str, Any]:
    checkpoint = open_checkpoint(path)
    return {name: dequantize(checkpoint.tensor(name)) for name in checkpoint.names()}


@pytest.mark.parametrize(
    ("kind", "most"), [("f16", 5e-4), ("q8_0", 0.01), ("q6_k", 0.03), ("q4_0", 0.12)]
)
def test_weights_are_near_what_they_were(
    plain: Path, tmp_path: Path, kind: str, most: float
) -> None:
    made = convert(plain, tmp_path / "new.gguf", kind)
    old, new = weights(plain), weights(made.path)
    assert list(old) == list(new) and 0 < made.changed < made.tensors == len(old)
    for name, values in old.items():
        lost = np.sqrt(np.square(new[name] - values).sum() / np.square(values).sum())
        assert lost <= most, name
    assert 0 < made.error <= most
    assert made.bytes == made.path.stat().st_size < plain.stat().st_size


def test_metadata_and_tokenizer_stay_and_the_model_runs(plain: Path, tmp_path: Path) -> None:
    made = convert(plain, tmp_path / "new.gguf", "q8_0")
    before, after = (open_checkpoint(path).metadata for path in (plain, made.path))
    assert list(before) == list(after)
    assert after["general.architecture"] == before["general.architecture"]
    with load_model(plain, precision="float") as one, load_model(made.path) as other:
        ids = [1, 2, 3]
        want, found = (model.forward(ids, model.new_state()) for model in (one, other))
        assert np.corrcoef(want.ravel(), found.ravel())[0, 1] > 0.99


def test_the_files_type_is_told_in_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny._write_settings

    def with_type(writer: Any, shape: tiny.Shape) -> None:
        settings(writer, shape)
        writer.add_file_type(0)

    monkeypatch.setattr(tiny, "_write_settings", with_type)
    source = tiny.write_gguf(tmp_path / "a.gguf", SHAPE, "F32")
    found = convert(source, tmp_path / "b.gguf", "q4_0")
    assert open_checkpoint(found.path).metadata["general.file_type"] == TARGETS["q4_0"]


def test_ternary_matrices_change_their_packing_and_lose_nothing(tmp_path: Path) -> None:
    shape = replace(SHAPE, model_type="llama")
    source = tiny_bitnet.write_gguf(tmp_path / "a.gguf", shape, "TQ2_0", "llama")
    made = convert(source, tmp_path / "b.gguf", "tq1_0")
    back = convert(made.path, tmp_path / "c.gguf", "tq2_0")
    first, second, third = map(weights, (source, made.path, back.path))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(np.array_equal(first[name], third[name]) for name in first)
    assert made.error == 0.0 and made.bytes < source.stat().st_size
    with pytest.raises(QuantizationError, match="No matrix"):
        convert(source, tmp_path / "d.gguf", "tq2_0")


def test_it_reports_bytes_and_stops_when_it_is_told_to(plain: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    stop = threading.Event()
    convert(plain, tmp_path / "a.gguf", "q8_0", report=lambda *at: told.append(at))
    assert told == sorted(told) and told[-1][0] == told[-1][1] > 0

    def report(done: int, total: int) -> None:
        stop.set()

    with pytest.raises(QuantizationError, match="cancelled"):
        convert(plain, tmp_path / "b.gguf", "q8_0", report=report, cancel=stop)
    assert {path.name for path in tmp_path.iterdir()} == {"plain.gguf", "a.gguf"}


def test_a_file_that_is_there_is_replaced_only_on_demand(plain: Path, tmp_path: Path) -> None:
    convert(plain, tmp_path / "a.gguf", "f16")
    with pytest.raises(InvalidRequest, match="is there already"):
        convert(plain, tmp_path / "a.gguf", "q8_0")
    assert convert(plain, tmp_path / "a.gguf", "q8_0", force=True).changed > 0


def test_what_cannot_be_converted_is_refused(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.gguf").write_bytes(plain.read_bytes()[:5000])
    (tmp_path / "file").write_bytes(b"x")
    for source, kind, error, text in (
        (plain, "q5_9", InvalidRequest, "is no type"),
        (plain, "tq1_0", QuantizationError, "No matrix of plain.gguf can become tq1_0"),
        (tmp_path / "none.gguf", "f16", ModelLoadError, "There is no model file none.gguf"),
        (tmp_path / "empty", "f16", ModelLoadError, "holds 0 GGUF files"),
        (tmp_path / "damaged.gguf", "f16", ModelLoadError, "damaged.gguf: .*truncated"),
    ):
        with pytest.raises(error, match=text):
            convert(source, tmp_path / "out.gguf", kind)
    with pytest.raises(StorageError, match="cannot be written"):
        convert(plain, tmp_path / "file" / "out.gguf", "f16")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "a.gguf", SHAPE, "F32")
    tensor = open_checkpoint(path).tensor("model.layers.0.mlp.up_proj.weight")
    data = path.read_bytes()
    at = data.index(tensor.data[:64].tobytes())
    path.write_bytes(data[:at] + np.float32("nan").tobytes() + data[at + 4 :])
    with pytest.raises(ModelLoadError, match="no numbers"):
        convert(path, tmp_path / "b.gguf", "q8_0")
    assert not (tmp_path / "b.gguf").exists()


def test_a_block_of_zeros_stays_one(tmp_path: Path) -> None:
    from ryzanstein.inference.formats.dequantize import dequantize_bytes
    from ryzanstein.inference.synthesize.blocks import DENSE, encode_dense

    for kind in DENSE:
        data = encode_dense(np.zeros((1, 256), np.float32), kind)
        assert not dequantize_bytes(kind, data).any()
