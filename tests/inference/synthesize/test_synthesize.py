"""Whole checkpoints, read by this engine's readers and by those of others."""

from __future__ import annotations

import errno
import json
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from ryzanstein.errors import StorageError, ValidationError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.synthesize import SHAPES, synthesize
from ryzanstein.inference.synthesize import output as output_module
from ryzanstein.inference.tokenizer import load_tokenizer

SIZES: dict[str, Any] = {"hidden": 256, "layers": 2, "heads": 4, "kv_heads": 2, "inner": 512}
PACKED = replace(SHAPES["bitnet-2b-4t"], name="packed", vocab=1200, context=256, **SIZES)
MASTER = replace(SHAPES["bitnet-large"], name="master", vocab=1500, context=256, **SIZES)
TEXT = "Nobody counted the 31 days; the ice — 人工 — was gray.\n\tSo it is."


def test_the_shapes_are_those_of_the_published_models() -> None:
    found = [shape for shape in SHAPES.values() if shape.family == "bitnet"]
    assert {one.name: round(sum(t.size for t in one.tensors()) / 1e6) for one in found} == {
        "bitnet-2b-4t": 2413,
        "bitnet-large": 729,
        "bitnet-350m": 341,
    }
    config = SHAPES["bitnet-2b-4t"].config()
    assert config["quantization_config"]["linear_class"] == "autobitlinear"
    assert (config["hidden_act"], config["num_key_value_heads"]) == ("relu2", 5)


