"""BitNet b1.58 as it is distributed: Hugging Face directories and GGUF, whole and damaged."""

from __future__ import annotations

import json
import mmap
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
from ryzanstein.inference.formats.bitnet import Quantization
from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize, dequantize_bytes
from ryzanstein.inference.formats.gguf_header import read_header
from ryzanstein.inference.formats.raw import RawTensor, stored_bytes
from tests.inference import tiny, tiny_bitnet
from tests.inference.test_formats import damage_header, refusal

BITNET = tiny.Shape("bitnet", hidden=64, inner=96, tied=True)
LLAMA = tiny.Shape("llama", hidden=64, inner=96)
WIDE = tiny.Shape("bitnet", hidden=256, inner=512, tied=True)
SMALL = tiny.Shape("bitnet", hidden=32, heads=2, kv_heads=1, inner=32, vocab=16, layers=1)
SMALL_WIDE = tiny.Shape("bitnet", hidden=128, kv_heads=1, inner=128, vocab=16, layers=1)
WIDE_LLAMA = tiny.Shape("llama", hidden=256, inner=512)
Q = "model.layers.1.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"


def ternary(shape: tiny.Shape) -> tiny.Weights:
    """The dense matrices that linear layers stand for."""
    scales = tiny_bitnet.scales(shape)
    return {
        name: array * np.float32(scales[name]) for name, array in tiny_bitnet.trits(shape).items()
    }


def holds(checkpoint: Checkpoint, wanted: tiny.Weights) -> bool:
    assert sorted(checkpoint.names()) == sorted(wanted)
    return all(
        np.array_equal(dequantize(checkpoint.tensor(name)), array) for name, array in wanted.items()
    )


