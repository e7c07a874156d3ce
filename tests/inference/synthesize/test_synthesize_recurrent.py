"""Synthesised Mamba and RWKV checkpoints, read by this engine's readers and by those of others."""

from __future__ import annotations

import json
import struct
import zipfile
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from ryzanstein.errors import ValidationError
from ryzanstein.inference.formats.checkpoint import open_checkpoint
from ryzanstein.inference.formats.dequantize import dequantize
from ryzanstein.inference.synthesize import FORMATS, SHAPES, synthesize
from ryzanstein.inference.synthesize.formats import head_of, size_of
from ryzanstein.inference.synthesize.mamba import Mamba2Shape
from ryzanstein.inference.synthesize.rwkv import Rwkv7Shape
from ryzanstein.inference.tokenizer import load_tokenizer

SMALL: dict[str, Any] = {"hidden": 256, "layers": 7, "vocab": 2000}
MAMBA = replace(SHAPES["mamba-130m"], name="mamba", **SMALL)
FALCON = replace(SHAPES["falcon-mamba-7b"], name="falcon", **SMALL)
MAMBA2 = replace(SHAPES["mamba2-1.3b"], name="mamba2", **SMALL, state=32, groups=2, width=32)
GOOSE = replace(SHAPES["rwkv7-0.19b"], name="rwkv7", **SMALL, inner=1024)
FINCH = replace(SHAPES["rwkv6-1.6b"], name="rwkv6", **SMALL, inner=896)
EVERY = [MAMBA, FALCON, MAMBA2, GOOSE, FINCH]
TEXT = "Nobody counted the 31 days; the ice — 人工 — was gray.\n\n\tSo it is."


def ids(shape: Any) -> str:
    return str(shape.name)


def test_the_shapes_have_the_parameters_of_the_published_models() -> None:
    found = {one.name: sum(t.size for t in one.tensors()) for one in SHAPES.values()}
    assert found["mamba-130m"] == 129_135_360
    assert found["mamba-790m"] == 793_204_224
    assert found["mamba-1.4b"] == 1_372_178_432
    assert found["mamba-2.8b"] == 2_768_345_600
    assert found["mamba2-1.3b"] == 1_343_757_312
    assert found["falcon-mamba-7b"] == 7_272_665_088
    assert found["rwkv7-0.19b"] == 191_034_624
    assert found["rwkv7-1.5b"] == 1_527_404_544
    assert found["rwkv7-2.9b"] == 2_947_735_040
    assert found["rwkv6-1.6b"] == 1_599_873_024


def test_every_shape_fits_every_format_of_its_family() -> None:
    bits = {"gguf-q4_0": (4.4, 5.5), "gguf-q8_0": (8.4, 9.1), "gguf-f16": (16, 16.5)}
    for shape in SHAPES.values():
        weights = sum(tensor.size for tensor in shape.tensors())
        for format in FORMATS.values():
            if shape.family in format.families:
                size = 8 * size_of(format, shape, head_of(format, shape, None)) / weights
                least, most = bits.get(format.name, (0, 33))
                assert least < size < most, (shape.name, format.name)


@pytest.mark.parametrize("format", ["gguf-f16", "gguf-q8_0", "gguf-q4_0"])
@pytest.mark.parametrize("shape", EVERY, ids=ids)
def test_a_file_has_the_types_that_llama_cpp_would_give_it(
    tmp_path: Path, shape: Any, format: str
) -> None:
    made = synthesize(shape, tmp_path / "m.gguf", format=format)
    reader = gguf.GGUFReader(made.path)
    kinds = {one.name: one.tensor_type.name.lower() for one in reader.tensors}
    assert sum(one.n_bytes for one in reader.tensors) == made.bytes
    body = format.removeprefix("gguf-")
    head = "output.weight" if "output.weight" in kinds else "token_embd.weight"
    assert kinds[head] == made.head == {"q4_0": "q6_k"}.get(body, body)
    half = ("_a1", "_a2", "_v1", "_v2", "_g1", "_g2")
    for name, kind in kinds.items():
        part = name.removesuffix(".weight")
        if part.endswith(half):
            assert kind == "f16", name
        elif part.endswith(("ssm_in", "ssm_x", "ssm_out", "key", "value", "receptance", "gate")):
            assert kind == body, name
        elif name.startswith("blk.") and not part.endswith(("ssm_dt", "time_mix_output")):
            assert kind == "f32", name
    if shape in (MAMBA, FALCON):  # a rank of 16 fills no block
        assert kinds["blk.0.ssm_dt.weight"] == "f16"


@pytest.mark.parametrize("shape", EVERY, ids=ids)
def test_one_seed_is_one_model_in_every_format(tmp_path: Path, shape: Any) -> None:
    files = {"hf": "hf", "gguf-f16": "m.gguf"} | ({"pth": "m.pth"} if shape.pth_tensors() else {})
    read = []
    for format, file in files.items():
        synthesize(shape, tmp_path / file, format=format, seed=3)
        with closing(open_checkpoint(tmp_path / file)) as checkpoint:
            names = [name for name in checkpoint.names() if not _unread(name)]
            read.append({name: dequantize(checkpoint.tensor(name)).copy() for name in names})
    for other in read[1:]:
        assert other.keys() == read[0].keys()
        for name, values in read[0].items():
            np.testing.assert_allclose(other[name], values, rtol=1e-2, atol=1e-5, err_msg=name)


def _unread(name: str) -> bool:
    return name.startswith("blocks.0.att.v") and name[-1] in "012"


