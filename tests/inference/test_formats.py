from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize, dequantize_bytes
from ryzanstein.inference.formats.raw import BLOCKS
from tests.inference import tiny

SHAPES = [
    tiny.Shape(),
    tiny.Shape(tied=True, bias=True, head_dim=24, vocab=97, inner=96),
    tiny.Shape("qwen2", hidden=96, heads=6, kv_heads=2, layers=3, tied=True),
]


def random_blocks(dtype: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random blocks whose float16 fields are ordinary numbers."""
    size = BLOCKS[dtype][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    halves = {"Q6_K": [208]}.get(
        dtype, [0, 2] if dtype in {"Q4_1", "Q5_1", "Q4_K", "Q5_K"} else [0]
    )
    for at in halves:
        scale = rng.normal(size=count).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8).reshape(count, 2)
    return blocks


@pytest.mark.parametrize("dtype", [name for name in BLOCKS if name.startswith("Q")])
def test_quantised_blocks_mean_what_the_gguf_package_says(dtype: str) -> None:
    blocks = random_blocks(dtype, 97, np.random.default_rng(1))
    expected = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[dtype])
    assert np.array_equal(dequantize_bytes(dtype, blocks.reshape(-1)), expected.reshape(-1))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_plain_floats_keep_their_value(dtype: str) -> None:
    values = np.random.default_rng(2).normal(size=64).astype(np.float32)
    got = dequantize_bytes(dtype, np.frombuffer(tiny.stored(values, dtype), np.uint8))
    assert np.allclose(got, values, rtol={"F32": 0, "F16": 1e-3, "BF16": 4e-3}[dtype], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.model_type)
def test_both_containers_give_the_same_names_shapes_and_configuration(
    shape: tiny.Shape, tmp_path: Path
) -> None:
    hub = open_checkpoint(tiny.write_safetensors(tmp_path / "hub", shape))
    file = open_checkpoint(tiny.write_gguf(tmp_path / "m.gguf", shape))
    assert sorted(hub.names()) == sorted(file.names()) == sorted(tiny.weights(shape))
    assert file.config.pop("rope_interleaved") is (shape.model_type == "llama")
    assert hub.config.pop("rope_interleaved") is False
    ignored = {"bos_token_id", "eos_token_id", "max_position_embeddings"}
    for key in file.config.keys() - ignored:
        assert file.config[key] == pytest.approx(hub.config[key]), key
    for name, array in tiny.weights(shape).items():
        assert np.array_equal(dequantize(hub.tensor(name)), array)
        assert np.array_equal(dequantize(file.tensor(name)), tiny.permuted(name, array, shape))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_shards_are_joined_through_the_index(dtype: str, tmp_path: Path) -> None:
    path = tiny.write_safetensors(tmp_path, SHAPES[0], dtype, shards=3)
    checkpoint = open_checkpoint(path)
    for name, array in tiny.weights(SHAPES[0]).items():
        raw = checkpoint.tensor(name)
        assert (raw.dtype, raw.shape) == (dtype, array.shape)
        assert np.allclose(dequantize(raw), array, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_gguf_tensors_come_back_as_they_were_quantised(dtype: str, tmp_path: Path) -> None:
    shape = tiny.Shape("qwen2")
    checkpoint = open_checkpoint(tiny.write_gguf(tmp_path / "m.gguf", shape, dtype))
    raw = checkpoint.tensor("model.layers.1.mlp.up_proj.weight")
    array = tiny.weights(shape)[raw.name]
    assert raw.dtype == dtype
    assert np.abs(dequantize(raw) - array).max() < 0.15 * np.abs(array).max()


@pytest.mark.parametrize("container", ["gguf", "shards"])
def test_a_released_tensor_can_still_be_read(container: str, tmp_path: Path) -> None:
    shape = tiny.Shape(inner=1024)
    if container == "gguf":
        checkpoint = open_checkpoint(tiny.write_gguf(tmp_path / "m.gguf", shape))
    else:
        checkpoint = open_checkpoint(tiny.write_safetensors(tmp_path, shape, shards=2))
    raw = checkpoint.tensor("model.layers.0.mlp.up_proj.weight")
    before = raw.data.copy()
    checkpoint.release(raw.name)
    assert np.array_equal(raw.data, before)
    checkpoint.close()
    assert np.array_equal(raw.data, before)


def test_rope_scaling_is_translated(tmp_path: Path) -> None:
    scaled = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
    file = tiny.write_gguf(tmp_path / "m.gguf", SHAPES[0], **scaled)
    assert open_checkpoint(file).config["rope_scaling"] == {"rope_type": "yarn", "factor": 4.0}
    shape = tiny.Shape(rope_scaling={"type": "linear", "factor": 2.0})
    hub = tiny.write_safetensors(tmp_path / "hub", shape)
    assert open_checkpoint(hub).config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"expert_count": 8}, "llama.expert_count"),
        ({"attention__sliding_window": 128}, "sliding_window"),
        ({"rope__scaling__type": "longrope"}, "'longrope'"),
        ({"rope__dimension_count": 8}, "only a part of each head"),
        ({"logit_scale": 0.5}, "logit_scale"),
    ],
)
def test_an_option_nobody_computes_is_refused_by_name(
    metadata: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tiny.write_gguf(tmp_path / "m.gguf", SHAPES[0], **metadata)
    assert said in refusal(file)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "gpt_neox"}, "'gpt_neox'"),
        ({"model_type": "lama"}, "Did you mean llama"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": 128}, "shape"),
        ({"num_hidden_layers": 9}, "no tensor"),
        ({"num_hidden_layers": 1}, "no use for"),
        ({"num_hidden_layers": 2**30}, "layers"),
        ({"num_key_value_heads": 3}, "cannot share"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"use_sliding_window": True}, "sliding-window"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"rope_theta": -1}, "rope_theta"),
        ({"rope_scaling": "linear"}, "no JSON object"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tiny.write_safetensors(tmp_path, SHAPES[0])
    values = tiny.config(SHAPES[0]) | changes
    (path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    assert said in refusal(path)


def refusal(path: Path) -> str:
    """The one line that opening the file is refused with."""
    with pytest.raises(ModelLoadError) as caught:
        open_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def text(value: str) -> bytes:
    return u64(len(value)) + value.encode()


def entry(dims: bytes = u32(1) + u64(32), kind: int = 0, offset: int = 0, name: str = "t") -> bytes:
    return text(name) + dims + u32(kind) + u64(offset)


HEAD = b"GGUF" + u32(3)
ARCHITECTURE = text("general.architecture") + u32(8) + text("llama")

HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "wrong magic": (b"GGML" + bytes(64), "not a GGUF file"),
    "old version": (b"GGUF" + u32(1) + bytes(64), "version 1"),
    "absurd version": (b"GGUF" + u32(77) + bytes(64), "version 77"),
    "big endian": (b"GGUF" + struct.pack(">I", 3) + bytes(64), "big-endian"),
    "cut in the header": (HEAD + u64(1), "truncated"),
    "absurd tensors": (HEAD + u64(2**60, 0), "claims"),
    "absurd entries": (HEAD + u64(0, 2**60), "claims"),
    "absurd key": (HEAD + u64(0, 1) + u64(2**62), "damaged"),
    "absurd string": (HEAD + u64(0, 1) + text("a.b") + u32(8) + u64(2**62), "truncated"),
    "absurd array": (HEAD + u64(0, 1) + text("a.b") + u32(9, 4) + u64(2**61), "truncated"),
    "absurd strings": (HEAD + u64(0, 1) + text("a.b") + u32(9, 8) + u64(2**40), "truncated"),
    "string past the end": (
        HEAD + u64(0, 1) + text("a.b") + u32(9, 8) + u64(2, 1) + b"x" + u64(99, 0, 0),
        "truncated",
    ),
    "nested array": (
        HEAD + u64(0, 1) + text("a.b") + u32(9, 9) + u64(1) + bytes(64),
        "unsupported",
    ),
    "unknown value type": (HEAD + u64(0, 1) + text("a.b") + u32(99) + bytes(64), "unknown value"),
    "key twice": (HEAD + u64(0, 2) + 2 * (text("a.b") + u32(4, 1)), "twice"),
    "bad alignment": (HEAD + u64(0, 1) + text("general.alignment") + u32(4, 33), "alignment"),
    "no architecture": (HEAD + u64(0, 0), "no architecture"),
    "unknown architecture": (
        HEAD + u64(0, 1) + text("general.architecture") + u32(8) + text("gpt2"),
        "'gpt2'",
    ),
    "no dimensions": (HEAD + u64(1, 0) + entry(u32(0)), "0 dimensions"),
    "many dimensions": (HEAD + u64(1, 0) + entry(u32(2**31)), "dimensions"),
    "absurd dimensions": (HEAD + u64(1, 0) + entry(u32(2) + u64(2**63, 2**63)), "absurd shape"),
    "zero dimension": (HEAD + u64(1, 0) + entry(u32(2) + u64(32, 0)), "absurd shape"),
    "unsupported type": (HEAD + u64(1, 0) + entry(kind=16) + bytes(64), "IQ2_XXS"),
    "unknown type": (HEAD + u64(1, 0) + entry(kind=999) + bytes(64), "number 999"),
    "half a block": (HEAD + u64(1, 0) + entry(u32(1) + u64(33), kind=2) + bytes(64), "block of 32"),
    "past the end": (HEAD + u64(1, 0) + entry(offset=2**40) + bytes(256), "ends at byte"),
    "offset overflow": (HEAD + u64(1, 0) + entry(offset=2**64 - 32) + bytes(256), "ends at byte"),
    "unaligned": (HEAD + u64(1, 0) + entry(offset=7) + bytes(256), "multiple of 32"),
    "overlap": (HEAD + u64(2, 0) + entry() + entry(name="u", offset=64) + bytes(512), "overlap"),
    "name twice": (HEAD + u64(2, 0) + entry() + entry(offset=128) + bytes(512), "occurs twice"),
    "foreign tensor": (HEAD + u64(1, 1) + ARCHITECTURE + entry() + bytes(256), "tensor t"),
    "no settings": (HEAD + u64(0, 1) + ARCHITECTURE, "its metadata has no llama."),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_gguf_file_is_refused_in_one_clear_line(case: str, tmp_path: Path) -> None:
    content, said = HOSTILE[case]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    assert said in refusal(path)


def test_a_missing_file_a_directory_and_a_lone_shard_are_refused(tmp_path: Path) -> None:
    assert "no model file" in refusal(tmp_path / "none.gguf")
    assert "config.json" in refusal(tmp_path)
    shard = tmp_path / "model.safetensors"
    shard.write_bytes(b"")
    assert "Give the directory" in refusal(shard)


def test_a_pipe_or_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "m.gguf"
    os.mkfifo(pipe)
    assert "no regular file" in refusal(pipe)
    assert "no regular file" in refusal(Path("/dev/zero"))


def test_every_truncation_of_a_gguf_file_is_refused(tmp_path: Path) -> None:
    whole = tiny.write_gguf(tmp_path / "m.gguf", SHAPES[0]).read_bytes()
    path = tmp_path / "cut.gguf"
    for cut in [*range(0, 200, 7), *range(200, len(whole), len(whole) // 50), len(whole) - 64]:
        path.write_bytes(whole[:cut])
        refusal(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_never_raise_anything_else(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "flipped.gguf"
    whole = bytearray(_small_gguf(tmp_path))
    header_end = whole.index(b"blk.1.ffn_down.weight") + 64
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header_end))
        whole[at] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        open_checkpoint(path)
    except ModelLoadError as error:
        assert "\n" not in str(error)


def _small_gguf(tmp_path: Path) -> bytes:
    path = tmp_path / "small.gguf"
    if not path.exists():
        tiny.write_gguf(path, tiny.Shape(vocab=64))
    return path.read_bytes()


def damage_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrites the JSON header of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h[NORM].update(dtype="I64"), "type 'I64'"),
        (lambda h: h[NORM].update(shape=[2**40, 2**40]), "does not fit its shape"),
        (lambda h: h[NORM].update(shape=[-1]), "makes no sense"),
        (lambda h: h[NORM].update(shape=["64"]), "makes no sense"),
        (lambda h: h[NORM].update(data_offsets=[0]), "makes no sense"),
        (lambda h: h[NORM].update(data_offsets=[2**40, 2**40 + 256]), "past its end"),
        (lambda h: h.update({NORM: 7}), "makes no sense"),
        (lambda h: h.pop(NORM), f"no tensor {NORM}"),
    ],
)
def test_a_damaged_safetensors_header_is_refused(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    path = tiny.write_safetensors(tmp_path, SHAPES[0])
    damage_header(path / "model.safetensors", change)
    assert said in refusal(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"abc", "truncated"),
        (u64(2**60) + b"{}", "truncated"),
        (u64(4) + b"nope", "not JSON"),
        (u64(2) + b"[]", "no JSON object"),
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tiny.write_safetensors(tmp_path, SHAPES[0])
    (path / "model.safetensors").write_bytes(content)
    assert said in refusal(path)


def test_a_missing_shard_and_a_broken_index_are_refused(tmp_path: Path) -> None:
    path = tiny.write_safetensors(tmp_path, SHAPES[0], shards=2)
    shard = path / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    shard.unlink()
    assert shard.name in refusal(path)
    shard.write_bytes(content)
    index = path / "model.safetensors.index.json"
    mapping = json.loads(index.read_text(encoding="utf-8"))
    mapping["weight_map"]["model.norm.extra"] = shard.name
    index.write_text(json.dumps(mapping), encoding="utf-8")
    assert "model.norm.extra" in refusal(path)
    index.write_text('{"weight_map": {"a": "../../etc/passwd"}}', encoding="utf-8")
    assert "no plain file name" in refusal(path)
    index.write_text("{", encoding="utf-8")
    assert "not valid JSON" in refusal(path)
    index.unlink()
    assert "neither" in refusal(path)
