from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ryzanstein.errors import ModelLoadError
from ryzanstein.inference.formats.checkpoint import Checkpoint, open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.formats.layouts import hf_layout
from ryzanstein.inference.formats.layouts.layout import UnsupportedModel, check_shapes
from ryzanstein.inference.formats.layouts.rwkv import pth_version
from ryzanstein.inference.formats.raw import RawTensor
from tests.inference import rwkv_containers as containers
from tests.inference.models.rwkv_package import module
from tests.inference.rwkv_containers import blinkdl, canonical, write_gguf, write_hub, write_pth

VERSIONS = ["4", "5", "5.1", "5.2", "6", "7"]


def assert_holds(checkpoint: Checkpoint, expected: containers.Tensors) -> None:
    assert sorted(checkpoint.names()) == sorted(expected)
    for name, values in expected.items():
        found = dequantize(checkpoint.tensor(name))
        assert found.shape == values.shape, name
        assert np.array_equal(found, values), name
        checkpoint.release(name)
        assert np.array_equal(dequantize(checkpoint.tensor(name)), values), name


def refusal(path: Path) -> str:
    with pytest.raises(ModelLoadError) as error:
        open_checkpoint(path)
    assert "\n" not in error.value.message
    return error.value.message


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pth_file_tells_its_version_and_gives_canonical_tensors(
    version: str, tmp_path: Path
) -> None:
    stored = blinkdl(version)
    checkpoint = open_checkpoint(write_pth(tmp_path / "m.pth", stored))
    assert_holds(checkpoint, canonical(stored))
    config = checkpoint.config
    assert (config["model_type"], config["rwkv_version"]) == (f"rwkv{version[0]}", version)
    assert (config["hidden_size"], config["vocab_size"], config["num_hidden_layers"]) == (32, 40, 3)
    assert (config["intermediate_size"], config["norm_eps"]) == (56, 1e-5)
    heads = (1, 32) if version == "4" else (2, 16)
    assert (config["num_heads"], config["head_dim"]) == heads
    assert config["eos_token_id"] == 0
    assert not config["tie_word_embeddings"]
    assert config["max_position_embeddings"] == 1 << 20