@pytest.mark.parametrize("shape", [MAMBA, FALCON, MAMBA2], ids=ids)
def test_transformers_loads_all_of_a_mamba_and_it_says_different_things(
    tmp_path: Path, shape: Any
) -> None:
    synthesize(shape, tmp_path / "hf")
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "hf", output_loading_info=True, dtype=torch.float32
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        logits = model(torch.tensor([[5, 700, 31, 5, 1200]])).logits[0]
    _require_sane(logits.numpy())


def test_the_rwkv_packages_load_all_of_a_goose(tmp_path: Path) -> None:
    from rwkv7_hf import RWKV7Config, RWKV7ForCausalLM

    synthesize(GOOSE, tmp_path / "hf")
    config = RWKV7Config(**json.loads((tmp_path / "hf" / "config.json").read_text("utf-8")))
    model, report = RWKV7ForCausalLM.from_pretrained(
        tmp_path / "hf", config=config, output_loading_info=True, dtype=torch.float32
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        logits = model(torch.tensor([[5, 700, 31, 5, 1200]])).logits[0]
    _require_sane(logits.numpy())


def _require_sane(logits: Any) -> None:
    assert np.isfinite(logits).all()
    assert (logits.std(axis=-1) > 1).all() and (logits.std(axis=-1) < 4).all()
    assert len(set(logits.argmax(axis=-1))) > 1


@pytest.mark.parametrize("shape", [GOOSE, FINCH], ids=ids)
def test_torch_loads_a_pth_as_it_was_meant(tmp_path: Path, shape: Any) -> None:
    made = synthesize(shape, tmp_path / "m.pth", format="pth")
    tensors = torch.load(made.path, weights_only=True, mmap=True)
    assert list(tensors) == [one.name for one in shape.pth_tensors()]
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors["blocks.1.att.key.weight"].shape == (256, 256)
    vector = "blocks.1.att.w0" if isinstance(shape, Rwkv7Shape) else "blocks.1.att.time_maa_x"
    assert tensors[vector].shape == (1, 1, 256)
    assert sum(tensor.nbytes for tensor in tensors.values()) == made.bytes
    raw = made.path.read_bytes()
    with zipfile.ZipFile(made.path) as file:
        assert file.testzip() is None
        for one in file.infolist():
            sizes = struct.unpack_from("<HH", raw, one.header_offset + 26)
            assert (one.header_offset + 30 + sum(sizes)) % 64 == 0, one.filename


@pytest.mark.parametrize("shape", [MAMBA, MAMBA2], ids=ids)
def test_decays_and_time_steps_are_those_of_a_new_mamba(tmp_path: Path, shape: Any) -> None:
    synthesize(shape, tmp_path / "m.gguf", format="gguf-q8_0")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    tensors = {one.name: one.data for one in reader.tensors}
    assert tensors["blk.3.ssm_a"].max() <= -0.999 and tensors["blk.3.ssm_a"].min() >= -16.01
    steps = np.logaddexp(0, tensors["blk.3.ssm_dt.bias"])
    assert steps.min() > 0.0009 and steps.max() < 0.11
    assert 0.003 < np.median(steps) < 0.03
    if isinstance(shape, Mamba2Shape):
        assert tensors["blk.3.ssm_norm.weight"].shape == (2, 256)
        assert tensors["blk.3.ssm_d"].shape == (16, 1)


@pytest.mark.parametrize("format", ["hf", "gguf-q8_0"])
@pytest.mark.parametrize("shape", [MAMBA, GOOSE], ids=ids)
def test_the_engine_opens_it_and_its_tokenizer_gives_text_back(
    tmp_path: Path, shape: Any, format: str
) -> None:
    if shape is GOOSE:  # the reader knows the World's vocabulary by its size
        shape = replace(shape, vocab=65_536, hidden=64, layers=1)
    out = tmp_path / ("hf" if format == "hf" else "m.gguf")
    synthesize(shape, out, format=format)
    with closing(open_checkpoint(out)) as checkpoint:
        tokenizer = load_tokenizer(checkpoint)
        tokens = tokenizer.encode(TEXT)
        assert tokenizer.decode(tokens) == TEXT
        assert len(tokens) < len(TEXT.encode()) and max(tokens) < shape.vocab
        assert tokenizer.end_ids and tokenizer.chat_template


@pytest.mark.parametrize(
    ("shape", "out", "arguments", "message"),
    [
        (MAMBA, "m.pth", {"format": "pth"}, "is not written as pth. Use hf, gguf-f16"),
        (GOOSE, "m.gguf", {"format": "gguf-tq2_0"}, "Use hf, pth, gguf-f16"),
        (GOOSE, "m.gguf", {"format": "pth"}, "ends in .pth"),
        (GOOSE, "m.pth", {"format": "pth", "head": "q8_0"}, "as pth are bf16, not q8_0"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(
    tmp_path: Path, shape: Any, out: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        synthesize(shape, tmp_path / out, **arguments)
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    find_spec("llama_cpp") is None,
    reason="llama-cpp-python has no wheel and takes minutes to compile; install the `peer` extra",
)
@pytest.mark.parametrize("shape", EVERY, ids=ids)
def test_llama_cpp_runs_it_and_its_logits_vary(tmp_path: Path, shape: Any) -> None:
    import llama_cpp

    path = synthesize(shape, tmp_path / "m.gguf", format="gguf-q8_0").path
    model = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, verbose=False, logits_all=True)
    tokens = model.tokenize(TEXT.encode(), add_bos=False)
    assert model.detokenize(tokens).decode() == TEXT
    model.eval(tokens)
    _require_sane(np.array(model.scores[: len(tokens)]))
    model.close()