@pytest.mark.parametrize("shape", [BITNET, LLAMA], ids=["bitnet", "llama"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize(
    ("stored", "raw"),
    [("packed", "B158"), ("bitlinear", "B158"), ("int8", "I8"), ("floats", None)],
)
def test_offline_layers_are_their_trits_times_their_scale(
    shape: tiny.Shape, dtype: str, stored: str, raw: str | None, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(tiny_bitnet.write_hub(tmp_path, shape, stored, dtype))
    tensor = checkpoint.tensor(f"{Q}.weight")
    assert tensor.dtype == (raw or dtype)
    assert tensor.scale == tiny_bitnet.scales(shape)[tensor.name]
    wanted = tiny_bitnet.others(shape) | ternary(shape)
    if dtype == "F32":
        assert holds(checkpoint, wanted)
    assert np.array_equal(dequantize(tensor), wanted[tensor.name])
    assert checkpoint.config["bitnet"] == {
        "weights": "ternary",
        "inner_norm": False,
        "inner_eps": 1e-6,
        "sub_norms": shape.model_type == "bitnet",
        "skip": ["lm_head"],
    }
    activation = "relu2" if shape.model_type == "bitnet" else "silu"
    assert checkpoint.config["hidden_act"] == activation


# Importing torch's compiler warns of something of its own.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_packed_rows_are_those_that_transformers_packs() -> None:
    import torch
    from transformers.integrations.bitnet import pack_weights

    for name, array in tiny_bitnet.trits(BITNET).items():
        packed = pack_weights(torch.tensor(array)).numpy()
        assert np.array_equal(packed, tiny_bitnet.pack(array))
        raw = RawTensor(name, "B158", array.shape, packed.reshape(-1))
        assert np.array_equal(dequantize(raw), array)


def test_master_weights_stay_floats_and_are_to_be_quantised(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_bitnet.write_hub(tmp_path, BITNET, "master"))
    assert checkpoint.config["bitnet"]["weights"] == "absmean"
    assert holds(checkpoint, tiny_bitnet.others(BITNET) | tiny_bitnet.master(BITNET))


@pytest.mark.parametrize("model_type", ["llama", "bitnet"])
def test_1bitllm_is_a_bitnet_with_silu_under_other_names(model_type: str, tmp_path: Path) -> None:
    path = tiny_bitnet.write_hub(tmp_path, BITNET, "1bitllm", "F16")
    rewrite(path, {"model_type": model_type, "hidden_act": None, "rope_theta": None})
    checkpoint = open_checkpoint(path)
    config = checkpoint.config
    assert (config["model_type"], config["hidden_act"]) == ("bitnet", "silu")
    assert config["rope_theta"] == 10000.0
    assert config["bitnet"]["weights"] == "absmean"
    assert config["bitnet"]["sub_norms"] is True
    assert "model.layers.0.self_attn.attn_sub_norm.weight" in checkpoint.names()
    assert "model.layers.0.mlp.ffn_sub_norm.weight" in checkpoint.names()


def test_norms_inside_linear_layers_are_expected_where_the_configuration_says(
    tmp_path: Path,
) -> None:
    path = tiny_bitnet.write_hub(tmp_path, LLAMA, "bitlinear", use_rms_norm=True, rms_norm_eps=3e-6)
    checkpoint = open_checkpoint(path)
    bitnet = checkpoint.config["bitnet"]
    assert (bitnet["inner_norm"], bitnet["inner_eps"]) == (True, 3e-6)
    for name, array in tiny_bitnet.inner_norms(LLAMA).items():
        assert np.array_equal(dequantize(checkpoint.tensor(name)), array)
    requantise(path, {"use_rms_norm": False})
    assert "rms_norm.weight, which the engine has no use for" in refusal(path)


def test_a_bias_is_multiplied_where_transformers_adds_it_first(tmp_path: Path) -> None:
    shape = tiny.Shape("llama", hidden=64, inner=96, bias=True)
    for stored, factor in (("packed", 0.25), ("bitlinear", 1.0)):
        checkpoint = open_checkpoint(tiny_bitnet.write_hub(tmp_path / stored, shape, stored))
        bias = checkpoint.tensor("model.layers.0.self_attn.q_proj.bias")
        assert tiny_bitnet.scales(shape)["model.layers.0.self_attn.q_proj.weight"] == 0.25
        plain = tiny_bitnet.others(shape)[bias.name]
        assert np.array_equal(dequantize(bias), plain * np.float32(factor))


@pytest.mark.parametrize(
    ("modules", "skipped"),
    [
        (None, ["lm_head"]),
        (["lm_head"], ["lm_head"]),
        (["lm_head", DOWN], ["lm_head", DOWN]),
        (["lm_head", "model.layers.0"], "model.layers.0."),
        (["lm_head", "down_proj"], "down_proj"),
        (["lm_head", "model.layers.*.mlp"], ".mlp."),
        (["lm_head", "model.lay"], ["lm_head"]),
    ],
)
def test_layers_that_are_not_converted_stay_dense(
    modules: list[str] | None, skipped: list[str] | str, tmp_path: Path
) -> None:
    linear = sorted(name.removesuffix(".weight") for name in tiny_bitnet.trits(LLAMA))
    if isinstance(skipped, str):
        skipped = ["lm_head", *(name for name in linear if skipped in name)]
    tensors = tiny_bitnet.hub_tensors(LLAMA, "packed")
    for name in skipped:
        if name != "lm_head":
            array = ternary(LLAMA)[f"{name}.weight"]
            tensors[f"{name}.weight"] = "F32", array.shape, array.tobytes()
            del tensors[f"{name}.weight_scale"]
    path = tiny_bitnet.write_hub(tmp_path, LLAMA, "packed", modules_to_not_convert=modules)
    tiny_bitnet.write_stored(path / "model.safetensors", tensors)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config["bitnet"]["skip"] == skipped
    assert holds(checkpoint, tiny_bitnet.others(LLAMA) | ternary(LLAMA))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_skipped_layers_are_those_that_transformers_skips() -> None:
    from transformers.quantizers.quantizers_utils import should_convert_module

    names = [name.removesuffix(".weight") for name in tiny_bitnet.trits(LLAMA)] + ["lm_head"]
    for pattern in ("lm_head", "model.layers.1", "layers.1", "proj", "model.*.up_proj", "mlp", "1"):
        quantization = Quantization(ternary=True, patterns=(pattern,))
        skip = quantization.config([f"{name}.weight" for name in names], sub_norms=False)["skip"]
        assert skip == sorted(name for name in names if not should_convert_module(name, [pattern]))


def test_an_output_matrix_may_be_ternary_where_it_is_not_tied(tmp_path: Path) -> None:
    tensors = tiny_bitnet.hub_tensors(LLAMA, "packed")
    rng = np.random.default_rng(0)
    head = rng.integers(-1, 2, (LLAMA.vocab, LLAMA.hidden)).astype(np.int8)
    packed = tiny_bitnet.pack(head)
    tensors["lm_head.weight"] = "U8", packed.shape, packed.tobytes()
    tensors["lm_head.weight_scale"] = "F32", (), np.float32(0.5).tobytes()
    path = tiny_bitnet.write_hub(tmp_path, LLAMA, "packed", modules_to_not_convert=[])
    tiny_bitnet.write_stored(path / "model.safetensors", tensors)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config["bitnet"]["skip"] == []
    assert np.array_equal(dequantize(checkpoint.tensor("lm_head.weight")), head * 0.5)
    rewrite(path, {"tie_word_embeddings": True})
    assert "does not name lm_head" in refusal(path)


def test_what_config_json_leaves_out_is_as_transformers_has_it(tmp_path: Path) -> None:
    from transformers import BitNetConfig

    shape = tiny.Shape("bitnet", hidden=80, heads=5, kv_heads=5, inner=96)
    path = tiny_bitnet.write_hub(tmp_path, shape, "packed")
    keys = ("hidden_act", "rope_theta", "rope_scaling", "rms_norm_eps", "num_key_value_heads")
    values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in values.items() if key not in keys}
    (path / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    config, wanted = open_checkpoint(path).config, BitNetConfig()
    assert config["rope_theta"] == wanted.default_theta
    for key in ("hidden_act", "rms_norm_eps", "num_key_value_heads", "max_position_embeddings"):
        assert config[key] == getattr(wanted, key) or key in kept, key


# GGUF


@pytest.mark.parametrize("dtype", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("scale", [0.0, 0.375])
def test_ternary_blocks_mean_what_the_gguf_package_says(dtype: str, scale: float) -> None:
    weights = np.random.default_rng(3).integers(-1, 2, (9, 512)).astype(np.float32) * scale
    kind = gguf.GGMLQuantizationType[dtype]
    blocks = gguf.quants.quantize(weights, kind)
    got = dequantize_bytes(dtype, blocks.reshape(-1)).reshape(weights.shape)
    assert np.array_equal(got, gguf.quants.dequantize(blocks, kind))
    assert np.array_equal(got, weights)


@pytest.mark.parametrize(
    ("dtype", "architecture", "activation"),
    [
        ("TQ1_0", "bitnet", "silu"),
        ("TQ2_0", "bitnet", "silu"),
        ("F32", "bitnet", "silu"),
        ("F16", "bitnet", "silu"),
        ("I2_S", "bitnet", "silu"),
        ("I2_S", "bitnet-b1.58", "relu2"),
        ("I2_S", "bitnet-25", "relu2"),
        ("TQ2_0", "llama", "silu"),
        ("I2_S", "llama", "silu"),
    ],
)
def test_a_gguf_file_holds_the_same_weights(
    dtype: str, architecture: str, activation: str, tmp_path: Path
) -> None:
    shape = WIDE_LLAMA if architecture == "llama" else WIDE
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", shape, dtype, architecture)
    checkpoint = open_checkpoint(path)
    wanted = {
        name: tiny.permuted(name, array, shape)
        for name, array in (tiny_bitnet.others(shape) | ternary(shape)).items()
    }
    assert holds(checkpoint, wanted)
    config = checkpoint.config
    assert config["model_type"] == shape.model_type
    assert config["hidden_act"] == activation
    assert config["rope_interleaved"] is (architecture == "llama")
    assert config["bitnet"] == {
        "weights": "ternary",
        "inner_norm": False,
        "inner_eps": pytest.approx(shape.eps),
        "sub_norms": architecture != "llama",
        "skip": ["lm_head"],
    }


def test_llama_without_ternary_layers_is_no_bitnet(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE_LLAMA, "F16", "llama")
    assert open_checkpoint(path).config["bitnet"] is None
    hub = tiny.write_safetensors(tmp_path / "hub", LLAMA)
    assert open_checkpoint(hub).config["bitnet"] is None


def test_a_layer_of_another_type_stays_dense(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "Q8_0")
    skip = open_checkpoint(path).config["bitnet"]["skip"]
    linear = [name.removesuffix(".weight") for name in tiny_bitnet.trits(WIDE)]
    assert skip == ["lm_head", *sorted(linear)]


@pytest.mark.parametrize("name", ["relu2", "silu"])
def test_a_newer_file_names_its_activation(name: str, tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "F16", hidden_activation=name)
    assert open_checkpoint(path).config["hidden_act"] == name


@pytest.mark.parametrize("dtype", ["TQ2_0", "I2_S"])
def test_scales_in_tensors_of_their_own_multiply(dtype: str, tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, dtype)
    plain = dequantize(open_checkpoint(path).tensor(f"{Q}.weight"))
    with_scale(path, "blk.1.attn_q.scale", 0.5)
    checkpoint = open_checkpoint(path)
    assert np.array_equal(dequantize(checkpoint.tensor(f"{Q}.weight")), plain * 0.5)
    assert not [name for name in checkpoint.names() if name.endswith("scale")]


# What is refused


def rewrite(path: Path, changes: dict[str, Any]) -> None:
    """Changes keys of config.json."""
    file = path / "config.json"
    values = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps(values), encoding="utf-8")


def requantise(path: Path, changes: dict[str, Any]) -> None:
    """Changes keys of quantization_config."""
    values = json.loads((path / "config.json").read_text(encoding="utf-8"))
    rewrite(path, {"quantization_config": values["quantization_config"] | changes})


def with_scale(path: Path, name: str, value: float, count: int = 1) -> None:
    """Adds a tensor of `count` floats to the end of a GGUF file and of its table."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        entries = read_header(buffer).tensors.values()
        content = bytes(buffer)
    first = min(entry.start for entry in entries)
    data = content[first : max(entry.end for entry in entries)]
    data += bytes(-len(data) % 32)
    # Each row of the table: name, count of dimensions, dimensions, type, offset.
    begin = content.index(struct.pack("<Q", len("token_embd.weight")) + b"token_embd.weight")
    end = begin + sum(8 + len(entry.name) + 4 + 8 * len(entry.shape) + 12 for entry in entries)
    head = bytearray(content[:end] + struct.pack("<Q", len(name)) + name.encode())
    head += struct.pack("<IQIQ", 1, count, 0, len(data))
    struct.pack_into("<Q", head, 8, len(entries) + 1)
    head += bytes(-len(head) % 32)
    path.write_bytes(bytes(head) + data + np.full(count, value, np.float32).tobytes())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quant_method": "gptq"}, "quantised by 'gptq'"),
        ({"quant_method": None}, "quantised by None"),
        ({"linear_class": "trilinear"}, "linear_class is 'trilinear', none of bitlinear"),
        ({"quantization_mode": "sometimes"}, "quantization_mode is 'sometimes'"),
        ({"linear_class": ["bitlinear"]}, "linear_class is ["),
        ({"use_rms_norm": "yes"}, "use_rms_norm"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"modules_to_not_convert": "lm_head"}, "is no list"),
        ({"modules_to_not_convert": [3]}, "no name of a module"),
        ({"modules_to_not_convert": ["(a+)+$"]}, "no name of a module"),
        ({"modules_to_not_convert": ["*"]}, "no name of a module"),
        ({"modules_to_not_convert": ["a**"]}, "no name of a module"),
        ({"use_rms_norm": True}, "no tensor model.layers.0.self_attn.q_proj.rms_norm.weight"),
        ({"quantization_mode": "online"}, "(quantization_mode offline)"),
        ({"modules_to_not_convert": ["lm_head", "q_proj"]}, "only packed linear layers"),
        ({"modules_to_not_convert": ["up_proj"]}, "does not name lm_head"),
    ],
)
def test_a_quantisation_that_is_not_known_is_refused_by_name(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tiny_bitnet.write_hub(tmp_path, BITNET, "packed")
    requantise(path, changes)
    assert said in refusal(path)


@pytest.mark.parametrize(
    ("stored", "changes", "said"),
    [
        ("packed", {"quantization_config": None}, "has no quantization_config"),
        ("packed", {"quantization_config": {}}, "has no quantization_config"),
        ("packed", {"quantization_config": [1]}, "no JSON object"),
        ("packed", {"hidden_act": "gelu"}, "'gelu'"),
        ("packed", {"num_hidden_layers": 2**30}, "layers"),
        ("packed", {"intermediate_size": 100}, "not 100 x 64 weights packed four rows"),
        ("packed", {"intermediate_size": 98}, "not 98 x 64 weights packed four rows"),
        ("packed", {"hidden_size": 128}, "weights packed four rows to a byte"),
        ("packed", {"model_type": "llama"}, "no use for"),
        ("1bitllm", {"weight_bits": 2}, "weight_bits = 2"),
        ("1bitllm", {"input_bits": 4}, "input_bits = 4"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    stored: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tiny_bitnet.write_hub(tmp_path, BITNET, stored)
    rewrite(path, changes)
    assert said in refusal(path)


def floats(*values: float, dtype: str = "F32") -> tiny_bitnet.Stored:
    array = np.array(values, np.float32)
    return dtype, array.shape, tiny.stored(array, dtype)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (f"{Q}.weight_scale", None, f"no tensor {Q}.weight_scale"),
        (f"{Q}.weight_scale", floats(0.0), "is 0, no scale"),
        (f"{Q}.weight_scale", floats(-0.0), "is -0, no scale"),
        (f"{Q}.weight_scale", floats(-1.0), "is -1, no scale"),
        (f"{Q}.weight_scale", floats(np.nan), "is nan, no scale"),
        (f"{Q}.weight_scale", floats(np.inf), "is inf, no scale"),
        (f"{Q}.weight_scale", floats(np.inf, dtype="F16"), "is inf, no scale"),
        (f"{Q}.weight_scale", floats(1e-38), "no scale"),
        (f"{Q}.weight_scale", floats(1.0, 1.0), "to be one float"),
        (f"{Q}.weight_scale", floats(), "to be one float"),
        (f"{Q}.weight_scale", ("U8", (1,), b"\1"), "to be one float"),
        (f"{Q}.weight", None, "no tensor"),
        (f"{Q}.weight", ("U8", (64, 64), bytes(4096)), "weights packed four rows"),
        (f"{Q}.weight", ("U8", (16, 32), bytes(512)), "weights packed four rows"),
        (f"{Q}.weight", ("U8", (1024,), bytes(1024)), "no matrix"),
        (f"{Q}.weight", ("U8", (), b"\0"), "no matrix"),
        (f"{Q}.weight", ("F32", (16, 64), bytes(4096)), "was expected"),
        (f"{Q}.weight_zero", floats(1.0), "no use for"),
        ("model.norm.weight", ("U8", (64,), bytes(64)), "only packed linear layers"),
        ("model.embed_tokens.weight", ("I8", (320, 64), bytes(20480)), "only packed linear"),
        ("model.layers.0.mlp.ffn_sub_norm.weight", None, "no tensor"),
        ("model.layers.0.mlp.ffn_sub_norm.weight", floats(1.0), "has the shape (1,)"),
        ("model.layers.0.mlp.ffn_layernorm.weight", floats(1.0), "twice"),
        ("model.layers.0.self_attn.attn_sub_norm.weight", None, "no tensor"),
        ("model.layers.0.mlp.up_proj.rms_norm.weight", floats(*[1.0] * 64), "no use for"),
        ("lm_head.weight_scale", floats(1.0), "no use for"),
        (f"{DOWN}.bias", floats(*[1.0] * 64), "no use for"),
    ],
)
def test_a_tensor_that_is_missing_or_senseless_is_refused(
    name: str, value: tiny_bitnet.Stored | None, said: str, tmp_path: Path
) -> None:
    path = tiny_bitnet.write_hub(tmp_path, BITNET, "packed")
    tensors = tiny_bitnet.hub_tensors(BITNET, "packed")
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    tiny_bitnet.write_stored(path / "model.safetensors", tensors)
    assert said in refusal(path)


def test_bitlinear_takes_packed_weights_only(tmp_path: Path) -> None:
    for stored, said in (("floats", "type F32, but linear_class bitlinear"), ("int8", "packed")):
        path = tiny_bitnet.write_hub(tmp_path / stored, LLAMA, stored, linear_class="bitlinear")
        assert said in refusal(path)


def test_a_packed_layer_in_a_plain_llama_is_refused(tmp_path: Path) -> None:
    path = tiny_bitnet.write_hub(tmp_path, LLAMA, "packed")
    rewrite(path, {"quantization_config": None})
    assert "only packed linear layers" in refusal(path)


def test_every_truncation_of_a_packed_directory_is_refused(tmp_path: Path) -> None:
    path = tiny_bitnet.write_hub(tmp_path, BITNET, "packed")
    file = path / "model.safetensors"
    whole = file.read_bytes()
    for cut in range(0, len(whole), len(whole) // 60):
        file.write_bytes(whole[:cut])
        refusal(path)


@pytest.mark.parametrize(
    ("dtype", "change", "said"),
    [
        ("B158", lambda data: data | 3, "ternary code 3"),
        ("TQ2_0", lambda data: data | 3, "ternary code 3"),
        ("I2_S", lambda data: data | 3, "ternary code 3"),
        ("I8", lambda data: data + 5, "ternary code 3"),
        ("TQ1_0", lambda data: np.full_like(data, 20), "five trits do not make"),
    ],
)
def test_codes_that_are_no_trits_are_refused(
    dtype: str, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    shape = (4, 256)
    data = np.zeros(stored_bytes(dtype, shape), np.uint8)
    assert dequantize(RawTensor("t", dtype, shape, data)).shape == shape
    with pytest.raises(ModelLoadError, match=f"The tensor t is damaged.*{said}"):
        dequantize(RawTensor("t", dtype, shape, change(data)))


def test_all_bytes_that_five_trits_make_are_read_and_no_others() -> None:
    made = {-(-number * 256 // 243) for number in range(243)}
    for byte in range(256):
        block = np.zeros(54, np.uint8)
        block[7] = byte
        if byte in made:
            dequantize_bytes("TQ1_0", block)
        else:
            with pytest.raises(ValueError, match="five trits"):
                dequantize_bytes("TQ1_0", block)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, 1e-40])
def test_a_senseless_scale_in_a_gguf_file_is_refused(value: float, tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "F16")
    with_scale(path, "blk.1.attn_q.scale", value)
    assert "no scale of weights" in refusal(path)
    array = tiny_bitnet.trits(WIDE)[f"{Q}.weight"]
    good = tiny_bitnet.i2_s(array, tiny_bitnet.scales(WIDE)[f"{Q}.weight"])
    path = tiny_bitnet.write_gguf(tmp_path / "i2_s.gguf", WIDE, "I2_S")
    path.write_bytes(path.read_bytes().replace(good, tiny_bitnet.i2_s(array, value)))
    assert "blk.1.attn_q.weight has the scale" in refusal(path)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("blk.1.attn_q.scale", 2, "no use for"),
        ("blk.1.attn_norm.scale", 1, "no use for"),
        ("blk.7.attn_q.scale", 1, "no use for"),
        ("blk.1.attn_q.weight_scale", 1, "no use for"),
    ],
)
def test_scales_that_belong_to_nothing_are_refused(
    name: str, count: int, said: str, tmp_path: Path
) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "F16")
    with_scale(path, name, 1.0, count)
    assert said in refusal(path)


def test_a_llama_has_no_scales_and_no_sub_norms(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE_LLAMA, "TQ2_0", "llama")
    with_scale(path, "blk.1.attn_q.scale", 1.0)
    assert "no use for" in refusal(path)
    shape = tiny.Shape("bitnet", hidden=256, inner=512)
    path = tiny_bitnet.write_gguf(tmp_path / "n.gguf", shape, "TQ2_0", "llama")
    assert "sub_norm.weight, which the engine has no use for" in refusal(path)


def test_an_unknown_activation_is_refused(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "F16", hidden_activation="gelu")
    assert "activation is 'gelu'" in refusal(path)


def test_another_type_of_the_number_of_i2_s_is_told_by_its_size(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE_LLAMA, "Q8_0", "llama")
    content = path.read_bytes()
    name = b"blk.1.attn_q.weight"
    at = content.index(name) + len(name) + 4 + 16
    assert struct.unpack_from("<I", content, at) == (8,)
    path.write_bytes(content[:at] + struct.pack("<I", tiny_bitnet.I2_S) + content[at + 4 :])
    assert "it is another type" in refusal(path)


def test_i2_s_is_for_linear_layers_only(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "I2_S", head="Q8_0")
    content = path.read_bytes()
    name = b"token_embd.weight"
    at = content.index(name) + len(name) + 4 + 16
    path.write_bytes(content[:at] + struct.pack("<I", tiny_bitnet.I2_S) + content[at + 4 :])
    assert "type 36" in refusal(path)


def test_columns_that_do_not_fill_blocks_are_refused(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, "I2_S")
    content = path.read_bytes()
    name = b"blk.1.attn_q.weight"
    at = content.index(name) + len(name) + 4
    changed = struct.pack("<QQ", 64, 256)
    path.write_bytes(content[:at] + changed + content[at + 16 :])
    assert "block of 128" in refusal(path)


@pytest.mark.parametrize("dtype", ["TQ1_0", "TQ2_0", "I2_S"])
def test_every_truncation_of_a_ternary_gguf_file_is_refused(dtype: str, tmp_path: Path) -> None:
    whole = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE, dtype).read_bytes()
    path = tmp_path / "cut.gguf"
    for cut in [*range(len(whole) // 2, len(whole), len(whole) // 40), len(whole) - 33]:
        path.write_bytes(whole[:cut])
        refusal(path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.parametrize("container", ["hub", "gguf"])
def test_flipped_bytes_never_raise_anything_else(
    container: str, data: st.DataObject, tmp_path: Path
) -> None:
    file = tmp_path / ("model.safetensors" if container == "hub" else "m.gguf")
    source = tmp_path / "whole"
    if not source.exists():
        if container == "hub":
            tiny_bitnet.write_hub(tmp_path, SMALL, "packed")
        else:
            tiny_bitnet.write_gguf(file, SMALL_WIDE, "I2_S")
        file.rename(source)
    whole = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) // (2 if container == "hub" else 1) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    file.write_bytes(whole)
    try:
        checkpoint = open_checkpoint(tmp_path if container == "hub" else file)
        for name in checkpoint.names():
            dequantize(checkpoint.tensor(name))
    except ModelLoadError as error:
        assert "\n" not in str(error)


def test_a_damaged_header_of_a_packed_directory_is_refused(tmp_path: Path) -> None:
    path = tiny_bitnet.write_hub(tmp_path, BITNET, "packed")
    damage_header(path / "model.safetensors", lambda h: h[f"{Q}.weight"].update(dtype="U16"))
    assert "type 'U16'" in refusal(path)