@pytest.mark.parametrize("version", VERSIONS[:-1])
def test_the_version_is_what_the_rwkv_package_finds(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for switch in ("RWKV_JIT_ON", "RWKV_CUDA_ON"):
        monkeypatch.setenv(switch, "0")
    path = write_pth(tmp_path / "m.pth", blinkdl(version))
    package = module(seven=False).RWKV(str(path), "cpu fp32", verbose=False)
    config = open_checkpoint(path).config
    assert float(config["rwkv_version"]) == package.version
    assert config["num_hidden_layers"] == package.args.n_layer
    assert config["intermediate_size"] == package.args.n_ffn
    if version != "4":
        assert config["num_heads"] == package.args.n_head


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_of_a_pth_file_are_what_torch_makes_of_them(dtype: str, tmp_path: Path) -> None:
    stored = blinkdl("7")
    path = write_pth(tmp_path / "m.pth", stored, dtype)
    rounded = {n: torch.from_numpy(v).to(getattr(torch, dtype)).float() for n, v in stored.items()}
    expected = canonical({name: values.numpy() for name, values in rounded.items()})
    assert_holds(open_checkpoint(path), expected)


def test_a_directory_with_one_pth_file_is_that_file(tmp_path: Path) -> None:
    write_pth(tmp_path / "m.pth", blinkdl("4"))
    assert open_checkpoint(tmp_path).path == tmp_path / "m.pth"
    write_pth(tmp_path / "n.pt", blinkdl("4"))
    assert "several models" in refusal(tmp_path)


def test_old_fives_hold_the_logarithm_of_the_bonus(tmp_path: Path) -> None:
    stored = blinkdl("5")
    old = {name.replace("time_faaaa", "time_first"): values for name, values in stored.items()}
    expected = {
        name: np.exp(values) if "time_faaaa" in name else values
        for name, values in canonical(stored).items()
    }
    assert_holds(open_checkpoint(write_pth(tmp_path / "m.pth", old)), expected)


def test_unused_tensors_of_the_first_block_are_dropped(tmp_path: Path) -> None:
    stored = blinkdl("7")
    extra = {f"blocks.0.att.v{i}": stored[f"blocks.1.att.v{i}"] for i in range(3)}
    assert_holds(open_checkpoint(write_pth(tmp_path / "m.pth", stored | extra)), canonical(stored))


def test_a_model_of_one_block_has_no_value_residual(tmp_path: Path) -> None:
    stored = blinkdl("7", layers=1)
    assert_holds(open_checkpoint(write_pth(tmp_path / "m.pth", stored)), canonical(stored))


@pytest.mark.parametrize("fused", [False, True])
def test_fla_directories_hold_the_same_model(fused: bool, tmp_path: Path) -> None:
    stored = blinkdl("7")
    hub = open_checkpoint(write_hub(tmp_path / "hub", stored, fused=fused))
    assert_holds(hub, canonical(stored))
    file = open_checkpoint(write_pth(tmp_path / "m.pth", stored))
    # fla scales the epsilon of a head's norm with the head; BlinkDL's is made for heads of 64.
    assert hub.config.pop("group_norm_eps") == pytest.approx(16e-5)
    assert file.config.pop("group_norm_eps") == pytest.approx(64e-5)
    assert (hub.config.pop("bos_token_id"), file.config.pop("bos_token_id")) == (1, None)
    assert hub.config == file.config


def test_the_shipped_model_opens_as_a_seventh() -> None:
    import ryzanstein.inference.tiny as shipped

    checkpoint = open_checkpoint(Path(shipped.__file__).parent / "rwkv7")
    assert checkpoint.config["model_type"] == "rwkv7"
    assert checkpoint.config["decay_rank"] == 16
    assert checkpoint.tensor("blocks.2.att.v1").shape == (16, 192)


def test_what_transformers_saves_of_a_fourth_is_read(tmp_path: Path) -> None:
    from transformers import RwkvConfig, RwkvForCausalLM

    torch.manual_seed(0)
    config = RwkvConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, attention_hidden_size=48,
        intermediate_size=56, bos_token_id=3, eos_token_id=5,
    )  # fmt: skip
    model = RwkvForCausalLM(config)
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config["model_type"] == "rwkv4"
    assert checkpoint.config["attention_hidden_size"] == 48
    assert (checkpoint.config["bos_token_id"], checkpoint.config["eos_token_id"]) == (3, 5)
    block = model.rwkv.blocks[1]
    for name, parameter in {
        "emb.weight": model.rwkv.embeddings.weight,
        "head.weight": model.head.weight,
        "blocks.0.ln0.bias": model.rwkv.blocks[0].pre_ln.bias,
        "blocks.1.att.time_mix_r": block.attention.time_mix_receptance,
        "blocks.1.att.time_decay": block.attention.time_decay,
        "blocks.1.att.output.weight": block.attention.output.weight,
        "blocks.1.ffn.time_mix_k": block.feed_forward.time_mix_key,
        "blocks.1.ffn.value.weight": block.feed_forward.value.weight,
    }.items():
        expected = parameter.detach().float().squeeze().numpy()
        assert np.array_equal(dequantize(checkpoint.tensor(name)), expected), name


@pytest.mark.parametrize(("version", "kind"), [("4", "rwkv"), ("5.2", "rwkv5"), ("6", "rwkv6")])
def test_directories_in_transformers_names_hold_the_same_model(
    version: str, kind: str, tmp_path: Path
) -> None:
    stored = blinkdl(version)
    checkpoint = open_checkpoint(write_hub(tmp_path / "hub", stored, model_type=kind))
    assert_holds(checkpoint, canonical(stored))
    assert checkpoint.config["rwkv_version"] == version


@pytest.mark.parametrize("version", ["6", "7"])
def test_gguf_files_hold_the_same_model(version: str, tmp_path: Path) -> None:
    stored = blinkdl(version)
    file = open_checkpoint(write_gguf(tmp_path / "m.gguf", stored))
    assert_holds(file, canonical(stored))
    pth = open_checkpoint(write_pth(tmp_path / "m.pth", stored))
    ignored = {"norm_eps", "rescale_every", "bos_token_id", "eos_token_id"}
    assert all(file.config[key] == pth.config[key] for key in pth.config.keys() - ignored)
    assert file.config["norm_eps"] == pytest.approx(1e-5)


def test_halved_matrices_of_a_gguf_file_are_whole_again(tmp_path: Path) -> None:
    stored = blinkdl("6", layers=5)
    path = write_gguf(tmp_path / "m.gguf", stored, rescale=2)
    assert_holds(open_checkpoint(path), canonical(stored))


def test_absurd_numbers_of_blocks_and_halvings_are_refused(tmp_path: Path) -> None:
    stored = blinkdl("6") | {"blocks.99999999.att.output.weight": np.zeros((32, 32), np.float32)}
    assert refusal(write_gguf(tmp_path / "m.gguf", stored, rescale=1))


def test_large_matrices_of_a_gguf_file_stay_as_they_are_stored(tmp_path: Path) -> None:
    stored = blinkdl("7", inner=64)
    checkpoint = open_checkpoint(write_gguf(tmp_path / "m.gguf", stored, "Q8_0"))
    for part in ("emb.weight", "blocks.1.att.key.weight", "blocks.1.ffn.key.weight"):
        assert checkpoint.tensor(part).dtype == "Q8_0"
        assert np.allclose(dequantize(checkpoint.tensor(part)), stored[part], atol=0.05)


