"""BitNet b1.58 as it is distributed: Hugging Face directories and GGUF, read as they are meant."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from ryzanstein.inference.formats.bitnet import Quantization
from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize, dequantize_bytes
from ryzanstein.inference.formats.raw import RawTensor
from tests.inference import tiny, tiny_bitnet
from tests.inference.test_formats import refusal

BITNET = tiny.Shape("bitnet", hidden=64, inner=96, tied=True)
LLAMA = tiny.Shape("llama", hidden=64, inner=96)
WIDE = tiny.Shape("bitnet", hidden=256, inner=512, tied=True)
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
    tiny_bitnet.rewrite(path, {"model_type": model_type, "hidden_act": None, "rope_theta": None})
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
    tiny_bitnet.requantise(path, {"use_rms_norm": False})
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
    tiny_bitnet.rewrite(path, {"tie_word_embeddings": True})
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
    tiny_bitnet.with_scale(path, "blk.1.attn_q.scale", 0.5)
    checkpoint = open_checkpoint(path)
    assert np.array_equal(dequantize(checkpoint.tensor(f"{Q}.weight")), plain * 0.5)
    assert not [name for name in checkpoint.names() if name.endswith("scale")]
