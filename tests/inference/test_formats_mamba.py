"""Mamba checkpoints: what directories and GGUF files mean, and what of them is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.layouts import GGUF, HF, gguf_layout, hf_layout
from ryzanstein.inference.formats.layouts.layout import UnsupportedModel
from ryzanstein.inference.formats.raw import RawTensor
from ryzanstein.inference.models.footprint import packed_bytes
from ryzanstein.inference.models.weights import Weights
from tests.inference import tiny_mamba
from tests.inference.test_formats import damage_header, refusal
from tests.inference.tiny_mamba import Shape

SHAPES = [
    Shape(),
    Shape(hidden=24, state=5, kernel=3, rank=7, expand=3, bias=True, conv_bias=False, tied=False),
    Shape("falcon_mamba", kernel=1, rank=1, layers=1, tied=False),
    Shape("mamba2"),
    Shape("mamba2", heads=3, groups=1, hidden=24, state=6, kernel=2, bias=True, tied=False),
    Shape("mamba2", heads=4, groups=4, layers=1, kernel=1, conv_bias=False),
]
NAMES = [f"{shape.family}-{index}" for index, shape in enumerate(SHAPES)]
MIXER = "backbone.layers.0.mixer"


def canonical(shape: Shape) -> tiny_mamba.Weights:
    """What the contents of a checkpoint are to be."""
    out = {}
    for name, array in tiny_mamba.weights(shape).items():
        if name.endswith("A_log"):
            out[name.removesuffix("_log")] = -np.exp(array)
        else:
            out[name] = array[:, 0] if name.endswith("conv1d.weight") else array
    return out


def contents(checkpoint: Checkpoint) -> tiny_mamba.Weights:
    return {name: dequantize(checkpoint.tensor(name)) for name in checkpoint.names()}


def assert_same(found: tiny_mamba.Weights, expected: tiny_mamba.Weights, **tolerance: Any) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        np.testing.assert_allclose(found[name], array, err_msg=name, **tolerance)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_both_containers_give_the_same_tensors_and_configuration(
    shape: Shape, tmp_path: Path
) -> None:
    hub = open_checkpoint(tiny_mamba.write_hf(tmp_path / "hf", shape))
    file = open_checkpoint(tiny_mamba.write_gguf(tmp_path / "m.gguf", shape))
    expected = canonical(shape)
    assert_same(contents(hub), expected, rtol=2e-7)
    assert_same(contents(file), expected, rtol=2e-7)
    assert hub.config["model_type"] == shape.family
    falcon = {"norm_bcdt_eps"} if shape.family == "falcon_mamba" else set()
    for key in hub.config.keys() - {"bos_token_id", "eos_token_id"} - falcon:
        assert file.config[key] == pytest.approx(hub.config[key]), key
    if falcon:
        assert hub.config["norm_bcdt_eps"] == 1e-6
        assert file.config["norm_bcdt_eps"] == file.config["layer_norm_epsilon"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_half_precision_shards_are_joined(family: str, dtype: str, tmp_path: Path) -> None:
    shape = Shape(family, tied=False)
    path = tiny_mamba.write_hf(tmp_path, shape, dtype, max_shard_size="20KB")
    assert (path / "model.safetensors.index.json").exists()
    assert_same(contents(open_checkpoint(path)), canonical(shape), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_gguf_matrices_keep_their_type(family: str, dtype: str, tmp_path: Path) -> None:
    shape = Shape(family, tied=False)
    checkpoint = open_checkpoint(tiny_mamba.write_gguf(tmp_path / "m.gguf", shape, dtype))
    types = {name: checkpoint.tensor(name).dtype for name in checkpoint.names()}
    assert types[f"{MIXER}.in_proj.weight"] == types["lm_head.weight"] == dtype
    assert {types[f"{MIXER}.{name}"] for name in ("A", "D", "conv1d.weight")} == {"F32"}
    assert_same(contents(checkpoint), canonical(shape), atol=0.3)


def renamed(
    change: Callable[[str], str], shape: Shape, tmp_path: Path
) -> tuple[Checkpoint, tiny_mamba.Weights]:
    path = tiny_mamba.write_hf(tmp_path, shape)

    def rename(tensors: tiny_mamba.Weights) -> None:
        for name in list(tensors):
            tensors[change(name)] = tensors.pop(name)

    tiny_mamba.rewrite(path, rename)
    return open_checkpoint(path), canonical(shape)


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace("embeddings", "embedding"),
        lambda name: name.removeprefix("backbone."),
        lambda name: name.removeprefix("backbone.").replace("embeddings", "embedding"),
        lambda name: f"model.{name}",
    ],
    ids=["mamba_ssm", "bare", "bare mamba_ssm", "codestral"],
)
def test_other_names_of_the_same_tensors_are_known(
    change: Callable[[str], str], family: str, tmp_path: Path
) -> None:
    found, expected = renamed(change, Shape(family, tied=False), tmp_path)
    assert_same(contents(found), expected, rtol=2e-7)


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape())
    tiny_mamba.rewrite(
        path, lambda all_: all_.update({"embedding.weight": all_["backbone.embeddings.weight"]})
    )
    assert "twice" in refusal(path)


@pytest.mark.parametrize("family", ["mamba", "falcon_mamba", "mamba2"])
def test_keys_that_a_configuration_leaves_out_are_those_of_transformers(family: str) -> None:
    import transformers

    kinds = {"mamba": "MambaConfig", "falcon_mamba": "FalconMambaConfig", "mamba2": "Mamba2Config"}
    theirs = getattr(transformers, kinds[family])()
    ours = hf_layout(family, "m").hf_config({"model_type": family}, {}, "m")
    ignored = {"max_position_embeddings", "bitnet", "norm_bcdt_eps", "tie_word_embeddings"}
    ignored |= {"intermediate_size"} if family == "mamba2" else set()
    for key in ours.keys() - ignored:
        assert ours[key] == getattr(theirs, key), key
    assert ours["intermediate_size"] == theirs.expand * theirs.hidden_size
    if family == "falcon_mamba":
        assert ours["norm_bcdt_eps"] == theirs.mixer_rms_eps


def test_the_names_and_padded_vocabulary_of_mamba_ssm_are_understood(tmp_path: Path) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape(vocab=104))
    tiny_mamba.reconfigure(
        path,
        {
            "hidden_size": None,
            "num_hidden_layers": None,
            "intermediate_size": None,
            "time_step_rank": None,
            "d_model": 32,
            "n_layer": 2,
            "ssm_cfg": {},
            "rms_norm": True,
            "vocab_size": 97,
            "pad_vocab_size_multiple": 8,
        },
    )
    config = open_checkpoint(path).config
    keys = ("hidden_size", "num_hidden_layers", "intermediate_size", "time_step_rank", "vocab_size")
    assert [config[key] for key in keys] == [32, 2, 64, 2, 104]


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ([0.0, {"__float__": "Infinity"}], (0.0, math.inf)),
        ([0.0, math.inf], (0.0, math.inf)),
        ([0.001, 0.1], (0.001, 0.1)),
    ],
)
def test_limits_of_the_time_step_are_read(
    given: Any, limit: tuple[float, float], tmp_path: Path
) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape("mamba2"))
    tiny_mamba.reconfigure(path, {"time_step_limit": given})
    assert open_checkpoint(path).config["time_step_limit"] == limit


def test_a_tied_model_may_keep_a_copy_of_its_output_matrix(tmp_path: Path) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape(tied=False))
    assert not open_checkpoint(path).config["tie_word_embeddings"]
    tiny_mamba.reconfigure(path, {"tie_word_embeddings": True})
    assert open_checkpoint(path).config["tie_word_embeddings"]
    tiny_mamba.rewrite(
        path, lambda all_: all_.update({"lm_head.weight": np.zeros((4, 32), np.float32)})
    )
    assert "lm_head.weight has the shape" in refusal(path)


@pytest.mark.parametrize("container", ["hf", "gguf"])
def test_tensors_can_be_released_and_read_again(container: str, tmp_path: Path) -> None:
    shape = Shape("mamba", hidden=256)
    write = tiny_mamba.write_hf if container == "hf" else tiny_mamba.write_gguf
    checkpoint = open_checkpoint(write(tmp_path / "m.gguf", shape))
    for name in ("A", "conv1d.weight", "in_proj.weight"):
        before = dequantize(checkpoint.tensor(f"{MIXER}.{name}"))
        checkpoint.release(f"{MIXER}.{name}")
        assert np.array_equal(dequantize(checkpoint.tensor(f"{MIXER}.{name}")), before)
    raw = checkpoint.tensor(f"{MIXER}.A")
    checkpoint.close()
    assert (dequantize(raw) < 0).all()


def test_weights_gives_tensors_of_any_rank_and_says_what_there_is(tmp_path: Path) -> None:
    weights = Weights(open_checkpoint(tiny_mamba.write_hf(tmp_path, Shape())), "float")
    assert weights.array(f"{MIXER}.A", (64, 16)).dtype == np.float32
    assert weights.nbytes == 64 * 16 * 4
    assert weights.has(f"{MIXER}.D")
    assert not weights.has(f"{MIXER}.A_log")
    with pytest.raises(ModelLoadError, match="was expected"):
        weights.array(f"{MIXER}.A", (16, 64))
    with pytest.raises(ModelLoadError, match="no tensor"):
        weights.array("backbone.A", (16, 64))


def test_a_decay_that_overflows_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape())
    tiny_mamba.rewrite(path, lambda all_: all_[f"{MIXER}.A_log"].fill(1e4))
    weights = Weights(open_checkpoint(path), "float")
    with pytest.raises(ModelLoadError, match=r"mixer\.A holds values that are not finite"):
        weights.array(f"{MIXER}.A", (64, 16))


@pytest.mark.parametrize("tied", [True, False])
def test_the_footprint_knows_which_matrix_is_the_output(tied: bool, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tiny_mamba.write_hf(tmp_path, Shape(tied=tied)))
    dense = packed_bytes(checkpoint, "float")
    assert dense - packed_bytes(checkpoint, "float", "int8") == int(100 * 32 * (4 - 1.0625))


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("mamba", {"model_type": "mamba3"}, "'mamba3'"),
        ("mamba", {"model_type": ["mamba"]}, "no architecture"),
        ("mamba", {"model_type": "mamba2"}, "heads of"),
        ("mamba", {"hidden_act": "gelu"}, "'gelu'"),
        ("mamba2", {"hidden_act": ["silu"]}, "['silu']"),
        ("mamba", {"quantization_config": {"quant_method": "gptq"}}, "quantised"),
        ("mamba", {"hidden_size": 64}, "shape"),
        ("mamba", {"hidden_size": 10**12}, "hidden_size = 1000000000000"),
        ("mamba", {"hidden_size": -32}, "hidden_size = -32"),
        ("mamba", {"hidden_size": 32.0}, "hidden_size = 32.0"),
        ("mamba", {"vocab_size": True}, "vocab_size = True"),
        ("mamba", {"vocab_size": 99}, "embeddings.weight has the shape"),
        ("mamba", {"num_hidden_layers": 3}, "no tensor backbone.layers.2"),
        ("mamba", {"num_hidden_layers": 1}, "no use for"),
        ("mamba", {"num_hidden_layers": 2**30}, "claims 1073741824 layers"),
        ("mamba", {"state_size": 2**30}, "x_proj.weight has the shape"),
        ("mamba", {"state_size": 0}, "state_size = 0"),
        ("mamba", {"conv_kernel": "4"}, "conv_kernel = '4'"),
        ("mamba", {"conv_kernel": 5}, "conv1d.weight has the shape"),
        ("mamba", {"time_step_rank": "many"}, "time_step_rank = 'many'"),
        ("mamba", {"time_step_rank": 5}, "x_proj.weight has the shape"),
        ("mamba", {"intermediate_size": 96}, "in_proj.weight has the shape"),
        ("mamba", {"intermediate_size": {}}, "intermediate_size = {}"),
        ("mamba", {"intermediate_size": None, "expand": -2}, "expand = -2"),
        ("mamba", {"intermediate_size": None, "expand": 1e300}, "expand = 1e+300"),
        ("mamba", {"intermediate_size": None, "expand": 1e-9}, "intermediate_size = 0"),
        ("mamba", {"layer_norm_epsilon": 0}, "layer_norm_epsilon"),
        ("mamba", {"layer_norm_epsilon": math.nan}, "layer_norm_epsilon"),
        ("falcon_mamba", {"mixer_rms_eps": "small"}, "mixer_rms_eps"),
        ("mamba", {"use_bias": "no"}, "use_bias = 'no'"),
        ("mamba", {"use_bias": True}, "no tensor backbone.layers.0.mixer.in_proj.bias"),
        ("mamba", {"use_conv_bias": False}, "conv1d.bias, which the engine has no use for"),
        ("mamba", {"tie_word_embeddings": 1}, "tie_word_embeddings"),
        ("mamba2", {"num_heads": 7}, "7 heads of 8 do not make up 64"),
        ("mamba2", {"head_dim": 2**31}, "head_dim"),
        ("mamba2", {"n_groups": 3}, "8 heads do not divide among 3 groups"),
        ("mamba2", {"n_groups": 4}, "shape"),
        ("mamba2", {"time_step_limit": [1]}, "time_step_limit"),
        ("mamba2", {"time_step_limit": [0.1, 0.1]}, "time_step_limit"),
        ("mamba2", {"time_step_limit": [0.0, math.nan]}, "time_step_limit"),
        ("mamba2", {"time_step_limit": {"__float__": "Infinity"}}, "time_step_limit"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_by_its_key(
    family: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape(family))
    tiny_mamba.reconfigure(path, changes)
    assert said in refusal(path)


def drop(name: str) -> Callable[[tiny_mamba.Weights], Any]:
    return lambda tensors: tensors.pop(name)


def put(name: str, *shape: int, dtype: str = "float32") -> Callable[[tiny_mamba.Weights], Any]:
    return lambda tensors: tensors.update({name: np.ones(shape, dtype)})


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("mamba", drop(f"{MIXER}.A_log"), f"no tensor {MIXER}.A."),
        ("mamba", drop(f"{MIXER}.dt_proj.bias"), "no tensor"),
        ("mamba", drop("backbone.layers.1.norm.weight"), "no tensor backbone.layers.1.norm"),
        ("mamba", drop("backbone.embeddings.weight"), "no tensor backbone.embeddings"),
        ("mamba2", drop(f"{MIXER}.norm.weight"), "no tensor"),
        ("mamba", put(f"{MIXER}.A_log", 16, 64), f"{MIXER}.A has the shape (16, 64)"),
        ("mamba", put(f"{MIXER}.A_log", 1024), f"{MIXER}.A has the shape (1024,)"),
        ("mamba", put(f"{MIXER}.A_log"), f"{MIXER}.A has the shape ()"),
        ("mamba", put(f"{MIXER}.A_log", 0), f"{MIXER}.A has the shape (0,)"),
        ("mamba", put(f"{MIXER}.conv1d.weight", 4, 1, 64), "has the shape (4, 1, 64)"),
        ("mamba", put(f"{MIXER}.conv1d.weight", 64, 2, 2), "has the shape (64, 2, 2)"),
        ("mamba", put(f"{MIXER}.in_proj.weight", 32, 128), "has the shape (32, 128)"),
        ("mamba2", put(f"{MIXER}.A_log", 64, 16), f"{MIXER}.A has the shape (64, 16)"),
        ("mamba2", put(f"{MIXER}.D", 64), f"{MIXER}.D has the shape (64,)"),
        ("mamba2", put(f"{MIXER}.norm.weight", 4, 16), "norm.weight has the shape (4, 16)"),
        ("mamba", put(f"{MIXER}.D", 64, dtype="uint8"), f"{MIXER}.D has type 'U8'"),
        ("mamba", put(f"{MIXER}.D", 64, dtype="int64"), "type 'I64'"),
        ("mamba", put(f"{MIXER}.in_proj.weight", 128, 32, dtype="int8"), "type 'I8'"),
        ("mamba", put(f"{MIXER}.dt_norm.weight", 2), "dt_norm.weight, which the engine has no use"),
        ("mamba", put("backbone.layers.-1.norm.weight", 2), "no use for"),
    ],
)
def test_tensors_that_are_missing_or_foreign_are_refused_by_name(
    family: str, change: Callable[[tiny_mamba.Weights], Any], said: str, tmp_path: Path
) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape(family))
    tiny_mamba.rewrite(path, change)
    assert said in refusal(path)


D_ = f"{MIXER}.D"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h[D_].update(data_offsets=h["backbone.norm_f.weight"]["data_offsets"]), "fit"),
        (lambda h: h[D_].update(data_offsets=_inside(h)), "overlap"),
        (lambda h: h[D_].update(data_offsets=[2**50, 2**50 + 256]), "past its end"),
        (lambda h: h[D_].update(data_offsets=[-256, 0]), "makes no sense"),
        (lambda h: h[D_].update(dtype="F64"), "type 'F64'"),
    ],
)
def test_tensors_that_overlap_or_lie_outside_are_refused(
    change: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    path = tiny_mamba.write_hf(tmp_path, Shape())
    damage_header(path / "model.safetensors", change)
    assert said in refusal(path)


def _inside(header: dict[str, Any]) -> list[int]:
    begin, _ = header["backbone.embeddings.weight"]["data_offsets"]
    return [begin + 64, begin + 64 + 256]


@pytest.mark.parametrize(
    ("family", "metadata", "said"),
    [
        ("mamba", {"embedding_length": None}, "no mamba.embedding_length"),
        ("mamba", {"ssm__inner_size": None}, "no mamba.ssm.inner_size"),
        ("mamba", {"ssm__state_size": 0}, "no sensible whole number"),
        ("mamba", {"ssm__state_size": 2**30}, "shape"),
        ("mamba", {"ssm__conv_kernel": "four"}, "no sensible whole number"),
        ("mamba", {"ssm__conv_kernel": [4, 4]}, "is a list"),
        ("mamba", {"ssm__time_step_rank": 9}, "shape"),
        ("mamba", {"ssm__dt_b_c_rms": "maybe"}, "ssm.dt_b_c_rms"),
        ("mamba", {"block_count": 3}, "no tensor backbone.layers.2"),
        ("mamba", {"block_count": 1}, "no use for"),
        ("mamba", {"block_count": 2**30}, "claims 1073741824 layers"),
        ("mamba", {"vocab_size": None}, "no mamba.vocab_size"),
        ("mamba", {"attention__layer_norm_rms_epsilon": -1.0}, "no sensible number"),
        ("mamba2", {"ssm__group_count": None}, "no mamba2.ssm.group_count"),
        ("mamba2", {"ssm__group_count": 3}, "do not divide among 3 groups"),
        ("mamba2", {"ssm__time_step_rank": 7}, "do not divide among 7 heads"),
        ("mamba2", {"ssm__inner_size": 128}, "shape"),
    ],
)
def test_gguf_metadata_that_makes_no_sense_is_refused(
    family: str, metadata: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refusal(tiny_mamba.write_gguf(tmp_path / "m.gguf", Shape(family), **metadata))


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("mamba", drop("blk.0.ssm_a"), f"no tensor {MIXER}.A"),
        ("mamba", drop("token_embd.weight"), "no tensor backbone.embeddings"),
        ("mamba", drop("blk.1.ssm_conv1d.weight"), "no tensor"),
        ("mamba", put("blk.0.ssm_a", 64), f"{MIXER}.A has the shape (64,)"),
        ("mamba", put("blk.0.ssm_a", 64, 17), f"{MIXER}.A has the shape (64, 17)"),
        ("mamba", put("blk.0.ssm_norm.weight", 64), "tensor blk.0.ssm_norm.weight"),
        ("mamba", put("blk.0.ssm_dt_norm.weight", 2), "tensor blk.0.ssm_dt_norm.weight"),
        ("mamba2", put("blk.0.ssm_x.weight", 4, 64), "tensor blk.0.ssm_x.weight"),
        ("mamba2", put("blk.0.ssm_a", 64, 16), f"{MIXER}.A has the shape (64, 16)"),
        ("mamba2", put("blk.0.ssm_norm.weight", 8, 8), "norm.weight has the shape (8, 8)"),
        ("mamba", put("blk.0.attn_q.weight", 32, 32), "tensor blk.0.attn_q.weight"),
        ("mamba", put("blk.00.ssm_d", 64), "twice"),
    ],
)
def test_gguf_tensors_that_are_missing_or_foreign_are_refused(
    family: str, change: Callable[[tiny_mamba.Weights], Any], said: str, tmp_path: Path
) -> None:
    tensors = tiny_mamba.gguf_tensors(Shape(family))
    change(tensors)
    path = tiny_mamba.write_gguf_tensors(tmp_path / "m.gguf", Shape(family), tensors)
    assert said in refusal(path)


@pytest.mark.parametrize("offset", ["overlap", "outside"])
def test_a_gguf_tensor_that_overlaps_or_lies_outside_is_refused(
    offset: str, tmp_path: Path
) -> None:
    path = tiny_mamba.write_gguf(tmp_path / "m.gguf", Shape())
    content = bytearray(path.read_bytes())
    # name, u32 dims, u64 length, u32 type, u64 offset
    at = content.index(b"blk.1.ssm_d") + len("blk.1.ssm_d") + 4 + 8 + 4
    moved = 0 if offset == "overlap" else 1 << 40
    content[at : at + 8] = moved.to_bytes(8, "little")
    path.write_bytes(content)
    assert {"overlap": "overlap", "outside": "ends at byte"}[offset] in refusal(path)


def test_bitnets_type_is_no_type_of_a_mambas_weights() -> None:
    raw = RawTensor("blk.0.ssm_in.weight", "I2_S", (128, 128), np.zeros(4096, np.uint8))
    with pytest.raises(UnsupportedModel, match=r"ssm_in\.weight has type I2_S"):
        gguf_layout("mamba", "m").from_gguf({}, {raw.name: raw}, "m")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_of_a_header_never_raise_anything_else(
    data: st.DataObject, tmp_path: Path
) -> None:
    family = data.draw(st.sampled_from(["mamba", "mamba2"]))
    source = tmp_path / f"{family}.gguf"
    if not source.exists():
        tiny_mamba.write_gguf(source, Shape(family, layers=1, tied=False))
    content = bytearray(source.read_bytes())
    end = content.index(b"blk.0.ssm_out.weight") + 64
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.gguf"
    path.write_bytes(content)
    try:
        checkpoint = open_checkpoint(path)
    except ModelLoadError as error:
        assert "\n" not in str(error)
    else:
        contents(checkpoint)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_of_a_key_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "hf"
    if not path.exists():
        tiny_mamba.write_hf(path, Shape("mamba2", layers=1))
    keys = sorted(json.loads((path / "config.json").read_text(encoding="utf-8")))
    values = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.lists(st.floats(), max_size=3),
        st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    )
    before = (path / "config.json").read_text(encoding="utf-8")
    tiny_mamba.reconfigure(path, {data.draw(st.sampled_from(keys)): data.draw(values)})
    try:
        open_checkpoint(path)
    except ModelLoadError as error:
        assert "\n" not in str(error)
    finally:
        (path / "config.json").write_text(before, encoding="utf-8")


def test_every_layout_can_be_imported_and_names_its_output() -> None:
    for layout in [*(hf_layout(name, "m") for name in HF), *(gguf_layout(n, "m") for n in GGUF)]:
        assert layout.embedding != layout.head