@pytest.mark.parametrize("arch", ["rwkv6qwen2", "arwkv7"])
def test_hybrids_with_a_transformer_are_refused_by_name(arch: str, tmp_path: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", arch)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert repr(arch) in refusal(tmp_path / "m.gguf")


def contents(stored: containers.Tensors) -> list[str]:
    """Names of the canonical tensors, as a .pth with these would give them; without the file."""
    raw = {
        name: RawTensor(name, "F32", values.shape, values.reshape(-1).view(np.uint8))
        for name, values in stored.items()
    }
    layout = hf_layout(pth_version(raw), "m.pth")
    config, tensors = layout.from_hf({}, raw, "m.pth")
    check_shapes(layout, config, tensors, "m.pth")
    return list(tensors)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_tensor_is_needed_and_has_one_shape(version: str) -> None:
    stored = blinkdl(version, layers=2)
    assert contents(stored) == list(canonical(stored))
    for name, values in canonical(stored).items():
        less = {other: values for other, values in stored.items() if other != name}
        with pytest.raises((ModelLoadError, UnsupportedModel)):
            contents(less)
        if values.ndim < 3:
            wider = np.concatenate([stored[name], stored[name][:1]])
            with pytest.raises(ModelLoadError):
                contents(stored | {name: wider})


ODD: list[tuple[int, ...]] = [
    (), (0,), (3,), (0, 32), (32, 0), (1, 1, 1), (2, 3, 4), (1, 2, 3, 4, 5)
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_odd_shapes_are_refused_and_never_crash(version: str) -> None:
    stored = blinkdl(version, layers=2)
    for name in stored:
        for shape in ODD:
            with pytest.raises((ModelLoadError, UnsupportedModel)):
                contents(stored | {name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("blocks.0.ffn.s_emb.weight", "blocks.0.ffn.s_emb.weight"),
        ("blocks.999999999.ln1.weight", "claims 1000000000 layers"),
        ("blocks.3.ln1.weight", "blocks.3.ln1"),
        ("blocks.1.att.w1.weight", "twice"),
        ("adapter", "adapter"),
    ],
)
def test_tensors_that_do_not_belong_are_refused(extra: str, said: str, tmp_path: Path) -> None:
    stored = blinkdl("7") | {extra: np.zeros((32, 32), np.float32)}
    assert said in refusal(write_pth(tmp_path / "m.pth", stored))


def test_a_pth_file_of_another_family_is_refused(tmp_path: Path) -> None:
    path = write_pth(tmp_path / "m.pth", {"model.embed_tokens.weight": np.zeros((2, 2), "f4")})
    assert "no other .pth" in refusal(path)


def test_a_pickle_that_would_run_code_opens_nothing(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "ran"), "w")

    torch.save({"emb.weight": Payload()}, tmp_path / "m.pth")
    assert "nothing was run" in refusal(tmp_path / "m.pth")
    assert not (tmp_path / "ran").exists()


def test_an_empty_pth_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pth").touch()
    assert "empty" in refusal(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attn": {"layers": [1]}}, "attention"),
        ({"hidden_act": "silu"}, "silu"),
        ({"num_hidden_layers": 4}, "incomplete"),
        ({"num_hidden_layers": 1 << 30}, "claims"),
        ({"hidden_size": 64}, "64"),
        ({"vocab_size": 41}, "41"),
        ({"head_dim": 8}, "heads"),
        ({"norm_eps": 0.0}, "epsilon"),
        ({"norm_eps": "small"}, "epsilon"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"tie_word_embeddings": True, "attn": 1}, "attention"),
        ({"model_type": "rwkv6"}, "time_maa"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refusal(write_hub(tmp_path / "hub", blinkdl("7"), **settings))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"token_shift_count": 1}, "shifts"),
        ({"block_count": 4}, "incomplete"),
        ({"head_size": 48}, "heads"),
        ({"head_size": 10}, "heads"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    metadata: dict[str, int], said: str, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", blinkdl("7"), **metadata)
    assert said in refusal(path)


def test_a_tied_directory_needs_no_output_matrix(tmp_path: Path) -> None:
    stored = blinkdl("4")
    del stored["head.weight"]
    assert "head.weight" in refusal(write_hub(tmp_path / "untied", stored))
    path = write_hub(tmp_path / "tied", stored, tie_word_embeddings=True)
    assert open_checkpoint(path).config["tie_word_embeddings"]
    assert json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"] == "rwkv"