def test_a_packed_folder_is_what_microsoft_publishes(tmp_path: Path) -> None:
    made = synthesize(PACKED, tmp_path / "hf")
    assert (made.body, made.head, made.format) == ("b158", "bf16", "hf")
    raw = (tmp_path / "hf" / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    query = header["model.layers.1.self_attn.q_proj.weight"]
    assert (query["dtype"], query["shape"]) == ("U8", [64, 256])
    scale = header["model.layers.1.self_attn.q_proj.weight_scale"]
    assert (scale["dtype"], scale["shape"]) == ("BF16", [1])
    assert header["model.embed_tokens.weight"]["dtype"] == "BF16"
    assert "model.layers.0.mlp.ffn_sub_norm.weight" in header and "lm_head.weight" not in header


def test_a_master_folder_is_what_1bitllm_publishes(tmp_path: Path) -> None:
    synthesize(MASTER, tmp_path / "hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert tensors["model.layers.0.self_attn.inner_attn_ln.weight"].shape == (256,)
    down = tensors["model.layers.1.mlp.down_proj.weight"].astype(np.float32)
    assert len(np.unique(np.clip(np.rint(down / np.abs(down).mean()), -1, 1))) == 3


@pytest.mark.parametrize("format", ["gguf-tq2_0", "gguf-tq1_0"])
@pytest.mark.parametrize("head", ["q8_0", "q6_k", "q4_0", "f16", "bf16", "f32"])
def test_the_gguf_package_reads_every_combination(tmp_path: Path, format: str, head: str) -> None:
    path = tmp_path / "m.gguf"
    made = synthesize(PACKED, path, format=format, head=head)
    reader = gguf.GGUFReader(path)
    kinds = {one.name: one.tensor_type.name.lower() for one in reader.tensors}
    assert kinds["token_embd.weight"] == made.head == head
    assert kinds["blk.1.ffn_down.weight"] == made.body == format.removeprefix("gguf-")
    assert kinds["blk.1.ffn_sub_norm.weight"] == "f32"
    assert sum(one.n_bytes for one in reader.tensors) == made.bytes
    assert made.bytes < path.stat().st_size


@pytest.mark.parametrize("shape", [PACKED, MASTER], ids=lambda shape: shape.name)
def test_one_seed_is_one_model_in_every_format(tmp_path: Path, shape: Any) -> None:
    paths = {
        name: synthesize(shape, tmp_path / file, format=name, seed=3).path
        for name, file in (("gguf-tq2_0", "a.gguf"), ("gguf-tq1_0", "b.gguf"))
    }
    one, two = (
        {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
        for reader in map(gguf.GGUFReader, paths.values())
    )
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


def test_the_engine_reads_the_same_weights_from_every_format(tmp_path: Path) -> None:
    read = []
    for format, file in (("hf", "hf"), ("gguf-tq2_0", "a.gguf"), ("gguf-i2_s", "b.gguf")):
        synthesize(PACKED, tmp_path / file, format=format)
        with closing(open_checkpoint(tmp_path / file)) as checkpoint:
            assert checkpoint.config["hidden_act"] == "relu2"
            layers = [name for name in checkpoint.names() if "_proj" in name]
            read.append({name: dequantize(checkpoint.tensor(name)).copy() for name in layers})
    assert len(read[0]) == 14
    for name, values in read[0].items():
        assert len(np.unique(values)) == 3
        for other in read[1:]:
            np.testing.assert_array_equal(other[name], values, err_msg=name)


@pytest.mark.parametrize("shape", [PACKED, MASTER], ids=lambda shape: shape.name)
@pytest.mark.parametrize("format", ["hf", "gguf-tq2_0", "gguf-i2_s"])
def test_the_engine_opens_it_and_its_tokenizer_gives_text_back(
    tmp_path: Path, shape: Any, format: str
) -> None:
    out = tmp_path / ("hf" if format == "hf" else "m.gguf")
    synthesize(shape, out, format=format)
    with closing(open_checkpoint(out)) as checkpoint:
        tokenizer = load_tokenizer(checkpoint)
        assert tokenizer.vocab_size == shape.vocab
        assert tokenizer.bos_id is not None and tokenizer.end_ids and tokenizer.chat_template
        ids = tokenizer.encode(TEXT)
        assert tokenizer.decode(ids) == TEXT
        assert len(ids) < len(TEXT.encode())
        assert checkpoint.config["bitnet"] is not None


def test_both_containers_hold_the_same_tokenizer(tmp_path: Path) -> None:
    for shape in (PACKED, MASTER):
        synthesize(shape, tmp_path / shape.name)
        file = tmp_path / f"{shape.name}.gguf"
        synthesize(shape, file, format="gguf-tq2_0")
        hub = Tokenizer.from_file(str(tmp_path / shape.name / "tokenizer.json"))
        with closing(open_checkpoint(file)) as checkpoint:
            ours = load_tokenizer(checkpoint)
            assert hub.encode(TEXT, add_special_tokens=True).ids == [
                ours.bos_id,
                *ours.encode(TEXT),
            ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": "bitnet-2b"}, "no shape 'bitnet-2b'. Did you mean bitnet-2b-4t"),
        ({"format": "gguf"}, "no format 'gguf'. Did you mean gguf-"),
        ({"format": "gguf-tq2_0", "head": "q8"}, "no head 'q8'. Did you mean q8_0"),
        ({"format": "gguf-tq2_0"}, "name ends in .gguf"),
        ({"head": "q8_0"}, "are bf16, not q8_0"),
        ({"out": "x.gguf"}, "looks like a file"),
        ({"seed": -1}, "negative"),
        ({"shape": replace(PACKED, inner=320), "out": "x.gguf", "format": "gguf-tq2_0"}, "320 is"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    given = {"shape": PACKED, "out": "x"} | arguments
    shape, out = given.pop("shape"), tmp_path / given.pop("out")
    with pytest.raises(ValidationError) as caught:
        synthesize(shape, out, **given)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_when_asked_and_only_a_checkpoint(tmp_path: Path) -> None:
    file, folder, other = tmp_path / "m.gguf", tmp_path / "hf", tmp_path / "home"
    file.write_bytes(b"old")
    with pytest.raises(ValidationError, match=r"exists already.*--force"):
        synthesize(PACKED, file, format="gguf-tq2_0")
    assert file.read_bytes() == b"old"
    synthesize(PACKED, file, format="gguf-tq2_0", force=True)
    assert file.stat().st_size > 100_000
    synthesize(PACKED, folder)
    synthesize(PACKED, folder, force=True, seed=1)
    other.mkdir()
    (other / "diary.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(ValidationError, match=r"diary\.txt"):
        synthesize(PACKED, other, force=True)
    (tmp_path / "diary").write_text("dear", encoding="utf-8")
    with pytest.raises(ValidationError, match="no folder"):
        synthesize(PACKED, tmp_path / "diary", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["diary", "hf", "home", "m.gguf"]


class _Stop(BaseException):
    pass


@pytest.mark.parametrize(("format", "out"), [("hf", "hf"), ("gguf-tq1_0", "m.gguf")])
def test_nothing_is_left_of_a_writing_that_ends_early(
    tmp_path: Path, format: str, out: str
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise _Stop

    with pytest.raises(_Stop):
        synthesize(PACKED, tmp_path / "new" / out, format=format, report=stop)
    assert not list((tmp_path / "new").iterdir())


def test_a_full_disk_is_said_before_and_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(done: int, total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="the disk is full"):
        synthesize(PACKED, tmp_path / "a.gguf", format="gguf-tq2_0", report=fail)
    monkeypatch.setattr(output_module, "_MARGIN", 1 << 60)
    with pytest.raises(StorageError, match="MB free"):
        synthesize(PACKED, tmp_path / "b.gguf", format="gguf-tq2_0")
    assert not list(tmp_path.iterdir())


def test_progress_ends_at_the_bytes_of_all_tensors(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = synthesize(PACKED, tmp_path / "hf", report=lambda *both: seen.append(both))
    assert seen[-1] == (made.bytes, made.bytes)
    assert all(a[0] < b[0] for a, b in pairwise(seen))


@pytest.mark.skipif(
    find_spec("llama_cpp") is None,
    reason="llama-cpp-python has no wheel and takes minutes to compile; install the `peer` extra",
)
def test_llama_cpp_runs_it_and_writes_more_than_one_token(tmp_path: Path) -> None:
    import llama_cpp

    for format in ("gguf-tq2_0", "gguf-tq1_0"):
        path = synthesize(PACKED, tmp_path / f"{format}.gguf", format=format).path
        model = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, verbose=False)
        ids = model.tokenize(TEXT.encode(), add_bos=True)
        assert model.detokenize(ids).decode() == TEXT
        made = model.create_completion("The ice", max_tokens=12, temperature=0)
        assert len(set(made["choices"][0]["text"].split())) > 1
        model.close()
