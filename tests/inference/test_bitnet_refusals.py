"""BitNet checkpoints that are damaged or ask for what nobody computes: an error by name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize, dequantize_bytes
from ryzanstein.inference.formats.raw import RawTensor, stored_bytes
from tests.inference import tiny, tiny_bitnet
from tests.inference.test_formats import damage_header, refusal

BITNET = tiny.Shape("bitnet", hidden=64, inner=96, tied=True)
LLAMA = tiny.Shape("llama", hidden=64, inner=96)
WIDE = tiny.Shape("bitnet", hidden=256, inner=512, tied=True)
WIDE_LLAMA = tiny.Shape("llama", hidden=256, inner=512)
SMALL = tiny.Shape("bitnet", hidden=32, heads=2, kv_heads=1, inner=32, vocab=16, layers=1)
SMALL_WIDE = tiny.Shape("bitnet", hidden=128, kv_heads=1, inner=128, vocab=16, layers=1)
Q = "model.layers.1.self_attn.q_proj"
DOWN = "model.layers.0.mlp.down_proj"


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
    tiny_bitnet.requantise(path, changes)
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
    tiny_bitnet.rewrite(path, changes)
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
    tiny_bitnet.rewrite(path, {"quantization_config": None})
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
    tiny_bitnet.with_scale(path, "blk.1.attn_q.scale", value)
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
    tiny_bitnet.with_scale(path, name, 1.0, count)
    assert said in refusal(path)


def test_a_llama_has_no_scales_and_no_sub_norms(tmp_path: Path) -> None:
    path = tiny_bitnet.write_gguf(tmp_path / "m.gguf", WIDE_LLAMA, "TQ2_0", "llama")
    tiny_bitnet.with_scale(path, "blk.1.attn_q.scale", 1.0)
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
